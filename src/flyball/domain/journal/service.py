"""The one way into the journal."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from flyball.core.clock import Clock
from flyball.domain.journal import store
from flyball.domain.journal.events import GENESIS, Event, JournalCorruptedError, Verification
from flyball.storage.db import Database, Transaction

_PAGE = 5_000


class Journal:
    """Appends events inside the transaction of the change they tell of, and reads them by cursor.

    Args:
        db: Where the events are kept.
        clock: Tells ``recorded_at``, and ``event_time`` where none is given.
    """

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def append(
        self,
        tx: Transaction,
        kind: str,
        subject: str,
        data: dict[str, Any],
        *,
        event_time: datetime | None = None,
        actor: str = "system",
        cause: int | None = None,
    ) -> Event:
        """Add an event in an open write transaction, so that the change and its event live or die together.

        Args:
            tx: The transaction that makes the change.
            kind: ``room.thing.verb``.
            subject: ``thing/name``.
            data: JSON values: identities, figures and digests; never a person's values.
            event_time: When it held in the world; now by default.
            actor: Who or what did it.
            cause: The number of the event that brought it about.
        """
        now = self._clock.now()
        return store.append_event(
            tx,
            kind=kind,
            subject=subject,
            event_time=event_time or now,
            recorded_at=now,
            actor=actor,
            cause=cause,
            data=data,
        )

    def list_events(
        self,
        *,
        after: int = 0,
        kinds: Sequence[str] = (),
        subject: str | None = None,
        until: datetime | None = None,
        limit: int = 1_000,
        newest_first: bool = False,
    ) -> list[Event]:
        """Return events by number, optionally of some kinds, one subject, or up to an event time (inclusive).

        Raises:
            JournalCorruptedError: A row cannot be read.
        """
        with self._db.read() as tx:
            return store.list_events(
                tx,
                after=after,
                kinds=kinds,
                subject=subject,
                until=until,
                limit=limit,
                newest_first=newest_first,
            )

    def find(self, seq: int) -> Event | None:
        """Return one event by its number."""
        with self._db.read() as tx:
            return store.find_event(tx, seq)

    def head(self) -> int:
        """Return the number of the last event; 0 when there is none."""
        with self._db.read() as tx:
            return store.head(tx)

    def cursor(self, name: str) -> int:
        """Return up to which event the named reader has read."""
        with self._db.read() as tx:
            return store.cursor(tx, name)

    def move_cursor(self, tx: Transaction, name: str, seq: int) -> None:
        """Keep the reader's place, in the transaction that acts on what was read: so nothing repeats or is lost."""
        store.move_cursor(tx, name, seq)

    def verify(self) -> Verification:
        """Recompute the whole chain. Changing, removing or inserting any row breaks it at that row."""
        expected_seq, previous = 1, GENESIS
        try:
            for event in self._all():
                if event.seq != expected_seq:
                    return Verification(
                        events=expected_seq - 1,
                        head=previous,
                        broken_at=expected_seq,
                        reason=f"event {expected_seq} is missing",
                    )
                if event.previous != previous:
                    reason = "it does not follow from the event before it"
                    return Verification(events=expected_seq - 1, head=previous, broken_at=event.seq, reason=reason)
                if event.compute_digest() != event.digest:
                    reason = "its content does not fit its digest"
                    return Verification(events=expected_seq - 1, head=previous, broken_at=event.seq, reason=reason)
                expected_seq, previous = event.seq + 1, event.digest
        except JournalCorruptedError as error:
            return Verification(events=expected_seq - 1, head=previous, broken_at=error.seq, reason=error.message)
        return Verification(events=expected_seq - 1, head=previous)

    def _all(self) -> Iterator[Event]:
        after = 0
        while page := self._page(after):
            yield from page
            after = page[-1].seq

    def _page(self, after: int) -> list[Event]:
        try:
            return self.list_events(after=after, limit=_PAGE)
        except JournalCorruptedError as error:
            # The rows before the unreadable one are judged first: the break to report is the earliest.
            if error.seq - after > 1:
                return self.list_events(after=after, limit=error.seq - after - 1)
            raise
