"""Blobs in pieces: written while they come in, read while they go out."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from flyball.core.errors import BackendError
from flyball.core.files import DiskFullError, is_disk_full, sync_folder

PIECE_BYTES = 1 << 20


class BlobDamagedError(BackendError):
    """What lies on disk is not what was kept."""

    code = "storage/blob-damaged"

    def __init__(self, digest: str) -> None:
        super().__init__(
            f"the stored content {digest!r} is damaged: its bytes have another digest",
            hint="Restore the home's folder blobs from a backup, and check the disk.",
        )


class BlobWriter:
    """Takes a blob in pieces.

    Args:
        unfinished: Where to write, on the file system of the blobs.
        place: Where a blob of a digest lies.

    Attributes:
        size_bytes: How much was written.
    """

    def __init__(self, unfinished: Path, place: Callable[[str], Path]) -> None:
        self._path = unfinished
        self._place = place
        self._file = unfinished.open("wb", buffering=0)
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes.

        Raises:
            DiskFullError: No space is left.
        """
        self._hash.update(data)
        self.size_bytes += len(data)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as error:
            raise (DiskFullError(self._path) if is_disk_full(error) else error) from error

    def finish(self) -> str:
        """Make the blob durable and visible, and return its digest."""
        digest = self._hash.hexdigest()
        target = self._place(digest)
        if not target.exists():
            os.fsync(self._file.fileno())
            target.parent.mkdir(parents=True, exist_ok=True)
            self._path.replace(target)
            sync_folder(target.parent)
        self.close()
        return digest

    def close(self) -> None:
        """Remove what was not finished."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class BlobReader:
    """Reads one blob in pieces; several readers do not disturb each other.

    Attributes:
        size_bytes: Of the whole blob.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self._file = path.open("rb", buffering=0)
        self._digest = digest
        self.size_bytes = os.fstat(self._file.fileno()).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield bytes in pieces; all of it is checked: the last piece comes only if the digest is right.

        Raises:
            BlobDamagedError: The bytes have another digest.
        """
        end = self.size_bytes if stop is None else stop
        check = hashlib.sha256() if (start, end) == (0, self.size_bytes) else None
        position = start
        while position < end:
            data = os.pread(self._file.fileno(), min(PIECE_BYTES, end - position), position)
            if not data:
                raise BlobDamagedError(self._digest)
            position += len(data)
            if check is not None:
                check.update(data)
                if position == end and check.hexdigest() != self._digest:
                    raise BlobDamagedError(self._digest)
            yield data
