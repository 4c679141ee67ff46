"""Content-addressed bytes: a blob's name is the SHA-256 of what it holds."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from flyball.core.errors import BackendError, NotFoundError
from flyball.core.files import write_bytes, writing
from flyball.core.hashing import digest_bytes, digest_file
from flyball.storage.blob_reading import PIECE_BYTES, BlobReader
from flyball.storage.chunk_index import ChunkIndex
from flyball.storage.recipes import Extent, Recipe

if TYPE_CHECKING:
    from flyball.storage.blob_writing import BlobWriter

__all__ = ["PIECE_BYTES", "BlobReader", "BlobStore", "LocalBlobStore"]

RECIPE_SUFFIX = ".recipe"
_DIGEST_SIGNS = 64


class BlobNotFoundError(NotFoundError):
    """No content of that digest is stored."""

    code = "storage/blob-not-found"

    def __init__(self, digest: str) -> None:
        super().__init__(f"no stored content has the digest {digest!r}")


class BlobStore(Protocol):
    """Keeps immutable bytes by their digest. Putting the same bytes twice keeps them once."""

    def put_bytes(self, data: bytes | memoryview) -> str:
        """Keep bytes and return their digest."""
        ...

    def put_file(self, path: Path) -> str:
        """Keep a copy of a file, in bounded memory, and return its digest."""
        ...

    def has(self, digest: str) -> bool:
        """Tell whether a blob is there, and keep it from being collected as garbage for a while."""
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
        target = self.place(digest)
        if not self._touch(target):
            write_bytes(target, data)
        return digest

    def put_file(self, path: Path) -> str:
        """See `BlobStore.put_file`.

        Raises:
            BackendError: The file changed while it was read.
        """
        digest = digest_file(path)
        target = self.place(digest)
        if not self._touch(target):
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
        target = self.place(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        if self._touch(target):
            path.unlink()
        else:
            path.replace(target)
            os.utime(target)
        return digest

    def adopt_as(self, path: Path, digest: str) -> bool:
        """Take over a finished file if it has the digest; see `adopt`. Returns whether it has."""
        return digest_file(path) == digest and bool(self.adopt(path))

    def writing(self) -> "BlobWriter":
        """Return what takes a blob in pieces, in bounded memory; nothing is there before its `finish`.

        It is a context manager, which removes what was not finished. Of a large blob only those bytes are stored that
        no other blob has that was written this way; `open` reads either kind, `path` puts the blob together first.
        """
        # What compares and cuts is loaded where something is written so: an unchanged run never does.
        from flyball.storage.blob_writing import BlobWriter

        return BlobWriter(self)

    def open(self, digest: str) -> BlobReader:
        """Open a blob for reading in pieces.

        Raises:
            NotFoundError: There is no such blob.
        """
        return BlobReader(digest, lambda: self._load(digest), self._open_file)

    def open_base(self, digest: str) -> BlobReader | None:
        """See `BlobFiles.open_base`."""
        try:
            reader = BlobReader(digest, lambda: self._load(digest, prefer_recipe=True), self._open_file)
        except NotFoundError:
            return None
        return reader if all(self._touch(self.place(source)) for source in reader.recipe.sources) else None

    def index(self) -> ChunkIndex:
        """See `BlobFiles.index`."""
        return ChunkIndex(self._root / "chunks.db")

    def list_digests(self) -> Iterator[str]:
        """Yield the digests of all blobs, sorted; also of files that are only parts of others."""
        folders = sorted(entry for entry in self._root.glob("[0-9a-f][0-9a-f]") if entry.is_dir())
        for folder in folders:
            names = {entry.name.removesuffix(RECIPE_SUFFIX) for entry in folder.iterdir()}
            yield from sorted(name for name in names if len(name) == _DIGEST_SIGNS)

    def now(self) -> float:
        """Return the present as the file system tells it, in seconds: that by which it is told when blobs were used."""
        mark = self.unfinished()
        mark.touch()
        try:
            return mark.stat().st_mtime
        finally:
            mark.unlink()

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

    def has_file(self, digest: str) -> bool:
        """Tell whether a blob is there as one file. See `has`."""
        return self._touch(self.place(digest))

    def has(self, digest: str) -> bool:
        """See `BlobStore.has`."""
        if self._touch(self.place(digest)):
            return True
        recipe = self.recipe_place(digest)
        return self._touch(recipe) and all(
            self._touch(self.place(source)) for source in Recipe.decode(recipe.read_bytes(), recipe.name).sources
        )

    def path(self, digest: str) -> Path:
        """See `BlobStore.path`."""
        found = self.place(digest)
        if not self._touch(found):
            with self.open(digest) as reader, writing(found) as file:
                for chunk in reader.chunks():
                    file.write(chunk)
        return found

    def place(self, digest: str) -> Path:
        """See `BlobFiles.place`."""
        return self._root / digest[:2] / digest

    def recipe_place(self, digest: str) -> Path:
        """See `BlobFiles.recipe_place`."""
        return self._root / digest[:2] / f"{digest}{RECIPE_SUFFIX}"

    def _load(self, digest: str, *, prefer_recipe: bool = False) -> Recipe:
        file, recipe = self.place(digest), self.recipe_place(digest)
        if file.exists() and not (prefer_recipe and recipe.exists()):
            return Recipe([Extent(digest, 0, file.stat().st_size)])
        try:
            return Recipe.decode(recipe.read_bytes(), recipe.name)
        except FileNotFoundError as error:
            raise BlobNotFoundError(digest) from error

    def _open_file(self, digest: str) -> int:
        return os.open(self.place(digest), os.O_RDONLY | os.O_CLOEXEC)

    def _touch(self, path: Path) -> bool:
        """Tell whether a file is there, and mark it as used now: `flyball gc` leaves what was used lately."""
        try:
            os.utime(path)
        except FileNotFoundError:
            return False
        return True
