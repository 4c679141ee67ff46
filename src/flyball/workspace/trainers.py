"""Two ways to retrain: in a process of its own beside the live loop, or inline in a replay."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from flyball.core.errors import FlyballError
from flyball.domain.loop.reactions import Reaction
from flyball.domain.loop.training import TrainingOutcome
from flyball.domain.pipelines.steps import Pipeline

LIFELINE = "FLYBALL_LIFELINE"
"""Names the pipe that ends when a process's parent does; see `flyball.server.lifeline`."""
_STOP_GRACE_S = 10.0


class SubprocessTrainer:
    """Implements `Trainer` by ``flyball run``, so that training never holds up the loop or takes it down.

    Args:
        project: The project's folder.
        home: The home's folder.
    """

    def __init__(self, project: Path, home: Path) -> None:
        self._project = project
        self._home = home
        self._running: dict[str, tuple[Reaction, subprocess.Popen[bytes], int, Path]] = {}

    def start(self, reaction: Reaction, pipeline: Pipeline[..., Any]) -> None:
        """See `Trainer.start`."""
        logs = self._home / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        result = logs / f"training-{reaction.endpoint}-{reaction.cause}.json"
        reading_end, writing_end = os.pipe()
        arguments = [
            *("run", str(pipeline.name), "--json", "--actor", "loop", "--cause", str(reaction.event_seq)),
            *("--project", str(self._project), "--home", str(self._home)),
        ]
        with result.open("wb") as output, (logs / "training.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "flyball.cli.main", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                pass_fds=(reading_end,),
                env=os.environ | {LIFELINE: str(reading_end)},
                start_new_session=True,
            )
        os.close(reading_end)
        self._running[reaction.endpoint] = (reaction, process, writing_end, result)

    def is_running(self, endpoint: str) -> bool:
        """See `Trainer.is_running`."""
        return endpoint in self._running

    def collect(self) -> list[TrainingOutcome]:
        """See `Trainer.collect`."""
        ended = []
        for endpoint, (reaction, process, writing_end, result) in list(self._running.items()):
            status = process.poll()
            if status is None:
                continue
            os.close(writing_end)
            del self._running[endpoint]
            ended.append(_read_outcome(reaction, status, result))
            result.unlink(missing_ok=True)
        return ended

    def stop(self) -> None:
        """See `Trainer.stop`."""
        for _, process, writing_end, _ in self._running.values():
            os.close(writing_end)
            process.terminate()
        for _, process, _, _ in self._running.values():
            try:
                process.wait(_STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()


class InlineTrainer:
    """Implements `Trainer` by running the pipeline at once, in the caller's simulated time.

    Args:
        run: Runs a pipeline for a reaction and returns the run's id and the error, if it failed.
    """

    def __init__(self, run: Callable[[Reaction, Pipeline[..., Any]], tuple[str | None, str | None]]) -> None:
        self._run = run
        self._ended: list[TrainingOutcome] = []

    def start(self, reaction: Reaction, pipeline: Pipeline[..., Any]) -> None:
        """See `Trainer.start`."""
        try:
            run_id, error = self._run(reaction, pipeline)
        except FlyballError as refused:
            run_id, error = None, refused.message
        self._ended.append(
            TrainingOutcome(endpoint=reaction.endpoint, cause=reaction.cause, run_id=run_id, error=error)
        )

    def is_running(self, endpoint: str) -> bool:
        """See `Trainer.is_running`."""
        return False

    def collect(self) -> list[TrainingOutcome]:
        """See `Trainer.collect`."""
        ended, self._ended = self._ended, []
        return ended

    def stop(self) -> None:
        """See `Trainer.stop`."""


def _read_outcome(reaction: Reaction, status: int, result: Path) -> TrainingOutcome:
    try:
        said: dict[str, Any] = msgspec.json.decode(result.read_bytes())
    except (msgspec.DecodeError, OSError):
        said = {}
    error = None
    if status != 0 or "run_id" not in said:
        error = str(said.get("error") or f"the training process ended with status {status} and without a result")
    return TrainingOutcome(endpoint=reaction.endpoint, cause=reaction.cause, run_id=said.get("run_id"), error=error)
