"""The spool of a run: a file on disk that takes each record before anything else happens to it.

A record is its length and CRC-32 (four bytes each, little-endian) and its MessagePack bytes, appended with one
``write``; what the kernel has taken survives ``kill -9`` of the program. A record that was cut off has the wrong length
or checksum, and ends what can be read. The writer holds the lock (``flock``) of its file, so a spool that can be locked
has no writer any more. Beside the records lies the address of where they go, so that whoever sends them later sends
them there.
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
_ADDRESS = "address"
_REFUSAL = "refusal"
_DONE = ".done"
_REFUSED = ".refused"


class Spool:
    """Writes one run's records; safe to call from several threads, and from forked children.

    Args:
        folder: The run's folder of its own, named by the run's id; it is made.
        address: Where the records go: a server's address, or nothing for the home that the spool lies in.

    Raises:
        BackendUnavailableError: The folder cannot be written.
    """

    def __init__(self, folder: Path, address: str = "") -> None:
        self.folder = folder
        try:
            (folder / _BLOBS).mkdir(parents=True)
            # Before the records, without which a spool is none.
            (folder / _ADDRESS).write_text(address, encoding="utf-8")
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
        """Keep bytes beside the records and return their digest.

        Raises:
            BackendUnavailableError: They could not be written, such as on a full disk.
        """
        copy = self._new_copy()
        try:
            copy.write_bytes(data)
        except OSError as error:
            copy.unlink(missing_ok=True)
            raise _unavailable(self.folder, error) from error
        digest = digest_bytes(data)
        copy.rename(self.folder / _BLOBS / digest)
        return digest

    def put_file(self, path: Path) -> tuple[str, int]:
        """Keep a copy of a file as it is now and return its digest and its length, which may grow meanwhile.

        Raises:
            BackendUnavailableError: It could not be copied, such as on a full disk.
        """
        copy = self._new_copy()
        try:
            shutil.copyfile(path, copy)
        except OSError as error:
            copy.unlink(missing_ok=True)
            raise _unavailable(self.folder, error) from error
        digest, size = digest_file(copy), copy.stat().st_size
        copy.rename(self.folder / _BLOBS / digest)
        return digest, size

    def _new_copy(self) -> Path:
        # Renamed when it is whole: the same content may lie there already, and wait to be sent.
        return self.folder / _BLOBS / f".{os.getpid()}-{os.urandom(6).hex()}"

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

    def address(self) -> str:
        """Return where the records go; nothing for the home that the spool lies in."""
        try:
            return (self.folder / _ADDRESS).read_text(encoding="utf-8")
        except FileNotFoundError:  # written before spools had addresses
            return ""

    def mark(self) -> tuple[int, int]:
        """Return a place for `go_to_mark`."""
        return self.position, self._offset

    def go_to_mark(self, mark: tuple[int, int]) -> None:
        """Let the next records that are read be those after a mark."""
        self.position, self._offset = mark

    def go_to(self, position: int) -> Record | None:
        """Let the next records that are read be those from a number on, and return the one before them."""
        self.go_to_mark((0, 0))
        last: Record | None = None
        while self.position < position and (records := self.read(position - self.position)):
            last = records[-1]
        return last

    def read(self, limit: int) -> list[Record]:
        """Return at most ``limit`` records after the last ones that were read; none when there is nothing new."""
        try:
            with (self.folder / _RECORDS).open("rb") as file:
                file.seek(self._offset)
                data = file.read(_READ_BYTES)
                if len(data) >= _HEADER.size:
                    # A record may be longer than what is read at once.
                    missing = _HEADER.size + _HEADER.unpack_from(data)[0] - len(data)
                    data += file.read(max(0, missing))
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
        gone = self.folder.with_name(f".{self.run_id}{_DONE}")
        self.folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def set_aside(self, reason: str) -> None:
        """Keep the spool, and why it was refused, under a name that is not tried again."""
        (self.folder / _REFUSAL).write_text(reason, encoding="utf-8")
        self.folder.rename(self.folder.with_name(f".{self.run_id}{_REFUSED}"))


def list_spools(root: Path) -> list[Path]:
    """Return the folders of all spools, the oldest first."""
    return [folder for folder in _folders(root) if not folder.name.startswith(".")]


def list_refused(root: Path) -> dict[Path, str]:
    """Return the folders of the spools that were set aside, and why each was."""
    found = {}
    for folder in _folders(root):
        if folder.name.startswith(".") and folder.name.endswith(_REFUSED):
            reason = folder / _REFUSAL
            found[folder] = reason.read_text(encoding="utf-8") if reason.exists() else ""
    return found


def take_back(root: Path) -> None:
    """Let spools that were set aside be tried again."""
    for folder in list_refused(root):
        folder.rename(folder.with_name(folder.name.removeprefix(".").removesuffix(_REFUSED)))


def sweep(root: Path) -> None:
    """Remove what is left of spools whose removal was cut off."""
    for folder in _folders(root):
        if folder.name.startswith(".") and folder.name.endswith(_DONE):
            shutil.rmtree(folder, ignore_errors=True)


def _folders(root: Path) -> list[Path]:
    return sorted(folder for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else []


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
