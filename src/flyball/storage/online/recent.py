"""Rows that were written a moment ago, before they are on the disk."""

import logging
import os
import threading
import weakref
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from flyball.core.errors import FlyballError
from flyball.storage.online.batches import Batch, Stored, find
from flyball.storage.online.environments import Environment

_MOST_BYTES = 8 << 20  # that a process leaves to the thread; what is more it moves itself
_MAP_BYTES = 1 << 30  # address space, far more than all processes may leave here; the file is as large as it has to be
_PAUSE_S = 1.0
_log = logging.getLogger("flyball.online")


class RecentRows:
    """Small writes wait here for their way to the disk, in an LMDB file that is never synced.

    Waiting for the disk takes ten times as long as all the rest of a small write. What is here lies in the kernel's
    memory: it outlives any process. Within a second it is moved into the store's own file, which is synced: once for
    all of it. A power cut may tear this file but never that one; so this file bears the name of the machine's boot,
    and one of an earlier boot is removed unopened.

    A row may lie here and in the store's own file. The newer counts.

    Args:
        main: The store's own file.
        folder: Where this one lies.
        boot: Identifies this boot of the machine.
    """

    def __init__(self, main: Environment, folder: Path, boot: str) -> None:
        for file in folder.glob("recent-*"):
            if not file.name.startswith(f"recent-{boot}."):
                file.unlink(missing_ok=True)
        self._main = main
        self._recent = Environment(folder / f"recent-{boot}.mdb", _MAP_BYTES, is_synced=False)
        self._mover: _Mover | None = None
        self._pid = os.getpid()
        if self._recent.read(_count):  # of a process that was killed
            self.wake()

    def find(self, places: Sequence[bytes]) -> list[bytes | None]:
        """Return the values in places, None where there is none.

        Who reads from here and then from the store's own file misses nothing: rows are there before they go from here.
        """
        return self._recent.read(lambda transaction: list(map(transaction.get, places)))

    def put(self, batches: Sequence[Batch]) -> int:
        """Put what is newer than what is here and in the store's own file; count as `put_newer` does."""
        changed = self._recent.write(partial(self._put, batches=batches))
        self.wake(sum(len(value) for batch in batches for value in batch.values))
        return changed

    def _put(self, transaction: Any, batches: Sequence[Batch]) -> int:
        stored = self._main.read(lambda main: [find(main, batch.places) for batch in batches])
        return [batch.put_newer(transaction, found) for batch, found in zip(batches, stored, strict=True)][-1]

    def move(self) -> None:
        """Move all rows into the store's own file."""
        _move(self._recent, self._main)

    def wake(self, size_bytes: int = 0) -> None:
        """Let all that was written, here and to the store's own file, be on the disk within a second."""
        if self._mover is None or self._pid != os.getpid():  # a thread does not live on in a fork
            self._pid, self._mover = os.getpid(), _Mover(self._recent, self._main)
            weakref.finalize(self, self._mover.end)
        if self._mover.note(size_bytes) > _MOST_BYTES:
            self._mover.move()


class _Mover:
    """A thread that moves recent rows to the disk, and what is left of them when nobody needs it any more."""

    def __init__(self, recent: Environment, main: Environment) -> None:
        self._recent = recent
        self._main = main
        self._waiting_bytes = 0
        self._pid = os.getpid()
        self._is_needed = threading.Event()
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="online-rows", daemon=True)
        self._thread.start()

    def note(self, size_bytes: int) -> int:
        """Note that rows wait, and return how large all are that do."""
        self._waiting_bytes += size_bytes
        if not self._is_needed.is_set():
            self._is_needed.set()
        return self._waiting_bytes

    def move(self) -> None:
        """Move all rows and wait until they, and what was written to the store's own file, are on the disk."""
        _move(self._recent, self._main)
        self._main.sync()
        self._waiting_bytes = 0

    def end(self) -> None:
        """Move what is left and let the thread end."""
        if self._pid != os.getpid():
            return
        is_needed = self._is_needed.is_set()
        self._has_ended.set()
        self._is_needed.set()
        if self._thread is not threading.current_thread():
            self._thread.join()  # it has the files open, which may be opened again now
        if is_needed:
            self._try_to_move()

    def _run(self) -> None:
        while not self._has_ended.is_set():
            self._is_needed.wait()
            if not self._has_ended.wait(_PAUSE_S):
                self._is_needed.clear()  # before the rows are read: who writes meanwhile sets it again
                self._try_to_move()

    def _try_to_move(self) -> None:
        try:
            self.move()
        except FlyballError as error:
            _log.warning("what was written to the online store is not on the disk yet: %s", error)
            self._is_needed.set()


def _move(recent: Environment, main: Environment) -> None:
    if not recent.read(_count):
        return

    def take(transaction: Any) -> list[Stored]:
        # Read while nobody else may write there: a row that a replacement removes is not brought back by who read it
        # before.
        rows = recent.read(_list)
        Batch([place for place, _ in rows], [value for _, value in rows]).put_newer(transaction)
        return rows

    rows = main.write(take)
    recent.write(partial(_remove, rows=rows))


def _remove(transaction: Any, rows: Sequence[Stored]) -> None:
    for place, value in rows:
        if transaction.get(place) == value:
            transaction.delete(place)


def _count(transaction: Any) -> int:
    return int(transaction.stat()["entries"])


def _list(transaction: Any) -> list[Stored]:
    with transaction.cursor() as cursor:
        return list(cursor)
