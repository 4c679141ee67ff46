"""Reads blobs in pieces, whether they lie in one file or are put together from parts of several."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from flyball.core.errors import BackendError
from flyball.storage.recipes import Extent, Recipe

PIECE_BYTES = 1 << 20
_MOST_FILES = 32


class BlobDamagedError(BackendError):
    """What lies on disk is not what was kept."""

    code = "storage/blob-damaged"

    def __init__(self, digest: str) -> None:
        super().__init__(
            f"the stored content {digest!r} is damaged: its bytes have another digest",
            hint="Restore the home's folder blobs from a backup, and check the disk.",
        )


class BlobReader:
    """Reads one blob in pieces; several readers do not disturb each other, threads that share one do.

    Args:
        digest: Of the blob.
        load: Returns what it is made of; asked again when a file of it is gone, as `flyball gc` may have put its live
            parts into a new one.
        open_file: Returns a descriptor of a file by its digest.

    Attributes:
        size_bytes: Of the whole blob.
    """

    def __init__(self, digest: str, load: Callable[[], Recipe], open_file: Callable[[str], int]) -> None:
        self._digest = digest
        self._load = load
        self._open_file = open_file
        self._files: dict[str, int] = {}
        self.recipe = load()
        self.size_bytes = self.recipe.size_bytes

    @classmethod
    def of_file(cls, path: Path, digest: str) -> Self:
        """Return a reader of a file that lies anywhere, such as in a package.

        Raises:
            FileNotFoundError: It is gone.
        """
        return cls(
            digest,
            lambda: Recipe([Extent(digest, 0, path.stat().st_size)]),
            lambda _: os.open(path, os.O_RDONLY | os.O_CLOEXEC),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.popitem()[1])

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from ``start`` to before ``stop``, or to the end; they are not checked.

        Raises:
            BlobDamagedError: Some of them are not there.
        """
        try:
            return self._read(start, stop)
        except FileNotFoundError:
            self.recipe = self._load()
        try:
            return self._read(start, stop)
        except FileNotFoundError as error:
            raise BlobDamagedError(self._digest) from error

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield bytes in pieces; all of it is checked: the last piece comes only if the digest is right.

        Raises:
            BlobDamagedError: The bytes have another digest.
        """
        end = self.size_bytes if stop is None else min(stop, self.size_bytes)
        check = hashlib.sha256() if (start, end) == (0, self.size_bytes) else None
        for position in range(start, end, PIECE_BYTES):
            data = self.read(position, min(end, position + PIECE_BYTES))
            if check is not None:
                check.update(data)
                if position + len(data) == end and check.hexdigest() != self._digest:
                    raise BlobDamagedError(self._digest)
            yield data

    def _read(self, start: int, stop: int) -> bytes:
        parts = []
        for extent in self.recipe.within(start, stop):
            data = os.pread(self._file(extent.source), extent.length, extent.offset)
            if len(data) != extent.length:
                raise BlobDamagedError(self._digest)
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _file(self, digest: str) -> int:
        file = self._files.get(digest)
        if file is None:
            if len(self._files) == _MOST_FILES:
                os.close(self._files.pop(next(iter(self._files))))
            file = self._files[digest] = self._open_file(digest)
        return file
