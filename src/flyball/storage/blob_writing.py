"""Writes blobs in pieces; what other blobs have already is not stored again.

The bytes are cut where their content says so (FastCDC), so that an insertion moves no cut but its neighbours. A chunk
that some blob has is named rather than stored. What lies between such chunks is laid beside the same place of that
blob, so that of a changed chunk only the changed bytes are stored. `docs/decisions` says why.
"""

import hashlib
import os
from array import array
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from flyball.core.errors import BackendUnavailableError, NotFoundError
from flyball.core.files import DiskFullError, is_disk_full, sync_folder, write_bytes
from flyball.storage.alignment import Stretch, common_stretches, fill_gaps
from flyball.storage.blob_reading import BlobDamagedError, BlobReader
from flyball.storage.chunk_index import KEY_BYTES, ChunkIndex, ChunkPlace
from flyball.storage.recipes import Extent, Recipe

if TYPE_CHECKING:
    from pyfastcdc import FastCDC

SMALL_BYTES = 256 << 10
"""A blob up to this size is one file: a recipe would save little, and small files are the many."""
_CHUNK_BYTES = 16 << 10
_WINDOW_BYTES = 1 << 20
_SYNC_BYTES = 32 << 20
_MOST_OWN_CHUNKS = 1 << 16
_MOST_BASES = 8
_OWN = ""
"""The source of a recipe that is the file being written: its name is known at the end."""


class BaseRemovedError(BackendUnavailableError):
    """A blob took longer to write than others are kept that nothing names, and one whose bytes it shares is gone."""

    code = "storage/base-removed"

    def __init__(self) -> None:
        super().__init__(
            "bytes that this content shares with others were removed as garbage while it came in",
            hint="Send it again; collect garbage with a longer --grace.",
        )


class BlobFiles(Protocol):
    """Where blobs lie."""

    def index(self) -> ChunkIndex:
        """Open what tells which blob has which chunk."""
        ...

    def unfinished(self) -> Path:
        """Return a fresh name for a file that is being written."""
        ...

    def place(self, digest: str) -> Path:
        """Return where a blob lies that is one file."""
        ...

    def recipe_place(self, digest: str) -> Path:
        """Return where the recipe of a blob lies."""
        ...

    def has(self, digest: str) -> bool:
        """Tell whether a blob is there, and keep it from being removed as unused for a while."""
        ...

    def has_file(self, digest: str) -> bool:
        """Tell whether a blob is there as one file, and keep it as `has` does."""
        ...

    def open_base(self, digest: str) -> BlobReader | None:
        """Open a blob whose bytes another one is going to share; None where it is gone."""
        ...


class FileWriter:
    """Takes the bytes of one file, and gives it its place when it is whole.

    Args:
        unfinished: Where to write, on the file system of its place.
    """

    def __init__(self, unfinished: Path) -> None:
        self._path = unfinished
        self._file = unfinished.open("wb", buffering=0)
        self.size_bytes = 0

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes.

        Raises:
            DiskFullError: No space is left.
        """
        self.size_bytes += len(data)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as error:
            raise (DiskFullError(self._path) if is_disk_full(error) else error) from error

    def sync(self) -> None:
        """Bring what was written so far to the disk; may be called in another thread while more is written."""
        os.fdatasync(self._file.fileno())

    def digest(self) -> "hashlib._Hash":
        """Return the SHA-256 of what was written so far, to go on with."""
        digest = hashlib.sha256()
        with self._path.open("rb") as written:
            while data := written.read(_WINDOW_BYTES):
                digest.update(data)
        return digest

    def finish(self, target: Path, *, makes_folder: bool = True) -> None:
        """Make the file durable and visible.

        Raises:
            FileNotFoundError: It is gone, or the target's folder is and is not to be made.
        """
        os.fsync(self._file.fileno())
        if makes_folder:
            target.parent.mkdir(parents=True, exist_ok=True)
        self._path.replace(target)
        sync_folder(target.parent)
        self.close()

    def close(self) -> None:
        """Remove what was not finished."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class BlobWriter:
    """Takes a blob in pieces, in bounded memory.

    Attributes:
        size_bytes: How much was written.
        stored_bytes: How much of it had to be stored, known when it is finished.
    """

    def __init__(self, files: BlobFiles) -> None:
        self._files = files
        self._pack = FileWriter(files.unfinished())
        self._index = files.index()
        self._whole = hashlib.sha256()
        self._packed: hashlib._Hash | None = None  # of the file, once it is not the whole any more
        # Hashing and waiting for the disk leave the interpreter to others: they go on beside the cutting.
        self._aside: ThreadPoolExecutor | None = None
        self._hashing: Future[None] | None = None
        self._syncing: Future[None] | None = None
        self._synced = 0
        self._recipe = Recipe()
        self._buffer = bytearray()
        self._cutter: FastCDC | None = None
        self._keys, self._lengths = bytearray(), array("L")
        self._own: dict[bytes, int] = {}
        self._run = bytearray()
        self._before: tuple[str, int] | None = None
        self._bases: dict[str, BlobReader] = {}
        self.size_bytes = 0
        self.stored_bytes = 0

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
        self.size_bytes += len(data)
        self._buffer += data
        if len(self._buffer) >= _WINDOW_BYTES:
            self._cut(is_last=False)

    def finish(self) -> str:
        """Make the blob durable and visible, and return its digest.

        Raises:
            DiskFullError: No space is left.
            BaseRemovedError: What it shares with another was removed meanwhile; written again, it shares nothing.
        """
        if self.size_bytes <= SMALL_BYTES:
            self._whole.update(self._buffer)
            self._store(memoryview(self._buffer))
        else:
            self._cut(is_last=True)
            self._end_run(None)
            self._wait()
        digest = self._whole.hexdigest()
        if not self._files.has(digest):
            self.stored_bytes = self._pack.size_bytes
            if self._packed is None:
                self._pack.finish(self._files.place(digest))
            else:
                self._finish_recipe(digest, self._packed.hexdigest())
            if self._cutter is not None:
                self._index.put(digest, self._chunks())
        self.close()
        return digest

    def close(self) -> None:
        """Remove what was not finished."""
        if self._aside is not None:
            self._aside.shutdown()
        self._index.close()
        self._pack.close()
        while self._bases:
            self._bases.popitem()[1].close()

    def _finish_recipe(self, digest: str, pack: str) -> None:
        # They were marked as used when the first byte was shared, which may have been long ago.
        if not all(self._files.has_file(source) for source in self._recipe.sources if source != _OWN):
            raise BaseRemovedError
        if self._pack.size_bytes and not self._files.has(pack):
            self._pack.finish(self._files.place(pack))
        extents = [Extent(extent.source or pack, extent.offset, extent.length) for extent in self._recipe]
        data = Recipe(extents).encode()
        write_bytes(self._files.recipe_place(digest), data)
        self.stored_bytes += len(data)

    def _chunks(self) -> Iterator[tuple[bytes, int, int]]:
        start = 0
        for place, length in enumerate(self._lengths):
            yield bytes(self._keys[place * KEY_BYTES : (place + 1) * KEY_BYTES]), start, length
            start += length

    def _cut(self, *, is_last: bool) -> None:
        if self._cutter is None:
            from pyfastcdc import FastCDC

            self._cutter = FastCDC(_CHUNK_BYTES)
            self._aside = ThreadPoolExecutor(2, thread_name_prefix="blob")
        data = bytes(self._buffer)
        view = memoryview(data)
        cuts = [(chunk.offset, chunk.length) for chunk in self._cutter.cut_buf(data)]
        if not is_last:
            cuts.pop()  # it ends with what has come so far, not where its content says so
        consumed = sum(length for _, length in cuts)
        self._hash_aside(view[:consumed])
        keys = [hashlib.sha256(view[start : start + length]).digest()[:KEY_BYTES] for start, length in cuts]
        known = self._index.find(keys)
        position = self._recipe.size_bytes + len(self._run)
        for (start, length), key in zip(cuts, keys, strict=True):
            self._keys += key
            self._lengths.append(length)
            self._take(key, view[start : start + length], known.get(key))
            if len(self._own) < _MOST_OWN_CHUNKS:
                self._own.setdefault(key, position)
            position += length
        self._buffer = bytearray(view[consumed:])

    def _take(self, key: bytes, chunk: memoryview, known: ChunkPlace | None) -> None:
        base = self._base(known.blob) if known is not None and known.length == len(chunk) else None
        # A file that lost its end has another length than it had when its chunks were noted.
        if known is not None and base is not None and known.start + len(chunk) <= base.size_bytes:
            self._end_run((known.blob, known.start))
            self._share(len(chunk), base.recipe, known.start)
            self._before = (known.blob, known.start + len(chunk))
            return
        own = self._own.get(key)
        if own is not None:
            self._end_run(None)
            self._share(len(chunk), self._recipe, own)
            self._before = None
            return
        self._run += chunk
        if len(self._run) >= _WINDOW_BYTES:
            self._end_run(None)

    def _end_run(self, after: tuple[str, int] | None) -> None:
        """Store new bytes, but for what lies at the same place of the blobs before and after them."""
        if not self._run:
            return
        run = bytes(self._run)
        self._run.clear()
        found = self._lay_beside(run, after)
        view, position = memoryview(run), 0
        for stretch in found:
            self._store(view[position : stretch.start])
            self._share(stretch.stop - stretch.start, self._bases[stretch.blob].recipe, stretch.place)
            position = stretch.stop
        self._store(view[position:])
        # Where most of it was the same, what follows is likely to be so too.
        is_along = sum(stretch.stop - stretch.start for stretch in found) * 2 >= len(run)
        self._before = (self._before[0], self._before[1] + len(run)) if self._before and is_along else None

    def _lay_beside(self, run: bytes, after: tuple[str, int] | None) -> list[Stretch]:
        found: list[Stretch] = []
        if self._before is not None:
            blob, place = self._before
            found = common_stretches(run, 0, self._read_base(blob, place, place + len(run)), blob, place)
        is_other = self._before is None or after != (self._before[0], self._before[1] + len(run))
        if after is not None and is_other:
            blob, place = after[0], max(0, after[1] - len(run))
            old = self._read_base(blob, place, after[1])
            found = fill_gaps(found, common_stretches(run, len(run) - len(old), old, blob, place))
        return [stretch for stretch in found if stretch.blob in self._bases]

    def _store(self, data: memoryview) -> None:
        if data:
            self._recipe.add(Extent(_OWN, self._pack.size_bytes, len(data)))
            if self._packed is not None:
                self._packed.update(data)
            self._pack.write(data)
            self._sync_aside()

    def _share(self, length: int, recipe: Recipe, start: int) -> None:
        if self._packed is None:
            self._packed = self._pack.digest()
        for extent in list(recipe.within(start, start + length)):
            self._recipe.add(extent)

    def _hash_aside(self, data: memoryview) -> None:
        self._wait()
        if self._aside is not None:
            self._hashing = self._aside.submit(self._whole.update, data)

    def _sync_aside(self) -> None:
        if self._aside is None or self._pack.size_bytes - self._synced < _SYNC_BYTES:
            return
        if self._syncing is not None:
            self._syncing.result()
        self._synced = self._pack.size_bytes
        self._syncing = self._aside.submit(self._pack.sync)

    def _wait(self) -> None:
        if self._hashing is not None:
            self._hashing.result()

    def _read_base(self, blob: str, start: int, stop: int) -> bytes:
        """Return bytes of another blob; none where it is gone or damaged, which is no reason to refuse this one."""
        base = self._base(blob)
        try:
            return b"" if base is None else base.read(start, stop)
        except (NotFoundError, BlobDamagedError):
            self._bases.pop(blob).close()
            self._index.forget([blob])
            return b""

    def _base(self, blob: str) -> BlobReader | None:
        found = self._bases.pop(blob, None)
        if found is None:
            found = self._files.open_base(blob)
            if found is None:
                self._index.forget([blob])
                return None
        self._bases[blob] = found  # the last one used is the last to go
        if len(self._bases) > _MOST_BASES:
            self._bases.pop(next(iter(self._bases))).close()
        return found
