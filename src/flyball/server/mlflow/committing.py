"""Group commit for requests: the event loop waits for what a thread makes durable."""

import asyncio
from typing import Any

from flyball.storage.committing import GroupCommitter, Outcome, Work
from flyball.storage.db import Database


class AsyncCommitter:
    """Hands work to a `GroupCommitter` and brings the outcomes of a whole commit back with one wake-up.

    Args:
        db: Where to write.
    """

    def __init__(self, db: Database) -> None:
        self._committer = GroupCommitter(db)

    async def commit(self, work: Work) -> Any:
        """Return what the work returns, once it is durable, or raise what it raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._committer.hand_in(work, lambda outcome: loop.call_soon_threadsafe(_settle, future, outcome))
        return await future

    def close(self) -> None:
        """Finish what was handed in."""
        self._committer.close()


def _settle(future: "asyncio.Future[Any]", outcome: Outcome) -> None:
    if future.cancelled():
        return
    result, error = outcome
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
