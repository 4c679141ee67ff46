"""Group commit: what many callers want to write at once becomes durable with one commit."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from flyball.core.errors import BackendUnavailableError
from flyball.storage.db import Database, Transaction

T = TypeVar("T")
Work = Callable[[Transaction], Any]
Outcome = tuple[Any, BaseException | None]
_MOST_AT_ONCE = 256


class GroupCommitter:
    """Runs pieces of work one after the other in a thread of its own, as many as wait in one transaction.

    A commit costs a write to disk, whatever it holds: while one is under way the next ones gather. A piece of work
    that raises is undone alone; the others are kept, for which they are all done again: work is a function of its
    transaction, and has no effect but there. Each caller hears after the commit, so that what it was told is
    durable.

    Args:
        db: Where to write.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        # None says that no more will come.
        self._waiting: SimpleQueue[tuple[Work, Callable[[Outcome], object]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def submit(self, work: Callable[[Transaction], T]) -> "Future[T]":
        """Let work be done; the future has what it returns, once that is durable, or what it raised."""
        future: Future[T] = Future()

        def tell(outcome: Outcome) -> None:
            result, error = outcome
            future.set_result(result) if error is None else future.set_exception(error)

        self.hand_in(work, tell)
        return future

    def hand_in(self, work: Work, tell: Callable[[Outcome], object]) -> None:
        """Let work be done, and ``tell`` be called in the committer's thread once it is durable, or has failed.

        Raises:
            RuntimeError: The committer is closed.
        """
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the committer is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
                self._thread.start()
            self._waiting.put((work, tell))

    def close(self) -> None:
        """Finish what was handed in, and end the thread."""
        with self._lock:
            self._is_closed = True
            self._waiting.put(None)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while batch := self._next_batch():
            outcomes = commit_together(self._db, [work for work, _ in batch])
            for (_, tell), outcome in zip(batch, outcomes, strict=True):
                tell(outcome)
        self._db.close()

    def _next_batch(self) -> list[tuple[Work, Callable[[Outcome], object]]]:
        """Wait for work, and return all there is; nothing once all is done and no more will come."""
        batch = []
        first = self._waiting.get()
        while first is not None:
            batch.append(first)
            if len(batch) == _MOST_AT_ONCE or self._waiting.empty():
                return batch
            first = self._waiting.get()
        if batch:
            self._waiting.put(None)
        return batch


def commit_now(db: Database, work: Work) -> Outcome | None:
    """Run one piece of work in a transaction of its own; None where it would have to wait for another one."""
    transaction = db.begin_now()
    if transaction is None:
        return None
    try:
        with transaction as tx:
            return work(tx), None
    except Exception as error:  # noqa: BLE001 - handed to the caller, who raises it
        return None, error


def commit_together(db: Database, works: Sequence[Work]) -> list[Outcome]:
    """Run pieces of work in one transaction, each undone alone if it raises; return each one's result or error."""
    try:
        return _try_together(db, works) or _undo_alone(db, works)
    except BaseException as error:  # noqa: BLE001 - handed to each caller, who raises it
        return [(None, error)] * len(works)


def _try_together(db: Database, works: Sequence[Work]) -> list[Outcome]:
    """Run pieces of work as if none raised, which is the rule; return nothing where one of several does.

    A piece that raises alone is told so; of several, a database may tell too late which one it was.
    """
    try:
        with db.begin() as tx:
            return [(work(tx), None) for work in works]
    except BackendUnavailableError:
        raise
    except BaseException:
        if len(works) == 1:
            raise
        return []


def _undo_alone(db: Database, works: Sequence[Work]) -> list[Outcome]:
    """Run pieces of work behind a savepoint each."""
    with db.begin() as tx:
        return [_attempt(tx, work) for work in works]


def _attempt(tx: Transaction, work: Work) -> Outcome:
    tx.execute("SAVEPOINT piece")
    try:
        result = work(tx)
        tx.execute("RELEASE SAVEPOINT piece")
    except BaseException as error:  # noqa: BLE001 - handed to the caller, who raises it
        tx.execute("ROLLBACK TO SAVEPOINT piece")
        tx.execute("RELEASE SAVEPOINT piece")
        return None, error
    return result, None
