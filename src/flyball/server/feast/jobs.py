"""Materialisations that clients ask for, each in a process of its own: the gateway goes on answering."""

import asyncio
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from flyball.core.durations import parse_instant
from flyball.core.errors import BackendError, ConflictError
from flyball.core.files import holding_lock
from flyball.domain.features.materialising import MaterialisationRunningError
from flyball.workspace.workspace import Workspace

_log = logging.getLogger("flyball.feast")


class MaterialisationFailedError(BackendError):
    """A materialisation ended with an error."""

    code = "features/materialisation-failed"

    def __init__(self, views: Sequence[str], reason: str) -> None:
        super().__init__(
            f"{', '.join(views)} could not be materialised: {reason}", hint="Try it with: flyball features materialise"
        )


class MaterialisationJobs:
    """Runs them; a view is in one at a time.

    Args:
        workspace: The project and its home.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._running: set[asyncio.Task[None]] = set()

    def start(self, views: Sequence[str], until: str | None) -> "asyncio.Task[None]":
        """Begin to bring views up to an instant, or to now where that is later.

        Raises:
            MaterialisationRunningError: One of them is being materialised, by whichever process of the gateway.
            InvalidInputError: ``until`` is no instant.
        """
        if until is not None:
            parse_instant(until, what="end_ts")
        with ExitStack() as stack:
            for view in dict.fromkeys(views):
                lock = self._workspace.home / "locks" / f"job-{view}.lock"
                try:
                    stack.enter_context(holding_lock(lock, held_message="held"))
                except ConflictError as error:
                    raise MaterialisationRunningError(view) from error
            held = stack.pop_all()
        task = asyncio.create_task(self._run(list(views), until))
        self._running.add(task)  # the event loop keeps no task by itself
        task.add_done_callback(lambda done: self._end(done, held))
        return task

    def _end(self, task: "asyncio.Task[None]", held: ExitStack) -> None:
        held.close()
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.warning("%s", task.exception())

    async def _run(self, views: Sequence[str], until: str | None) -> None:
        arguments = [
            *("--project", str(self._workspace.project_dir)),
            *("--home", str(self._workspace.home)),
            *(("--until", until) if until is not None else ()),
        ]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "flyball.cli.main", "features", "materialise", *views, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, errors = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            raise
        if process.returncode:
            raise MaterialisationFailedError(views, _reason(errors.decode(errors="replace").strip()))


def _reason(said: str) -> str:
    """Return why a command failed, from what it said at last: a line of an error, and perhaps one of a hint."""
    at = said.rfind("error[")
    told = said[-1_000:] if at < 0 else said[at:].partition("\n")[0].partition("]: ")[2]
    return told.rstrip(".")
