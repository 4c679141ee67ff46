"""Logging from inside of a step or of ``fb.run()``: ``fb.log_metric("loss", 0.3, step=7)``."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Protocol

from flyball.core.errors import InvalidInputError
from flyball.domain.tracking.artifacts import check_name
from flyball.domain.tracking.points import check_number, check_step


class RunLog(Protocol):
    """Takes what a step logs; whoever runs the step says where it goes."""

    def metric(self, name: str, value: float, step: int) -> None:
        """Take one metric point."""
        ...

    def artifact(self, name: str, content: bytes | Path) -> None:
        """Take a named file."""
        ...

    def tag(self, name: str, value: str) -> None:
        """Take a tag."""
        ...


_current: ContextVar[RunLog | None] = ContextVar("flyball_run_log", default=None)


@contextmanager
def logging_to(log: RunLog) -> Iterator[None]:
    """Send what the block logs to ``log``."""
    token = _current.set(log)
    try:
        yield
    finally:
        _current.reset(token)


def log_metric(name: str, value: float, *, step: int = 0) -> None:
    """Log a metric of the run that executes the calling step, or of the block of ``fb.run()`` around the call.

    Args:
        name: The metric's name.
        value: Its value; NaN and infinities are kept as they are.
        step: Iteration, epoch or batch number; points of one name and several steps make a curve.

    Raises:
        InvalidInputError: It is called outside of both, or the value is no number.
    """
    number, step = check_number(name, value), check_step(name, step)
    _log("log_metric").metric(name, number, step)


def log_artifact(name: str, content: bytes | str | Path) -> None:
    """Keep a file with the run of the calling step or block.

    Args:
        name: Its name in the run.
        content: Bytes, text, or the path of a file (only a ``Path`` is one; text is kept as it is).

    Raises:
        InvalidInputError: It is called outside of both, or the file does not exist.
        ArtifactPathError: The name leads out of the run.
    """
    name = check_name(name)
    if isinstance(content, Path) and not content.is_file():
        raise InvalidInputError(f"artifact {name!r} cannot be kept: there is no file {str(content)!r}")
    _log("log_artifact").artifact(name, content.encode() if isinstance(content, str) else content)


def set_tag(name: str, value: str) -> None:
    """Tag the run of the calling step or block.

    Raises:
        InvalidInputError: It is called outside of both.
    """
    _log("set_tag").tag(name, str(value))


def _log(function: str) -> RunLog:
    log = _current.get()
    if log is None:
        raise InvalidInputError(
            f"{function} was called outside a step and outside a run",
            hint="Call it in a function marked @fb.step, or in a block of fb.run() as run; in a thread of its own, say"
            f" run.{function}.",
        )
    return log
