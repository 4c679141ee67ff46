"""The archive of a home: what `flyball export` writes and `flyball import flyball` reads.

::

    manifest.json               what is in it: release, schema, tables with their rows, digests of all Parquet files
    tables/NAME/00000.parquet   the rows of every table of the database, sorted by its key
    listing/00000.parquet       every file below: its path, length and SHA-256
    blobs/ab/abcdef...          content by SHA-256: snapshots' files, artifacts
    packages/, predictions/, spool/, streams/    as they lie in the home
"""

from pathlib import Path
from typing import Any

import msgspec

from flyball.core.errors import BackendError, InvalidInputError

FORMAT = 1
MANIFEST = "manifest.json"
TABLES, LISTING, BLOBS = "tables", "listing", "blobs"
FOLDERS = ("packages", "predictions", "spool", "streams")
"""Folders of a home whose files are taken along as they are."""


class Part(msgspec.Struct, frozen=True):
    """One Parquet file; the path is relative to the archive."""

    path: str
    rows: int
    size_bytes: int
    digest: str


class TableContent(msgspec.Struct, frozen=True, kw_only=True):
    """A table; columns by name with their kinds, in order."""

    rows: int
    columns: dict[str, str]
    parts: list[Part]


class FileCount(msgspec.Struct, frozen=True, kw_only=True):
    """Files of one folder."""

    files: int = 0
    size_bytes: int = 0


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive holds.

    Attributes:
        flyball: The release that wrote it.
        migrations: The files that made its schema, in order.
        files: By folder.
        listing: The Parquet files that name every file.
    """

    format: int
    flyball: str
    migrations: list[str]
    tables: dict[str, TableContent]
    files: dict[str, FileCount]
    listing: list[Part]

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables.values())


class ArchiveInvalidError(InvalidInputError):
    """A folder is no archive of a home, or not one that this release reads."""

    code = "archive/invalid"


class ArchiveDamagedError(BackendError):
    """A file of an archive is not what was written."""

    code = "archive/damaged"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"the archive's file {path!r} {reason}",
            hint="Take the archive from another copy; nothing of it has become visible.",
        )


def read_manifest(archive: Path) -> Manifest:
    """Return what an archive holds.

    Raises:
        ArchiveInvalidError: It is none, or of another format.
    """
    try:
        data: Any = msgspec.json.decode((archive / MANIFEST).read_bytes())
        found = data.get("format") if isinstance(data, dict) else None
        if found != FORMAT:
            raise ArchiveInvalidError(
                f"the archive {str(archive)!r} has the format {found!r}; this release reads {FORMAT}",
                hint="Read it with the release of Flyball that wrote it, or a newer one.",
            )
        return msgspec.convert(data, Manifest)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArchiveInvalidError(
            f"{str(archive)!r} is no archive of a home: it has no {MANIFEST}", hint="Write one with: flyball export DIR"
        ) from error
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ArchiveInvalidError(f"the archive's {MANIFEST} cannot be read: {error}") from error
