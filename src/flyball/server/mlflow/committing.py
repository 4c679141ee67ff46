"""Group commit for requests: the event loop waits for what a thread makes durable."""

import asyncio
from typing import Any

from flyball.storage.committing import GroupCommitter, Outcome, Work, commit_now
from flyball.storage.db import Database


class AsyncCommitter:
    """Hands work to a `GroupCommitter`, or does it at once where nobody else would have to wait for that.

    Args:
        db: Where to write.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._committer = GroupCommitter(db)
        self._handed_in = 0

    async def commit(self, work: Work, *, is_alone: bool = False) -> Any:
        """Return what the work returns, once it is durable, or raise what it raises.

        Args:
            work: What is to be done.
            is_alone: Whether only one client is asking: then changing threads twice would be most of what is not the
                disk's, and nobody else is kept waiting.
        """
        if is_alone and not self._handed_in:
            outcome = commit_now(self._db, work)
            if outcome is not None:
                return _unpack(outcome)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        self._committer.hand_in(work, lambda outcome: loop.call_soon_threadsafe(_settle, future, outcome))
        self._handed_in += 1
        try:
            return _unpack(await future)
        finally:
            self._handed_in -= 1

    def close(self) -> None:
        """Finish what was handed in."""
        self._committer.close()


def _settle(future: "asyncio.Future[Outcome]", outcome: Outcome) -> None:
    if not future.cancelled():
        future.set_result(outcome)


def _unpack(outcome: Outcome) -> Any:
    result, error = outcome
    if error is not None:
        raise error
    return result
