"""Sends spooled records to where runs are kept, off the way of the program that logs them."""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from tenacity import RetryError, Retrying, retry_if_exception_type, stop_when_event_set, wait_random_exponential
from tenacity.nap import sleep_using_event

from flyball.core.clock import Clock, monotonic_s
from flyball.core.durations import to_us
from flyball.core.errors import BackendUnavailableError, FlyballError
from flyball.domain.tracking.records import Described, Finished, Kept, Record
from flyball.domain.tracking.runs import RunStatus
from flyball.domain.tracking.spool import SpoolReader, list_spools, taking_over

BATCH_RECORDS = 1_000
_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
_log = logging.getLogger("flyball.run")


class Destination(Protocol):
    """Where runs are kept: a home, or a server."""

    def receive(self, run_id: str, first: int, records: list[Record]) -> int:
        """Keep records that are not kept yet, all or none, and return how many of the run are kept now.

        Raises:
            BackendUnavailableError: Trying again may help.
            FlyballError: It never will.
        """
        ...

    def put_blob(self, path: Path, digest: str) -> None:
        """Keep a file's bytes under their digest; twice is once."""
        ...


class Shipper:
    """One thread that sends what a run's spool holds, and waits out a destination that does not answer.

    Args:
        folder: The run's spool.
        destination: Where its records go.
    """

    def __init__(self, folder: Path, destination: Destination) -> None:
        self._reader = SpoolReader(folder)
        self._destination = destination
        self._is_stopping = threading.Event()
        self._is_drained = threading.Event()
        self._wake = threading.Event()
        self.refusal: FlyballError | None = None
        self._thread = threading.Thread(target=self._work, name="flyball-run", daemon=True)
        self._thread.start()

    def finish(self, timeout: timedelta) -> bool:
        """Wait until all that is spooled has been sent; the run's end is the last of it.

        Returns:
            Whether all of it is kept; else the spool stays for `send_left_behind`.
        """
        started_s = monotonic_s()
        self._is_drained.set()
        self._wake.set()
        self._thread.join(timeout.total_seconds())
        self._is_stopping.set()
        self._thread.join(max(0.0, 2.0 - (monotonic_s() - started_s)))
        return not self._thread.is_alive() and self.refusal is None and not self._reader.folder.exists()

    def _work(self) -> None:
        try:
            while not self._is_stopping.is_set():
                is_last = self._is_drained.is_set()
                records = self._reader.read(BATCH_RECORDS)
                if records:
                    first = self._reader.position - len(records)
                    self._try_again(lambda first=first, records=records: self._send(first, records))  # type: ignore[misc]
                    if isinstance(records[-1], Finished):
                        self._reader.remove()
                        return
                elif is_last:
                    return
                else:
                    self._wake.wait(_PAUSE_S)
        except RetryError:
            return
        except FlyballError as error:
            # The program that trains must not fail because its log is refused.
            self.refusal = error
            _log.warning("run %s is not logged any further: %s", self._reader.run_id, error)

    def _send(self, first: int, records: list[Record]) -> None:
        send(self._destination, self._reader, first, records)

    def _try_again(self, work: Callable[[], None]) -> None:
        for attempt in Retrying(
            retry=retry_if_exception_type(BackendUnavailableError),
            wait=wait_random_exponential(multiplier=0.1, max=_LONGEST_PAUSE_S),
            stop=stop_when_event_set(self._is_stopping),
            sleep=sleep_using_event(self._is_stopping),
        ):
            with attempt:
                work()


def send(destination: Destination, reader: SpoolReader, first: int, records: list[Record]) -> None:
    """Send records after the bytes that they name."""
    for record in records:
        if isinstance(record, Kept):
            destination.put_blob(reader.blob(record.digest), record.digest)
        elif isinstance(record, Described):
            code = record.facts.code
            for digest in (record.facts.environment, code.diff if code else ""):
                if digest:
                    destination.put_blob(reader.blob(digest), digest)
    destination.receive(reader.run_id, first, records)


def send_left_behind(root: Path, destination: Destination, clock: Clock) -> list[str]:
    """Send what programs left in their spools when they ended before all of it was sent, each record once.

    A run whose program ended without saying so is closed as failed.

    Returns:
        The ids of the runs that are complete now.

    Raises:
        BackendUnavailableError: The destination does not answer; all that was not sent stays.
    """
    complete = []
    for folder in list_spools(root):
        with taking_over(folder) as is_ours:
            if is_ours:
                _send_rest(SpoolReader(folder), destination, clock)
                complete.append(folder.name)
    return complete


def _send_rest(reader: SpoolReader, destination: Destination, clock: Clock) -> None:
    last: Record | None = None
    try:
        while records := reader.read(BATCH_RECORDS):
            send(destination, reader, reader.position - len(records), records)
            last = records[-1]
        if last is not None and not isinstance(last, Finished):
            end = Finished(RunStatus.FAILED, "its program ended without closing it", to_us(clock.now()))
            destination.receive(reader.run_id, reader.position, [end])
    except BackendUnavailableError:
        raise
    except FlyballError as error:
        _log.warning("run %s cannot be completed, so its spool is set aside: %s", reader.run_id, error)
        reader.set_aside()
    else:
        reader.remove()
