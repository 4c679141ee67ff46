"""Writes everything that a home holds as plain files."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from flyball.core.errors import ConflictError
from flyball.core.files import building_folder, holding_lock
from flyball.core.hashing import digest_file
from flyball.domain.predictions.log import list_endpoints
from flyball.domain.predictions.sealing import SEAL_LOCK
from flyball.storage.catalog import TableShape, list_shapes, read_pages
from flyball.storage.db import Transaction
from flyball.storage.schema import migration_names
from flyball.storage.tables.taken import holding_stream, list_streams
from flyball.version import __version__
from flyball.workspace.archives import BLOBS, FOLDERS, FORMAT, LISTING, MANIFEST, TABLES, FileCount, Manifest, Part
from flyball.workspace.archives import TableContent as Content
from flyball.workspace.home import Home

KINDS: dict[str, Any] = {"INTEGER": pl.Int64, "REAL": pl.Float64, "TEXT": pl.String, "BLOB": pl.Binary}
_LISTED = {"path": pl.String, "size_bytes": pl.Int64, "digest": pl.String}
_PART_BYTES = 32_000_000
_PART_FILES = 100_000
_PIECE = 1 << 20


class ArchiveExistsError(ConflictError):
    """Something is at the place where an archive is to be written."""

    code = "archive/exists"

    def __init__(self, archive: Path) -> None:
        super().__init__(
            f"{str(archive)!r} exists already, and an archive never mixes with other files",
            hint="Choose another folder, or remove that one.",
        )


def export_home(home: Home, archive: Path, *, tell: Callable[[str], None] = lambda _: None) -> Manifest:
    """Write an archive that appears only when it is complete. The home may be in use meanwhile.

    Args:
        home: What to write.
        archive: A folder that is not there yet, or empty.
        tell: Is told what is being written.

    Raises:
        ArchiveExistsError: Something is there.
        DiskFullError: No space is left; the unfinished archive is removed.
    """
    if archive.is_dir() and not any(archive.iterdir()):
        archive.rmdir()
    if archive.exists():
        raise ArchiveExistsError(archive)
    with building_folder(archive) as folder, ExitStack() as stack:
        # Sealing moves predictions from open segments to Parquet files. It waits, so that each is found in one place.
        predictions = home.home / "predictions"
        for endpoint in list_endpoints(predictions):
            lock = predictions / endpoint / SEAL_LOCK
            stack.enter_context(
                holding_lock(lock, held_message="predictions are being sealed", hint="Try again in a moment.")
            )
        for table in list_streams(home.home / "streams"):
            stack.enter_context(holding_stream(table))
        tables = {}
        with home.db.read() as tx:
            sealed = _sealed_sources(tx)
            for shape in list_shapes():
                tell(shape.name)
                tables[shape.name] = _write_table(tx, shape, folder)
        # Content never changes under its name, so what the tables name is still there.
        writer = _FileWriter(home, folder, sealed, tell)
        manifest = Manifest(
            format=FORMAT,
            flyball=__version__,
            migrations=migration_names(),
            tables=tables,
            listing=_write_parts(folder, LISTING, _LISTED, writer.write()),
            files=writer.counts,
        )
        (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    return manifest


def _write_table(tx: Transaction, shape: TableShape, folder: Path) -> Content:
    schema = {column.name: KINDS[column.kind] for column in shape.columns}
    parts = _write_parts(folder, f"{TABLES}/{shape.name}", schema, read_pages(tx, shape, _PART_BYTES))
    return Content(
        rows=sum(part.rows for part in parts),
        columns={column.name: column.kind for column in shape.columns},
        parts=parts,
    )


def _write_parts(
    folder: Path, place: str, schema: dict[str, Any], pages: Iterator[list[tuple[Any, ...]]]
) -> list[Part]:
    """Write each page as a Parquet file; a table without rows has one file, which tells its columns."""
    parts: list[Part] = []
    (folder / place).mkdir(parents=True)
    for page in pages:
        parts.append(_write_part(folder, f"{place}/{len(parts):05}.parquet", schema, page))
    return parts or [_write_part(folder, f"{place}/00000.parquet", schema, [])]


def _write_part(folder: Path, path: str, schema: dict[str, Any], rows: list[tuple[Any, ...]]) -> Part:
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    frame.write_parquet(folder / path, compression="zstd")
    return Part(path, len(rows), (folder / path).stat().st_size, digest_file(folder / path))


def _sealed_sources(tx: Transaction) -> set[str]:
    return {name for (name,) in tx.tuples("SELECT name FROM prediction_sealed_source")}


class _FileWriter:
    """Copies a home's files."""

    def __init__(self, home: Home, folder: Path, sealed: set[str], tell: Callable[[str], None]) -> None:
        self._home = home
        self._folder = folder
        self._sealed = sealed
        self._tell = tell
        self.counts: dict[str, FileCount] = {}

    def write(self) -> Iterator[list[tuple[str, int, str]]]:
        """Copy all files; yield pages of path, length and digest."""
        page: list[tuple[str, int, str]] = []
        for path, size, digest in self._each():
            kind = path.partition("/")[0]
            before = self.counts.get(kind, FileCount())
            self.counts[kind] = FileCount(files=before.files + 1, size_bytes=before.size_bytes + size)
            page.append((path, size, digest))
            if len(page) == _PART_FILES:
                yield page
                page = []
        if page:
            yield page

    def _each(self) -> Iterator[tuple[str, int, str]]:
        self._tell(BLOBS)
        for digest in self._home.blobs.list_digests():
            path = f"{BLOBS}/{digest[:2]}/{digest}"
            size = self._copy_blob(digest, self._folder / path)
            yield path, size, digest
        for name in FOLDERS:
            self._tell(name)
            root = self._home.home / name
            for file in sorted(path for path in root.rglob("*") if path.is_file()):
                if self._is_wanted(file):
                    path = f"{name}/{file.relative_to(root)}"
                    yield path, *_copy(file, self._folder / path)

    def _copy_blob(self, digest: str, target: Path) -> int:
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._home.blobs.open(digest) as reader, target.open("wb") as file:
            for chunk in reader.chunks():
                file.write(chunk)
            return reader.size_bytes

    def _is_wanted(self, file: Path) -> bool:
        if file.name.startswith(".") or file.suffix == ".lock":
            return False
        return not (file.suffix == ".jsonl" and file.stem in self._sealed)


def _copy(source: Path, target: Path) -> tuple[int, str]:
    """Copy a file, which may grow meanwhile; return the length and digest of what was copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    seen, size = hashlib.sha256(), 0
    with source.open("rb") as file, target.open("wb") as copy:
        left = os.fstat(file.fileno()).st_size
        while left and (piece := file.read(min(_PIECE, left))):
            copy.write(piece)
            seen.update(piece)
            size, left = size + len(piece), left - len(piece)
    return size, seen.hexdigest()
