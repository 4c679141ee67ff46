"""Content-addressed bytes: a blob's name is the SHA-256 of what it holds."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from flyball.core.errors import BackendError, NotFoundError
from flyball.core.files import write_bytes, writing
from flyball.core.hashing import digest_bytes, digest_file
from flyball.storage.blob_streams import PIECE_BYTES, BlobReader, BlobWriter

__all__ = ["PIECE_BYTES", "BlobReader", "BlobStore", "BlobWriter", "LocalBlobStore"]

_DIGEST_SIGNS = 64


class BlobStore(Protocol):
    """Keeps immutable bytes by their digest. Putting the same bytes twice keeps them once."""

    def put_bytes(self, data: bytes | memoryview) -> str:
        """Keep bytes and return their digest."""
        ...

    def put_file(self, path: Path) -> str:
        """Keep a copy of a file, in bounded memory, and return its digest."""
        ...

    def has(self, digest: str) -> bool:
        """Tell whether a blob is there."""
        ...

    def path(self, digest: str) -> Path:
        """Return a local file with the blob's bytes, for reading only (it may be memory-mapped).

        Raises:
            NotFoundError: There is no such blob.
        """
        ...


class LocalBlobStore:
    """Implements `BlobStore` as files of a folder: ``ab/abcdef…``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def root(self) -> Path:
        """The folder."""
        return self._root

    def put_bytes(self, data: bytes | memoryview) -> str:
        """See `BlobStore.put_bytes`."""
        digest = digest_bytes(data)
        target = self._place(digest)
        if not target.exists():
            write_bytes(target, data)
        return digest

    def put_file(self, path: Path) -> str:
        """See `BlobStore.put_file`.

        Raises:
            BackendError: The file changed while it was read.
        """
        digest = digest_file(path)
        target = self._place(digest)
        if not target.exists():
            with writing(target) as file, path.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)
            if digest_file(target) != digest:
                target.unlink()
                raise BackendError(f"{str(path)!r} changed while it was copied", hint="Run it again.")
        return digest

    def adopt(self, path: Path) -> str:
        """Take over a finished file of the same file system by renaming it, and return its digest.

        Costs no copy; the caller gives the file up.
        """
        digest = digest_file(path)
        target = self._place(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            path.unlink()
        else:
            path.replace(target)
        return digest

    def adopt_as(self, path: Path, digest: str) -> bool:
        """Take over a finished file if it has the digest; see `adopt`. Returns whether it has."""
        return digest_file(path) == digest and bool(self.adopt(path))

    def writing(self) -> BlobWriter:
        """Return what takes a blob in pieces, in bounded memory; nothing is there before its `finish`.

        It is a context manager, which removes what was not finished.
        """
        return BlobWriter(self.unfinished(), self._place)

    def open(self, digest: str) -> BlobReader:
        """Open a blob for reading in pieces.

        Raises:
            NotFoundError: There is no such blob.
        """
        return BlobReader(self.path(digest), digest)

    def list_digests(self) -> Iterator[str]:
        """Yield the digests of all blobs, sorted."""
        folders = sorted(entry for entry in self._root.glob("[0-9a-f][0-9a-f]") if entry.is_dir())
        for folder in folders:
            yield from sorted(entry.name for entry in folder.iterdir() if len(entry.name) == _DIGEST_SIGNS)

    def unfinished(self) -> Path:
        """Return a fresh name on the store's file system, to write a file for `adopt`."""
        folder = self._root / "unfinished"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{os.getpid()}-{os.urandom(6).hex()}"

    @property
    def uploads(self) -> Path:
        """The folder of uploads in parts."""
        return self._root / "uploads"

    def unfinished_upload(self) -> Path:
        """Make a folder for the parts of an upload; its name is a secret of whoever may add to it."""
        folder = self.uploads / os.urandom(16).hex()
        folder.mkdir(parents=True)
        return folder

    def has(self, digest: str) -> bool:
        """See `BlobStore.has`."""
        return self._place(digest).exists()

    def path(self, digest: str) -> Path:
        """See `BlobStore.path`."""
        found = self._place(digest)
        if not found.exists():
            raise NotFoundError(f"no stored content has the digest {digest!r}")
        return found

    def _place(self, digest: str) -> Path:
        return self._root / digest[:2] / digest
