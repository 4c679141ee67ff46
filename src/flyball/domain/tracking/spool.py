"""The spool of a run: a file on disk that takes each record before anything else happens to it.

A record is its length and CRC-32 (four bytes each, little-endian) and its MessagePack bytes, appended with one
``write``; what the kernel has taken survives ``kill -9`` of the program. A record that was cut off has the wrong length
or checksum, and ends what can be read. The writer holds the lock (``flock``) of its file, so a spool that can be locked
has no writer any more.
"""

import fcntl
import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flyball.core.errors import BackendUnavailableError
from flyball.core.hashing import digest_bytes, digest_file
from flyball.domain.tracking.records import Record, decode_record, encode_record

_HEADER = struct.Struct("<II")
_READ_BYTES = 1 << 20
_RECORDS = "records"
_BLOBS = "blobs"


class Spool:
    """Writes one run's records; safe to call from several threads, and from forked children.

    Args:
        folder: The run's folder of its own, named by the run's id; it is made.

    Raises:
        BackendUnavailableError: The folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            (folder / _BLOBS).mkdir(parents=True)
            # Appends of one write each do not mix, so neither a lock nor a counter is needed here.
            self._file = os.open(folder / _RECORDS, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _unavailable(folder, error) from error

    def append(self, record: Record) -> None:
        """Write a record; when this returns, it survives the end of the program.

        Raises:
            BackendUnavailableError: It could not be written, such as on a full disk.
        """
        content = encode_record(record)
        frame = _HEADER.pack(len(content), zlib.crc32(content)) + content
        try:
            written = os.write(self._file, frame)
        except OSError as error:
            raise _unavailable(self.folder, error) from error
        if written < len(frame):
            # What follows a torn record could not be read: say so now rather than lose it.
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)
            raise _unavailable(self.folder, OSError("no space is left"))

    def put_bytes(self, data: bytes | memoryview) -> str:
        """Keep bytes beside the records and return their digest."""
        digest = digest_bytes(data)
        (self.folder / _BLOBS / digest).write_bytes(data)
        return digest

    def put_file(self, path: Path) -> str:
        """Keep a copy of a file as it is now and return its digest."""
        copy = self.folder / _BLOBS / f".{os.getpid()}-{os.urandom(6).hex()}"
        try:
            shutil.copyfile(path, copy)
        except OSError as error:
            copy.unlink(missing_ok=True)
            raise _unavailable(self.folder, error) from error
        digest = digest_file(copy)
        copy.rename(self.folder / _BLOBS / digest)
        return digest

    def close(self) -> None:
        """Give the spool up; nothing can be appended any more."""
        # A forked child shares the lock, so closing alone would not let go of it.
        fcntl.flock(self._file, fcntl.LOCK_UN)
        os.close(self._file)


class SpoolReader:
    """Reads a spool from its beginning, also while it grows; for one thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_id = folder.name
        self.position = 0
        self._offset = 0

    def read(self, limit: int) -> list[Record]:
        """Return at most ``limit`` records after the last ones that were read; none when there is nothing new."""
        try:
            with (self.folder / _RECORDS).open("rb") as file:
                file.seek(self._offset)
                data = file.read(_READ_BYTES)
        except FileNotFoundError:
            return []
        records: list[Record] = []
        start = 0
        while len(records) < limit and start + _HEADER.size <= len(data):
            length, checksum = _HEADER.unpack_from(data, start)
            content = data[start + _HEADER.size : start + _HEADER.size + length]
            if len(content) < length or zlib.crc32(content) != checksum:
                break
            records.append(decode_record(content))
            start += _HEADER.size + length
        self._offset += start
        self.position += len(records)
        return records

    def blob(self, digest: str) -> Path:
        """Return the file with bytes that were kept beside the records."""
        return self.folder / _BLOBS / digest

    def remove(self) -> None:
        """Remove the spool: all of it is kept elsewhere."""
        # Renamed first: a removal that is cut off must not look like a spool with fewer records.
        gone = self.folder.with_name(f".{self.run_id}.done")
        self.folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def set_aside(self) -> None:
        """Keep the spool under a name that is not tried again: its records are refused."""
        self.folder.rename(self.folder.with_name(f".{self.run_id}.refused"))


def list_spools(root: Path) -> list[Path]:
    """Return the folders of all spools, the oldest first."""
    if not root.is_dir():
        return []
    return sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))


@contextmanager
def taking_over(folder: Path) -> Iterator[bool]:
    """Hold a spool whose writer is gone; yields False when it has one, or when somebody else has taken it over."""
    try:
        file = os.open(folder / _RECORDS, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield (folder / _RECORDS).exists()
    except BlockingIOError:
        yield False
    finally:
        os.close(file)


def _unavailable(folder: Path, error: OSError) -> BackendUnavailableError:
    return BackendUnavailableError(
        f"what the run logs cannot be spooled in {str(folder)!r}: {error.strerror or error}",
        hint="Make room there, or choose another home with home=.",
    )
