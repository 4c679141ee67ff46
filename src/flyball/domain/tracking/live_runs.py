"""A run that a program of its own makes: ``with fb.run("tune") as run:``, without a pipeline around it."""

import atexit
import os
import reprlib
import sys
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flyball.core.clock import Clock, monotonic_s
from flyball.core.durations import format_duration, to_us
from flyball.core.errors import ConflictError, InvalidInputError
from flyball.domain.tracking.artifacts import check_name
from flyball.domain.tracking.environment import EnvironmentProbe
from flyball.domain.tracking.logging import logging_to
from flyball.domain.tracking.params import param_text
from flyball.domain.tracking.points import check_number, check_step
from flyball.domain.tracking.processes import this_process
from flyball.domain.tracking.records import Described, Finished, Kept, Params, Point, Started, Tags
from flyball.domain.tracking.runs import RunStatus
from flyball.domain.tracking.shipping import Destination, Shipper
from flyball.domain.tracking.spool import Spool

_FINISH_TIMEOUT = timedelta(seconds=30)
_LONGEST_NAME = 250
_LONGEST_TAG = 8_000
_PARAMS_AT_ONCE = 100


class LiveRun:
    """An open run: takes what a program logs, and never makes it wait for a server or a database.

    Each call appends one record to a spool on disk, which takes microseconds; a thread sends the records in batches.
    A server that restarts, or is away, is waited for; a program that is killed leaves its spool, which is sent by the
    next run of the same home, by its ``flyball up`` or by ``flyball runs send``, each record once and in order.

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
        address: str = "",
        alongside: threading.Thread | None = None,
    ) -> None:
        self.id = run_id
        self.name = name
        self.experiment = experiment
        self._clock = clock
        self._owner = os.getpid()
        self._alongside = alongside
        started = Started(_text_of(name), _checked(experiment, "experiment"), actor, this_process(), to_us(clock.now()))
        self._spool = Spool(spool_root / run_id, address)
        self._spool.append(started)
        self._probe: EnvironmentProbe | None = EnvironmentProbe(project_dir)
        self._shipper = Shipper(self._spool.folder, destination)
        self._logging: AbstractContextManager[None] | None = None
        self._is_finished = False
        atexit.register(self._close_at_exit)

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
        number, step = check_number(name, value), check_step(name, step)
        self._append(Point(_checked(name, "metric"), number, step, to_us(self._clock.now())))

    def log_metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Log several metrics of one step. See `log_metric`."""
        for name, value in values.items():
            self.log_metric(name, value, step=step)

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Log parameters; what is not JSON is kept as the text that ``str`` gives, and the first 2,000 signs of it.

        Raises:
            InvalidInputError: A name is empty or too long.
            ConflictError: The run has ended.
        """
        if not isinstance(values, Mapping):
            raise InvalidInputError(
                f"{reprlib.repr(values)} names no parameters", hint='Give a dictionary, such as {"depth": 3}.'
            )
        texts = [(_checked(name, "parameter"), param_text(value)) for name, value in values.items()]
        for start in range(0, len(texts), _PARAMS_AT_ONCE):
            self._append(Params(dict(texts[start : start + _PARAMS_AT_ONCE])))

    def set_tag(self, name: str, value: str) -> None:
        """Tag the run.

        Raises:
            InvalidInputError: The name is empty, or name or value are too long.
            ConflictError: The run has ended.
        """
        text = _text_of(str(value))
        if len(text) > _LONGEST_TAG:
            raise InvalidInputError(
                f"tag {name!r} has {len(text):,} signs; {_LONGEST_TAG:,} are kept",
                hint="Keep long texts as files, with log_artifact.",
            )
        self._append(Tags({_checked(name, "tag"): text}))

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
            digest, size = self._spool.put_file(content)
        elif isinstance(content, str | bytes | bytearray | memoryview):
            data = content.encode() if isinstance(content, str) else bytes(content)
            digest, size = self._spool.put_bytes(data), len(data)
        else:
            raise InvalidInputError(
                f"artifact {name!r} cannot be kept: {reprlib.repr(content)} is neither bytes, text nor a Path",
                hint="Write it to a file, or as JSON, first.",
            )
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
        elif kind is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
            self.finish()
        else:
            self.finish(error=f"{kind.__name__}: {error}")

    def _append(self, record: Point | Params | Tags | Kept) -> None:
        if self._is_finished:
            raise ConflictError(f"run {self.id!r} has ended, so nothing can be added to it")
        self._spool.append(record)

    def _close_at_exit(self) -> None:
        """End a run that its script never closed: as the script ended, in peace or by an exception."""
        error = None if hasattr(sys, "ps1") else getattr(sys, "last_value", None)
        self.finish(error=f"{type(error).__name__}: {error}" if error is not None else "")

    def _end(self, status: RunStatus, error: str, timeout: timedelta) -> None:
        # A forked child that comes to its end, here or at exit, ends nothing: the run is its parent's.
        if self._is_finished or os.getpid() != self._owner:
            return
        self._is_finished = True
        started_s = monotonic_s()
        if self._probe is not None:
            self._spool.append(Described(self._probe.facts(self._spool)))
            self._probe = None
        self._spool.append(Finished(status, error.encode(errors="replace").decode(), to_us(self._clock.now())))
        is_kept = self._shipper.finish(timeout)
        self._spool.close()
        atexit.unregister(self._close_at_exit)
        if not is_kept:
            trouble = self._shipper.trouble
            reason = trouble or f"it could not be sent in {format_duration(timeout)}"
            sys.stderr.write(
                f"run {self.id} is not complete yet: {reason}\nThe rest of it is in {self._spool.folder};"
                " the next run of this home, its flyball up or flyball runs send will send it.\n"
            )
        elif self._alongside is not None:
            self._alongside.join(max(0.0, timeout.total_seconds() - (monotonic_s() - started_s)))


def _checked(name: str, what: str) -> str:
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise InvalidInputError(f"{name!r} is no name for this {what}", hint="Give it a text of at least one letter.")
    if len(name) > _LONGEST_NAME:
        raise InvalidInputError(f"the name of this {what} has {len(name):,} signs; {_LONGEST_NAME} are the most")
    return _text_of(name)


def _text_of(text: str) -> str:
    """Return a text that can be written in UTF-8 and kept in every database."""
    if not isinstance(text, str):
        raise InvalidInputError(f"{reprlib.repr(text)} is no text", hint="Give it as a str.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{text[:100]!r} is no text: it holds half of a sign") from error
    return text.replace("\0", "")
