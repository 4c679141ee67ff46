"""Brings an archive of a home back into an empty one."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import polars as pl

from flyball.core.errors import ConflictError
from flyball.core.files import writing
from flyball.core.hashing import digest_file
from flyball.storage.catalog import TableShape, clear_table, count_rows, insert_rows, list_shapes
from flyball.storage.db import Transaction
from flyball.storage.schema import migration_names
from flyball.workspace.archives import (
    BLOBS,
    FOLDERS,
    ArchiveDamagedError,
    ArchiveInvalidError,
    Manifest,
    Part,
    TableContent,
    read_manifest,
)
from flyball.workspace.exporting import KINDS
from flyball.workspace.home import Home

_ROWS_AT_ONCE = 50_000
_PIECE = 1 << 20


class HomeNotEmptyError(ConflictError):
    """A home that an archive is to be brought into has content."""

    code = "archive/home-not-empty"

    def __init__(self, home: Path, table: str) -> None:
        super().__init__(
            f"the home {str(home)!r} has content already (the table {table} has rows), and nothing is mixed into it",
            hint="Name another folder with --home.",
        )


def restore_home(archive: Path, home: Home, *, tell: Callable[[str], None] = lambda _: None) -> Manifest:
    """Fill an empty home from an archive.

    Every file is checked by its digest. The files come first, then all rows in one transaction: whatever ends this
    before, the home is still empty, and the same call goes on.

    Raises:
        ArchiveInvalidError: The folder is no archive, or of another schema.
        ArchiveDamagedError: A file of it is missing or not what was written.
        HomeNotEmptyError: The home has content.
    """
    manifest = read_manifest(archive)
    _check_schema(manifest)
    with home.db.read() as tx:
        _check_empty(tx, home.home)
    for part in manifest.listing:
        for path, size_bytes, digest in _read_part(archive, part).iter_rows():
            _restore_file(archive, home, path, size_bytes, digest)
        tell(f"{part.rows:,} files")
    with home.db.begin() as tx:
        _check_empty(tx, home.home)
        for shape in list_shapes():
            tell(shape.name)
            clear_table(tx, shape)
            _restore_table(tx, archive, shape, manifest.tables[shape.name])
    return manifest


def check_archive(archive: Path) -> Manifest:
    """Check every file of an archive against its digest.

    Raises:
        ArchiveInvalidError: The folder is no archive.
        ArchiveDamagedError: A file of it is missing or not what was written.
    """
    manifest = read_manifest(archive)
    for table in manifest.tables.values():
        for part in table.parts:
            _read_part(archive, part)
    for part in manifest.listing:
        for path, size_bytes, digest in _read_part(archive, part).iter_rows():
            _check_file(_within(archive, path), path, size_bytes, digest)
    return manifest


def _check_schema(manifest: Manifest) -> None:
    if manifest.migrations != migration_names():
        raise ArchiveInvalidError(
            f"the archive was written by Flyball {manifest.flyball}, whose database has another schema",
            hint="Bring it back with that release; the home that it makes is upgraded by this one on first use.",
        )
    for shape in list_shapes():
        columns = {column.name: column.kind for column in shape.columns}
        found = manifest.tables.get(shape.name)
        if found is None or found.columns != columns:
            raise ArchiveInvalidError(f"the archive's manifest does not have the table {shape.name} as it must be")


def _check_empty(tx: Transaction, home: Path) -> None:
    for shape in list_shapes():
        # Migrations add one row themselves: the experiment of runs that name none.
        most = 1 if shape.name == "tracking_experiment" else 0
        if count_rows(tx, shape) > most:
            raise HomeNotEmptyError(home, shape.name)


def _restore_table(tx: Transaction, archive: Path, shape: TableShape, content: TableContent) -> None:
    for part in content.parts:
        frame = _read_part(archive, part)
        if dict(frame.schema) != {column.name: KINDS[column.kind] for column in shape.columns}:
            raise ArchiveDamagedError(part.path, "has other columns than its table")
        for slice_ in frame.iter_slices(_ROWS_AT_ONCE):
            insert_rows(tx, shape, slice_.rows())


def _read_part(archive: Path, part: Part) -> pl.DataFrame:
    path = _within(archive, part.path)
    _check_file(path, part.path, part.size_bytes, part.digest)
    frame = pl.read_parquet(path)
    if frame.height != part.rows:
        raise ArchiveDamagedError(part.path, f"has {frame.height:,} rows instead of {part.rows:,}")
    return frame


def _restore_file(archive: Path, home: Home, path: str, size_bytes: int, digest: str) -> None:
    source = _within(archive, path)
    kind, _, rest = path.partition("/")
    if kind == BLOBS:
        if not home.blobs.has(digest):
            _restore_blob(source, home, path, digest)
        return
    if kind not in FOLDERS or not rest:
        raise ArchiveInvalidError(f"the archive lists {path!r}, which is in no folder of a home")
    target = home.home / kind / rest
    if target.is_file() and target.stat().st_size == size_bytes and digest_file(target) == digest:
        return
    try:
        seen = hashlib.sha256()
        with source.open("rb") as file, writing(target) as copy:
            while piece := file.read(_PIECE):
                seen.update(piece)
                copy.write(piece)
            if seen.hexdigest() != digest:
                raise ArchiveDamagedError(path, "has another digest than when it was written")
    except FileNotFoundError as error:
        raise ArchiveDamagedError(path, "is missing") from error
    shutil.copymode(source, target)


def _restore_blob(source: Path, home: Home, path: str, digest: str) -> None:
    try:
        with source.open("rb") as file, home.blobs.writing() as writer:
            while piece := file.read(_PIECE):
                writer.write(piece)
            if writer.finish() != digest:
                raise ArchiveDamagedError(path, "has another digest than when it was written")
    except FileNotFoundError as error:
        raise ArchiveDamagedError(path, "is missing") from error


def _check_file(file: Path, path: str, size_bytes: int, digest: str) -> None:
    if not file.is_file():
        raise ArchiveDamagedError(path, "is missing")
    found = file.stat().st_size
    if found != size_bytes:
        raise ArchiveDamagedError(path, f"has {found:,} bytes instead of {size_bytes:,}")
    if digest_file(file) != digest:
        raise ArchiveDamagedError(path, "has another digest than when it was written")


def _within(archive: Path, path: str) -> Path:
    """Return the file of a path, which must not lead out of the archive."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts:
        raise ArchiveInvalidError(f"the archive names {path!r}, which leads out of it")
    return archive.joinpath(*parts)
