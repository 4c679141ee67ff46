"""LMDB files as a process has them open."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from flyball.core.errors import BackendError, BackendUnavailableError
from flyball.core.files import DiskFullError, FileRefusedError, is_refused

T = TypeVar("T")


class Environment:
    """One open LMDB file of this process, with a map that grows.

    LMDB forbids changing the map's size while any transaction of the process is open, so transactions enter
    through a gate that a resize closes. It also forbids opening one file twice in a process.

    Args:
        path: A folder, or the file itself where it is not synced; it is made on first use.
        map_bytes: How much address space to begin with.
        is_synced: Whether a commit waits for the disk.
    """

    def __init__(self, path: Path, map_bytes: int, *, is_synced: bool = True) -> None:
        self._path = path
        self._map_bytes = map_bytes
        self._is_synced = is_synced
        self._lock = threading.Lock()
        self._gate = threading.Condition(self._lock)
        self._inside = 0
        self._resizing = False
        (path if is_synced else path.parent).mkdir(parents=True, exist_ok=True)
        self._open()

    def read(self, work: Callable[[Any], T]) -> T:
        """Run ``work`` in a read transaction."""
        return self._run(work, is_write=False)

    def write(self, work: Callable[[Any], T]) -> T:
        """Run ``work`` in a write transaction; again from its start when the map was too small for it."""
        return self._run(work, is_write=True)

    def sync(self) -> None:
        """Wait until all that was written is on the disk, also the page that says where the last commit lies."""
        try:
            self._lmdb.sync(True)
        except lmdb.Error as error:
            raise BackendUnavailableError(
                f"the online store in {str(self._path)!r} could not be brought to the disk: {error}"
            ) from error

    def _run(self, work: Callable[[Any], T], *, is_write: bool) -> T:
        self._ensure_own_process()
        while True:
            try:
                with self._lock:
                    while self._resizing:
                        self._gate.wait()
                    self._inside += 1
                try:
                    size = self._lmdb.info()["map_size"] if is_write else 0
                    with self._lmdb.begin(write=is_write) as transaction:
                        return work(transaction)
                finally:
                    with self._lock:
                        self._inside -= 1
                        if self._resizing:
                            self._gate.notify_all()
            except lmdb.MapFullError:
                self._grow(size)
            except lmdb.MapResizedError:
                with self._alone():
                    self._lmdb.set_mapsize(0)
            except lmdb.DiskError as error:
                raise DiskFullError(self._path) from error
            except lmdb.Error as error:
                raise BackendUnavailableError(
                    f"the online store in {str(self._path)!r} could not be used: {error}"
                ) from error

    def _grow(self, too_small: int) -> None:
        with self._alone():
            self._lmdb.set_mapsize(0)  # another process may have grown it
            if self._lmdb.info()["map_size"] <= too_small:
                self._lmdb.set_mapsize(2 * too_small)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._gate:
            while self._resizing:
                self._gate.wait()
            self._resizing = True
            while self._inside:
                self._gate.wait()
            try:
                yield
            finally:
                self._resizing = False
                self._gate.notify_all()

    def _open(self) -> None:
        try:
            # Without a second wait for the disk a power cut may take the last write back, never half of it; until the
            # next write, or until `sync`.
            self._lmdb = lmdb.open(
                str(self._path),
                map_size=self._map_bytes,
                max_readers=512,
                metasync=False,
                sync=self._is_synced,
                subdir=self._is_synced,
            )
        except lmdb.DiskError as error:
            raise DiskFullError(self._path) from error
        except lmdb.Error as error:
            if is_refused(str(error)):
                raise FileRefusedError(str(self._path), str(error)) from error
            raise BackendError(
                f"{str(self._path)!r} cannot be opened as an online store: {error}",
                hint="Remove that folder; the next materialisation fills it again.",
            ) from error
        self._pid = os.getpid()

    def _ensure_own_process(self) -> None:
        # An LMDB environment must not be used across a fork; closing it in the child leaves the parent's alone.
        if self._pid != os.getpid():
            self._lmdb.close()
            self._lock = threading.Lock()
            self._gate, self._inside, self._resizing = threading.Condition(self._lock), 0, False
            self._open()
