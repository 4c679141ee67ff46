"""Brings events from the journal to those who are to be told: each at least once, in order, whatever crashes."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Literal

from flyball.core.clock import Clock, sleep
from flyball.core.errors import BackendError, BackendUnavailableError
from flyball.domain.journal.events import Event
from flyball.domain.journal.service import Journal
from flyball.domain.monitoring import delivery_store as store
from flyball.domain.monitoring.deliveries import Delivery, Patience, Receiver, cursor_of
from flyball.domain.monitoring.notifiers import Notification, Notifier
from flyball.storage.db import Database

ALERT_RAISED = "monitoring.alert.raised"
ALERT_RESOLVED = "monitoring.alert.resolved"
NOTIFICATION_FAILED = "monitoring.notification.failed"

_log = logging.getLogger(__name__)
_PAGE = 100
_POLL_S = 2.0

Outcome = Literal["told", "given-up", "later"]


class AlertReceiver:
    """Implements `Receiver` for a notifier, which is told alerts."""

    kinds = (ALERT_RAISED, ALERT_RESOLVED)

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier

    def send(self, event: Event) -> None:
        """See `Receiver.send`."""
        self._notifier.send(_to_notification(event))


class Courier:
    """Reads events from the journal with one cursor a receiver.

    A receiver that fails delays its own events only. `start` does the work on a thread of its own, so that nobody
    waits for a slow receiver; `deliver` does what is due at once.

    Args:
        db: Holds the cursors and the failures.
        journal: Where events are read.
        clock: Tells when the next round is due.
        notifiers: Those who are told alerts, by name, as `notifiers.open_notifiers` gives them.
        patience: How hard to try.
        find_receivers: Gives others who are told, by name; asked each time.
    """

    def __init__(
        self,
        db: Database,
        journal: Journal,
        clock: Clock,
        notifiers: Mapping[str, Notifier],
        patience: Patience | None = None,
        find_receivers: Callable[[], Mapping[str, Receiver]] = dict,
    ) -> None:
        self._db = db
        self._journal = journal
        self._clock = clock
        self._alerted = {name: AlertReceiver(notifier) for name, notifier in notifiers.items()}
        self._find_receivers = find_receivers
        self._patience = patience or Patience()
        self._known: set[str] = set()
        self._news = threading.Event()
        self._news.set()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def deliver(self) -> int:
        """Tell every receiver what it has not been told, as far as it is due; return how many were told."""
        receivers: dict[str, Receiver] = {**self._alerted, **self._find_receivers()}
        return sum(self._deliver_to(name, receiver) for name, receiver in receivers.items())

    def failures(self) -> list[Delivery]:
        """Return what could not be told yet, and what was given up, newest first."""
        with self._db.read() as tx:
            return store.list_deliveries(tx)

    def start(self) -> None:
        """Deliver on a thread until `stop`."""
        self._thread = threading.Thread(target=self._run, name="flyball-courier", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that there may be news; the thread looks at once. Cheap, never waits."""
        self._news.set()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the thread after the alert that it is busy with."""
        self._stopped.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._news.wait(_POLL_S)
            self._news.clear()
            try:
                self.deliver()
            except Exception:  # noqa: BLE001  (the edge of a worker: it must outlive a busy database)
                _log.exception("events could not be delivered; trying again")
        self._db.close()

    def _deliver_to(self, name: str, receiver: Receiver) -> int:
        cursor_name = cursor_of(name)
        self._welcome(name, cursor_name, receiver.kinds)
        told, place = 0, self._journal.cursor(cursor_name)
        while events := self._journal.list_events(after=place, kinds=receiver.kinds, limit=_PAGE):
            for event in events:
                outcome = "later" if self._stopped.is_set() else self._tell(name, receiver, event)
                if outcome == "later":
                    return told
                told += outcome == "told"
                place = event.seq
                with self._db.begin() as tx:
                    self._journal.move_cursor(tx, cursor_name, place)
                    if outcome == "told":
                        store.delete_delivery(tx, name, place)
        return told

    def _welcome(self, name: str, cursor_name: str, kinds: tuple[str, ...]) -> None:
        """Spare a receiver that is new here the events of long ago."""
        if name in self._known:
            return
        now = self._clock.now()
        old = self._journal.list_events(
            kinds=kinds,
            until=now - self._patience.newcomer_reads,
            limit=1,
            newest_first=True,
        )
        with self._db.begin() as tx:
            if store.insert_notifier(tx, name, now) and old:
                self._journal.move_cursor(tx, cursor_name, old[0].seq)
        self._known.add(name)

    def _tell(self, name: str, receiver: Receiver, event: Event) -> Outcome:
        with self._db.read() as tx:
            before = store.find_delivery(tx, name, event.seq)
        if before is not None and before.next_at is not None and before.next_at > self._clock.now():
            return "later"
        try:
            self._send(receiver, event)
        except BackendError as error:
            return self._record_failure(name, event, before, error)
        except Exception as error:  # noqa: BLE001  (the edge to a stranger's plugin, which may raise anything)
            broken = BackendError(f"{type(error).__name__}: {error}")
            return self._record_failure(name, event, before, broken)
        return "told"

    def _send(self, receiver: Receiver, event: Event) -> None:
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

        first = self._patience.first_wait_s
        for attempt in Retrying(
            stop=stop_after_attempt(self._patience.tries),
            wait=wait_random_exponential(multiplier=first, min=first),
            retry=retry_if_exception_type(BackendUnavailableError),
            sleep=sleep,
            reraise=True,
        ):
            with attempt:
                receiver.send(event)

    def _record_failure(self, name: str, event: Event, before: Delivery | None, error: BackendError) -> Outcome:
        rounds = 1 + (before.rounds if before else 0)
        is_over = rounds >= self._patience.rounds or not isinstance(error, BackendUnavailableError)
        delivery = Delivery(
            notifier=name,
            event=event.seq,
            rounds=rounds,
            next_at=None if is_over else self._clock.now() + self._patience.pause_after(rounds),
            error=error.message,
        )
        with self._db.begin() as tx:
            store.put_delivery(tx, delivery)
            if is_over:
                data = {"notifier": name.partition(":")[0], "alert": event.seq, "error": error.message}
                self._journal.append(tx, NOTIFICATION_FAILED, event.subject, data, cause=event.seq)
        return "given-up" if is_over else "later"


def _to_notification(event: Event) -> Notification:
    return Notification(
        id=event.seq,
        what="raised" if event.kind == ALERT_RAISED else "resolved",
        endpoint=event.subject.partition("/")[2],
        monitor=event.data["monitor"],
        family=event.data["family"],
        at=event.event_time,
        message=event.data["message"],
        details=event.data,
    )
