"""A run that a program of its own makes: ``with fb.run("tune") as run:``, without a pipeline around it."""

import atexit
import json
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flyball.core.clock import Clock
from flyball.core.durations import format_duration, to_us
from flyball.core.errors import ConflictError, InvalidInputError
from flyball.domain.tracking.artifacts import check_name
from flyball.domain.tracking.environment import EnvironmentProbe
from flyball.domain.tracking.logging import logging_to
from flyball.domain.tracking.processes import this_process
from flyball.domain.tracking.records import Described, Finished, Kept, Params, Point, Started, Tags
from flyball.domain.tracking.runs import RunStatus
from flyball.domain.tracking.shipping import Destination, Shipper
from flyball.domain.tracking.spool import Spool

_FINISH_TIMEOUT = timedelta(seconds=30)


class LiveRun:
    """An open run: takes what a program logs, and never makes it wait for a server or a database.

    Each call appends one record to a spool on disk, which takes microseconds; a thread sends the records in batches.
    A server that restarts, or is away, is waited for; a program that is killed leaves its spool, which is sent by the
    next run of the same home or by ``flyball up``, each record once and in order.

    Attributes:
        id: The run's id.
        name: What a person calls it.
        experiment: What it belongs to.
    """

    def __init__(
        self,
        run_id: str,
        spool_root: Path,
        destination: Destination,
        clock: Clock,
        *,
        name: str = "",
        experiment: str,
        actor: str = "user",
        project_dir: Path,
    ) -> None:
        self.id = run_id
        self.name = name
        self.experiment = experiment
        self._clock = clock
        self._probe: EnvironmentProbe | None = EnvironmentProbe(project_dir)
        self._spool = Spool(spool_root / run_id)
        self._spool.append(Started(name, experiment, actor, this_process(), to_us(clock.now())))
        self._shipper = Shipper(self._spool.folder, destination)
        self._logging: AbstractContextManager[None] | None = None
        self._is_finished = False
        # As a script ends that never closed its run: it came to its end, so the run did.
        atexit.register(self.finish)

    def log_metric(self, name: str, value: float, *, step: int = 0) -> None:
        """Log one value of a metric; NaN and infinities are kept as they are.

        Args:
            name: The metric's name.
            value: A number.
            step: Iteration, epoch or batch number.

        Raises:
            InvalidInputError: The value is no number, or the name is empty.
            ConflictError: The run has ended.
        """
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"metric {name!r} is {value!r}, which is no number") from error
        self._append(Point(_checked(name, "metric"), number, int(step), to_us(self._clock.now())))

    def log_metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Log several metrics of one step. See `log_metric`."""
        for name, value in values.items():
            self.log_metric(name, value, step=step)

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Log parameters; what is not JSON is kept as the text that ``str`` gives.

        Raises:
            ConflictError: The run has ended.
        """
        self._append(Params({_checked(name, "parameter"): _text(value) for name, value in values.items()}))

    def set_tag(self, name: str, value: str) -> None:
        """Tag the run.

        Raises:
            ConflictError: The run has ended.
        """
        self._append(Tags({_checked(name, "tag"): str(value)}))

    def log_artifact(self, name: str, content: bytes | str | Path) -> None:
        """Keep a file with the run, as it is now.

        Args:
            name: Its name in the run; slashes make folders.
            content: Bytes, text, or the path of a file (only a ``Path`` is one; text is kept as it is).

        Raises:
            InvalidInputError: There is no such file.
            ArtifactPathError: The name leads out of the run.
            ConflictError: The run has ended.
        """
        name = check_name(_checked(name, "artifact"))
        if isinstance(content, Path):
            if not content.is_file():
                raise InvalidInputError(f"artifact {name!r} cannot be kept: there is no file {str(content)!r}")
            digest, size = self._spool.put_file(content), content.stat().st_size
        else:
            data = content.encode() if isinstance(content, str) else content
            digest, size = self._spool.put_bytes(data), len(data)
        self._append(Kept(name, digest, size))

    def finish(self, *, error: str = "", timeout: timedelta = _FINISH_TIMEOUT) -> None:
        """End the run, and wait until all of it is kept.

        What cannot be sent in time stays on disk and is sent later; a line on standard error says so.

        Args:
            error: Why it failed; empty when it did not.
            timeout: How long to wait for a destination that does not answer.
        """
        self._end(RunStatus.FAILED if error else RunStatus.SUCCEEDED, error, timeout)

    def metric(self, name: str, value: float, step: int) -> None:
        """See `RunLog.metric`: ``fb.log_metric`` inside the block comes here."""
        self.log_metric(name, value, step=step)

    def artifact(self, name: str, content: bytes | Path) -> None:
        """See `RunLog.artifact`."""
        self.log_artifact(name, content)

    def tag(self, name: str, value: str) -> None:
        """See `RunLog.tag`."""
        self.set_tag(name, value)

    def __enter__(self) -> Self:
        self._logging = logging_to(self)
        self._logging.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._logging is not None:
            self._logging.__exit__(None, None, None)
        if isinstance(error, KeyboardInterrupt):
            self._end(RunStatus.CANCELLED, "interrupted", _FINISH_TIMEOUT)
        else:
            self.finish(error=f"{kind.__name__}: {error}" if kind is not None else "")

    def _append(self, record: Point | Params | Tags | Kept) -> None:
        if self._is_finished:
            raise ConflictError(f"run {self.id!r} has ended, so nothing can be added to it")
        self._spool.append(record)

    def _end(self, status: RunStatus, error: str, timeout: timedelta) -> None:
        if self._is_finished:
            return
        self._is_finished = True
        if self._probe is not None:
            self._spool.append(Described(self._probe.facts(self._spool)))
            self._probe = None
        self._spool.append(Finished(status, error, to_us(self._clock.now())))
        is_kept = self._shipper.finish(timeout)
        self._spool.close()
        atexit.unregister(self.finish)
        if not is_kept:
            reason = self._shipper.refusal or f"it could not be sent in {format_duration(timeout)}"
            sys.stderr.write(
                f"run {self.id} is not complete yet: {reason}; the rest of it is in {self._spool.folder},"
                " and is sent by the next run or by flyball up\n"
            )


def _checked(name: str, what: str) -> str:
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise InvalidInputError(f"{name!r} is no name of a {what}", hint="Give it a text of at least one letter.")
    return name


def _text(value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(str(value))
