"""Files that are either whole or absent, and locks that end with their process."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from flyball.core.errors import BackendError, ConflictError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,  # where a folder is to be, a file lies
    errno.ENAMETOOLONG,
    errno.EMFILE,
    errno.ENFILE,
    errno.EIO,
}


class DiskFullError(BackendError):
    """There is no room left for a file; nothing half-written remains."""

    code = "flyball/disk-full"

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(
            "no space is left" + ("" if path is None else f" to write {path.name!r} in {str(path.parent)!r}"),
            hint="Free some space and run the same command again; what was complete is kept.",
        )


class FileRefusedError(BackendError):
    """The system does not let a file or folder be read or written."""

    code = "flyball/file-refused"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"{path!r} cannot be read or written: {reason}",
            hint="Name another place, or see who owns it and whether its disk may be written.",
        )


def find_refusal(error: OSError) -> BackendError | None:
    """Return what the system's refusal of a file means to a person; None where it may be a mistake of ours."""
    path = None if error.filename is None else os.fsdecode(error.filename)
    if is_disk_full(error):
        return DiskFullError(None if path is None else Path(path))
    if path is None or error.errno not in _REFUSED:
        return None
    return FileRefusedError(path, os.strerror(error.errno))


def is_refused(reason: str) -> bool:
    """Tell whether a library's words are those of the system for a place that may not be read or written."""
    return any(os.strerror(number) in reason for number in (errno.EACCES, errno.EPERM, errno.EROFS))


def is_disk_full(error: OSError) -> bool:
    """Tell whether the system refused to write because there is no room left."""
    return error.errno in _NO_SPACE


@contextmanager
def writing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Write a file that appears under its name only when the block ends without an error.

    Raises:
        DiskFullError: No space is left; the unfinished file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        unfinished.replace(path)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        raise (DiskFullError(path) if is_disk_full(error) else error) from error
    finally:
        unfinished.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes | memoryview, *, durable: bool = True) -> None:
    """Write a whole file or nothing. See `writing`."""
    with writing(path, durable=durable) as file:
        file.write(data)


@contextmanager
def building_folder(path: Path) -> Iterator[Path]:
    """Fill a folder that appears under its name only when the block ends without an error.

    The yielded folder lies beside ``path``. If ``path`` exists already at the end, the new one is dropped:
    callers use content-addressed names, so both hold the same.

    Raises:
        DiskFullError: No space is left; the unfinished folder is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    unfinished.mkdir()
    try:
        yield unfinished
        for file in unfinished.rglob("*"):
            if file.is_file():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
        if not path.exists():
            unfinished.replace(path)
            sync_folder(path.parent)
    except OSError as error:
        raise (DiskFullError(path) if is_disk_full(error) else error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def sync_folder(path: Path) -> None:
    """Make renames inside a folder durable."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def holding_lock(path: Path, *, held_message: str, hint: str = "") -> Iterator[None]:
    """Hold an exclusive lock on a file; the kernel releases it when the process ends, however it ends.

    Raises:
        ConflictError: Another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(held_message, hint=hint) from error
        yield
