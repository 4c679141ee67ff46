"""Sends spooled records to where runs are kept, off the way of the program that logs them."""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import msgspec
from tenacity import RetryCallState, RetryError, Retrying, retry_if_exception_type, stop_when_event_set
from tenacity.nap import sleep_using_event
from tenacity.wait import wait_random_exponential

from flyball.core.clock import Clock, monotonic_s
from flyball.core.durations import to_us
from flyball.core.errors import BackendUnavailableError, FlyballError
from flyball.domain.tracking.records import Described, Finished, Kept, Record
from flyball.domain.tracking.runs import RunStatus
from flyball.domain.tracking.spool import SpoolReader, list_spools, sweep, taking_over

BATCH_RECORDS = 1_000
_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
_log = logging.getLogger("flyball.run")


class Destination(Protocol):
    """Where runs are kept: a home, or a server."""

    def receive(self, run_id: str, first: int, records: list[Record]) -> int:
        """Keep records that are not kept yet, all or none, and return how many of the run are kept now.

        Fewer than ``first`` say that these cannot follow yet, and from where on to send.

        Raises:
            BackendUnavailableError: Trying again may help.
            FlyballError: It never will.
        """
        ...

    def put_blob(self, path: Path, digest: str) -> None:
        """Keep a file's bytes under their digest; twice is once."""
        ...

    def close(self) -> None:
        """Let go of connections; nothing is asked of it afterwards."""
        ...


class Shipper:
    """One thread that sends what a run's spool holds, and waits out a destination that does not answer.

    Args:
        folder: The run's spool.
        destination: Where its records go.

    Attributes:
        trouble: Why what is spooled is not sent, or was not at the last attempt.
    """

    def __init__(self, folder: Path, destination: Destination) -> None:
        self._reader = SpoolReader(folder)
        self._destination = destination
        self._is_stopping = threading.Event()
        self._is_drained = threading.Event()
        self._wake = threading.Event()
        self.trouble: BaseException | None = None
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
        return not self._thread.is_alive() and not self._reader.folder.exists()

    def _work(self) -> None:
        try:
            while not self._is_stopping.is_set():
                is_last = self._is_drained.is_set()
                records = self._try_again(lambda: send_next(self._destination, self._reader))
                if records and isinstance(records[-1], Finished):
                    self._reader.remove()
                    return
                if not records:
                    if is_last:
                        return
                    self._wake.wait(_PAUSE_S)
        except RetryError:
            return
        except FlyballError as error:
            # The program that trains must not fail because its log is refused.
            self.trouble = error
            _log.warning("run %s is not logged any further: %s", self._reader.run_id, error)
        finally:
            self._destination.close()

    def _try_again(self, work: Callable[[], list[Record]]) -> list[Record]:
        retrying = Retrying(
            retry=retry_if_exception_type(BackendUnavailableError),
            wait=wait_random_exponential(multiplier=0.1, max=_LONGEST_PAUSE_S),
            stop=stop_when_event_set(self._is_stopping),
            sleep=sleep_using_event(self._is_stopping),
            before_sleep=self._remember,
        )
        return retrying(work)

    def _remember(self, state: RetryCallState) -> None:
        self.trouble = state.outcome.exception() if state.outcome else None


def send_next(destination: Destination, reader: SpoolReader) -> list[Record]:
    """Send the next records after the bytes that they name, and return them; none when there is nothing new.

    Raises:
        BackendUnavailableError: Trying again may help: the reader stands where the next attempt has to begin.
        FlyballError: It never will.
    """
    mark, first = reader.mark(), reader.position
    records = reader.read(BATCH_RECORDS)
    if not records:
        return []
    try:
        _send_bytes(destination, reader, records)
        kept = destination.receive(reader.run_id, first, records)
    except BackendUnavailableError:
        reader.go_to_mark(mark)
        raise
    if kept < reader.position:
        # Such as after a backup was restored there: the spool still has all of it.
        reader.go_to(kept)
        raise BackendUnavailableError(f"only {kept} of {first} records that were sent are there any more")
    return records


def _send_bytes(destination: Destination, reader: SpoolReader, records: list[Record]) -> None:
    for record in records:
        if isinstance(record, Kept):
            destination.put_blob(reader.blob(record.digest), record.digest)
        elif isinstance(record, Described):
            code = record.facts.code
            for digest in (record.facts.environment, code.diff if code else ""):
                if digest:
                    destination.put_blob(reader.blob(digest), digest)


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What became of spools that programs left behind.

    Attributes:
        complete: The runs all of which is kept now.
        waiting: The runs that could not be sent yet, with the reason.
        refused: The runs that were refused for good, with the reason; their spools were set aside.
    """

    complete: list[str]
    waiting: dict[str, str]
    refused: dict[str, str]


def send_left_behind(root: Path, find: Callable[[str], Destination], clock: Clock) -> Sent:
    """Send what programs left in their spools when they ended before all of it was sent, each record once.

    A run whose program ended without saying so is closed as failed. What is bound for a destination that does not
    answer stays, and holds up nothing that goes elsewhere.

    Args:
        root: The folder of the spools.
        find: Returns the destination at an address.
        clock: Tells when a run was closed.
    """
    sweep(root)
    sent = Sent(complete=[], waiting={}, refused={})
    destinations: dict[str, Destination] = {}
    away: dict[str, str] = {}
    for folder in list_spools(root):
        with taking_over(folder) as is_ours:
            if not is_ours:
                continue
            reader = SpoolReader(folder)
            address = reader.address()
            if address in away:
                sent.waiting[folder.name] = away[address]
                continue
            try:
                if address not in destinations:
                    destinations[address] = find(address)
            except FlyballError as error:
                sent.waiting[folder.name] = away[address] = error.message
                continue
            try:
                _send_rest(reader, destinations[address], clock)
            except BackendUnavailableError as error:
                sent.waiting[folder.name] = away[address] = error.message
            except FlyballError as error:
                reader.set_aside(str(error))
                sent.refused[folder.name] = error.message
            else:
                reader.remove()
                sent.complete.append(folder.name)
    for destination in destinations.values():
        destination.close()
    return sent


def _send_rest(reader: SpoolReader, destination: Destination, clock: Clock) -> None:
    # An empty batch asks how far the run has come; what is there need not be sent again.
    last = reader.go_to(destination.receive(reader.run_id, 0, []))
    while records := send_next(destination, reader):
        last = records[-1]
    if last is not None and not isinstance(last, Finished):
        end = Finished(RunStatus.FAILED, "its program ended without closing it", to_us(clock.now()))
        destination.receive(reader.run_id, reader.position, [end])
