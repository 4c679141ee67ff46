"""CSV and Parquet files as a table's source: one, a folder of them, or a pattern."""

from pathlib import Path

from flyball.core.errors import InvalidInputError
from flyball.storage.tables.parquet import with_partitions
from flyball.storage.tables.port import Asked, DigestFiles, Found
from flyball.storage.tables.sources import DataFile, Kind, fingerprint_source, list_files


class FileSource:
    """See `TableSource`.

    Args:
        asked: The declaration.
        kind: The format.
    """

    def __init__(self, asked: Asked, kind: Kind) -> None:
        if asked.version is not None:
            raise InvalidInputError(
                f"the {asked.what} has version={str(asked.version)!r}, but only Delta tables have versions",
                hint="Leave it out; a snapshot keeps what the table held.",
            )
        self._asked = asked
        self._kind = kind

    def fingerprint(self) -> str:
        """See `TableSource.fingerprint`."""
        return fingerprint_source(self._asked.path, self._asked.what)

    def open(self, scratch: Path, digest_files: DigestFiles) -> Found:
        """See `TableSource.open`."""
        path = self._asked.path
        paths = list_files(path, self._kind, self._asked.what)
        base = path if path.is_dir() else path.parent
        is_parquet = self._kind == "parquet"
        files = with_partitions(paths, base) if is_parquet else [DataFile(file, {}) for file in paths]
        return Found(self._kind, path, files)


def open_csv(asked: Asked) -> FileSource:
    """Return the source of CSV files."""
    return FileSource(asked, "csv")


def open_parquet(asked: Asked) -> FileSource:
    """Return the source of Parquet files."""
    return FileSource(asked, "parquet")
