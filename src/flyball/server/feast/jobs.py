"""Materialisations that clients ask for, each in a process of its own: the gateway goes on answering."""

import asyncio
import sys
from collections.abc import Sequence

from flyball.core.durations import parse_instant
from flyball.core.errors import BackendError, ConflictError
from flyball.workspace.workspace import Workspace


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
        self._running: dict[str, asyncio.Task[None]] = {}

    def start(self, views: Sequence[str], until: str | None) -> "asyncio.Task[None]":
        """Begin to bring views up to an instant, or to now where that is later.

        Raises:
            ConflictError: One of them is being materialised.
            InvalidInputError: ``until`` is no instant.
        """
        if until is not None:
            parse_instant(until, what="end_ts")
        busy = [view for view in views if view in self._running]
        if busy:
            raise ConflictError(f"feature view {busy[0]!r} is being materialised")
        task = asyncio.create_task(self._run(list(views), until))
        for view in views:
            self._running[view] = task
        task.add_done_callback(lambda _: self._forget(views))
        return task

    def _forget(self, views: Sequence[str]) -> None:
        for view in views:
            self._running.pop(view, None)

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
            raise MaterialisationFailedError(views, errors.decode(errors="replace").strip()[-1_000:])
