"""Removes blobs that nothing refers to, while other processes go on writing and reading.

A writer marks each file that it is going to refer to as used now (`LocalBlobStore.has`, `put_bytes`, …). A file goes
only if it was not used since a while before the references were read. It is renamed first and looked at again then: a
writer that came before the rename has marked it, and it is put back; one that comes after it finds no file, and writes
its own.
"""

import hashlib
import os
import shutil
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from flyball.core.files import write_bytes
from flyball.storage.blob_writing import FileWriter
from flyball.storage.blobs import RECIPE_SUFFIX, LocalBlobStore
from flyball.storage.recipes import Extent, Recipe

_MOSTLY_DEAD = 0.5
"""A file of which less than this share is part of a blob is written anew with what is: waste stays below the data."""
_PIECE_BYTES = 1 << 20


class Swept(msgspec.Struct, kw_only=True):
    """What went, or would go.

    Attributes:
        blobs: Contents that nothing referred to.
        parts: Files of parts that no blob had any more, or mostly not; what was still in use of them was moved.
        copies: Blobs of parts that had been put together for a reader, and can be again.
        unfinished: Uploads in parts that were never completed, and files whose writers ended before them.
        freed_bytes: Of all of them, less what was written anew.
    """

    blobs: int = 0
    parts: int = 0
    copies: int = 0
    unfinished: int = 0
    freed_bytes: int = 0


class Sweep:
    """One clearing of a store. Only one may run at a time.

    Args:
        blobs: The store.
        cutoff: What was used at this time of its file system (seconds) or later stays.
        is_dry: Only count.
    """

    def __init__(self, blobs: LocalBlobStore, cutoff: float, *, is_dry: bool = False) -> None:
        self._blobs = blobs
        self._cutoff = cutoff
        self._is_dry = is_dry
        self._swept = Swept()
        self._gone: list[str] = []
        self._hidden: list[Path] = []

    def run(self, referenced: Collection[str], whole: Collection[str] = ()) -> Swept:
        """Remove all but what is referenced, what it is made of, and what was used lately.

        Args:
            referenced: Digests of the blobs that something names.
            whole: Those of them that are opened by path, so that a copy in one file is no waste.
        """
        files, recipes = self._list()
        kept = {
            digest: recipe
            for digest, path in recipes.items()
            if (digest in referenced or self._is_used(path)) and (recipe := _read(path)) is not None
        }
        for digest, path in recipes.items():
            if digest not in kept:
                self._count("blobs", digest, self._remove(path))
        parts = _live_parts(kept)
        for digest, path in files.items():
            if digest in whole:
                continue
            if digest in kept and digest not in parts:
                self._count("copies", "", self._remove(path))
            elif digest not in referenced and digest not in kept and digest not in parts:
                self._count("blobs", digest, self._remove(path))
            elif digest not in referenced and digest in parts:
                self._move_live(digest, path, parts[digest], kept)
        self._remove_unfinished()
        if self._gone and not self._is_dry:
            with closing(self._blobs.index()) as index:
                index.forget(self._gone)
        return self._swept

    def _list(self) -> tuple[dict[str, Path], dict[str, Path]]:
        files, recipes = {}, {}
        for folder in sorted(self._blobs.root.glob("[0-9a-f][0-9a-f]")):
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                if entry.name.endswith(RECIPE_SUFFIX):
                    recipes[entry.name.removesuffix(RECIPE_SUFFIX)] = Path(entry.path)
                elif entry.name.startswith("."):
                    self._hidden.append(Path(entry.path))
                else:
                    files[entry.name] = Path(entry.path)
        return files, recipes

    def _count(self, kind: str, digest: str, freed_bytes: int | None) -> None:
        if freed_bytes is None:
            return
        setattr(self._swept, kind, getattr(self._swept, kind) + 1)
        self._swept.freed_bytes += freed_bytes
        if digest:
            self._gone.append(digest)

    def _is_used(self, path: Path) -> bool:
        try:
            return path.stat().st_mtime >= self._cutoff
        except FileNotFoundError:
            return False

    def _remove(self, path: Path) -> int | None:
        """Remove a file unless it was used lately; return its size, or None where it stays."""
        if self._is_used(path):
            return None
        if self._is_dry:
            return _size(path)
        aside = self._blobs.unfinished()
        try:
            path.rename(aside)
        except FileNotFoundError:
            return None
        if self._is_used(aside):
            if path.exists():
                aside.unlink()
            else:
                aside.rename(path)
            return None
        size = aside.stat().st_size
        aside.unlink()
        return size

    def _move_live(self, digest: str, path: Path, live: list[tuple[int, int]], kept: dict[str, Recipe]) -> None:
        """Write what is in use of a file that is mostly not into a new one, and remove it."""
        size = path.stat().st_size
        live_bytes = sum(stop - start for start, stop in live)
        if live_bytes >= size * _MOSTLY_DEAD or self._is_used(path):
            return
        if self._is_dry:
            self._count("parts", digest, size - live_bytes)
            return
        moved, target = self._copy(path, live)
        starts = sorted(moved)
        for name, recipe in kept.items():
            if digest in recipe.sources:
                again = Recipe([_moved(extent, digest, target, starts, moved) for extent in recipe])
                write_bytes(self._blobs.recipe_place(name), again.encode())
                kept[name] = again
        removed = self._remove(path)
        self._count("parts", digest, None if removed is None else removed - live_bytes)

    def _copy(self, path: Path, live: list[tuple[int, int]]) -> tuple[dict[int, int], str]:
        """Write parts of a file into a new one; return where each begins in it, by where it began, and its digest."""
        moved: dict[int, int] = {}
        digest = hashlib.sha256()
        writer = FileWriter(self._blobs.unfinished())
        try:
            with path.open("rb") as file:
                for start, stop in live:
                    moved[start] = writer.size_bytes
                    file.seek(start)
                    for size in _pieces(stop - start):
                        data = file.read(size)
                        digest.update(data)
                        writer.write(data)
            writer.finish(self._blobs.place(digest.hexdigest()))
        finally:
            writer.close()
        return moved, digest.hexdigest()

    def _remove_unfinished(self) -> None:
        folders = [self._blobs.unfinished().parent, self._blobs.uploads]
        for entry in [path for folder in folders if folder.exists() for path in folder.iterdir()] + self._hidden:
            files = [path for path in entry.rglob("*") if path.is_file()] if entry.is_dir() else [entry]
            if any(map(self._is_used, [entry, *files])):
                continue
            self._count("unfinished", "", sum(_size(file) for file in files))
            if not self._is_dry:
                shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)


def _read(path: Path) -> Recipe | None:
    try:
        return Recipe.decode(path.read_bytes(), path.name)
    except FileNotFoundError:
        return None


def _live_parts(kept: dict[str, Recipe]) -> dict[str, list[tuple[int, int]]]:
    """Return of each file the parts that some recipe names, merged, in order."""
    found: dict[str, list[tuple[int, int]]] = {}
    for recipe in kept.values():
        for extent in recipe:
            found.setdefault(extent.source, []).append((extent.offset, extent.offset + extent.length))
    return {source: _merge(parts) for source, parts in found.items()}


def _merge(parts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(parts):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def _moved(extent: Extent, source: str, target: str, starts: list[int], moved: dict[int, int]) -> Extent:
    if extent.source != source:
        return extent
    start = starts[bisect_right(starts, extent.offset) - 1]
    return Extent(target, moved[start] + extent.offset - start, extent.length)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _pieces(size: int) -> Iterator[int]:
    while size > 0:
        yield min(size, _PIECE_BYTES)
        size -= _PIECE_BYTES
