"""One segment of the prediction log, as its writer has it: see `log.py`."""

import fcntl
import os
import threading
from contextlib import suppress
from pathlib import Path

from flyball.core.files import sync_folder

SUFFIX = ".jsonl"


class SegmentWriter:
    """Appends to one segment; made for one process. All but `sync` is used by one thread at a time.

    Args:
        folder: The endpoint's folder of open segments.
        name: The segment's name, an id, so that names sort by time.
        endpoint: The endpoint, for errors.
        is_synced: Whether what is appended survives a power cut, too.

    Raises:
        OSError: The file cannot be made.
    """

    def __init__(self, folder: Path, name: str, endpoint: str, *, is_synced: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.endpoint = endpoint
        self.path = folder / f"{name}{SUFFIX}"
        self.rows = 0
        self.size_bytes = 0
        # The name appears only when the lock is held: nobody can mistake a fresh segment for a finished one.
        unfinished = folder / f".{name}.tmp"
        self._file = os.open(unfinished, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unfinished.rename(self.path)
        self._is_synced = is_synced
        self._synced_bytes = 0
        self._syncing = threading.Lock()
        self._failure: OSError | None = None
        if is_synced:
            sync_folder(folder)

    def append(self, lines: bytes | bytearray, rows: int) -> None:
        """Write whole lines with one system call.

        Raises:
            OSError: Not all could be written; what was is taken back, or left as a torn line that readers drop.
        """
        if self._failure is not None:
            raise self._failure
        written = 0
        try:
            written = os.write(self._file, lines)
            while written < len(lines):
                written += os.write(self._file, memoryview(lines)[written:])
        except OSError:
            if written:
                os.ftruncate(self._file, self.size_bytes)
            raise
        self.rows += rows
        self.size_bytes += len(lines)

    def sync(self, size_bytes: int) -> None:
        """Wait until the segment is on the disk up to a size, where that was asked for.

        Threads that wait at the same time share one wait: what was written until it began is on the disk after it.

        Raises:
            OSError: It may not be there.
        """
        if not self._is_synced:
            return
        with self._syncing:
            if self._synced_bytes >= size_bytes:
                return
            if self._failure is not None:
                raise self._failure
            reached_bytes = self.size_bytes
            try:
                os.fdatasync(self._file)
            except OSError as error:
                self._failure = error
                raise
            self._synced_bytes = reached_bytes

    def close(self) -> None:
        """Give the segment up; what could not be brought to the disk is taken back."""
        with suppress(OSError):
            self.sync(self.size_bytes)
        if self._failure is not None:
            os.ftruncate(self._file, self._synced_bytes)
        # A forked child shares the lock, so closing alone would not let go of it.
        fcntl.flock(self._file, fcntl.LOCK_UN)
        os.close(self._file)
