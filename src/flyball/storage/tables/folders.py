"""A folder of files as a table: one row a file, such as an image or a recording."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from flyball.core.hashing import digest_value
from flyball.storage.tables.port import Asked, DigestFiles, Found
from flyball.storage.tables.sources import DataFile, SourceMissingError, stat_token

MODIFIED, DIGEST, FILE = "modified_at", "digest", "file"


class FolderSource:
    """See `TableSource`.

    Args:
        asked: The declaration.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def fingerprint(self) -> str:
        """See `TableSource.fingerprint`."""
        return digest_value([[str(member), stat_token(member)] for member in self._members()])

    def open(self, scratch: Path, digest_files: DigestFiles) -> Found:
        """See `TableSource.open`."""
        members = self._members()
        frame = describe_members(self._asked.path, members, digest_files, with_times=self._asked.has_times)
        frame.write_parquet(scratch)
        kept = dict(zip(frame[DIGEST], members, strict=True))
        return Found("parquet", scratch, [DataFile(scratch, {})], members=kept)

    def _members(self) -> list[Path]:
        return list_members(self._asked.path, self._asked.files, self._asked.what)


def list_members(folder: Path, pattern: str, what: str) -> list[Path]:
    """Return the files of a folder that a pattern such as ``**/*.jpg`` matches, in the order of their paths.

    Raises:
        SourceMissingError: There is no folder, or no such file in it.
    """
    if not folder.is_dir():
        raise SourceMissingError(what, folder, "there is no folder")
    place = len(str(folder))
    # Hidden ones are told by their text, since every turn of the loop asks, also for a hundred thousand pictures.
    found = sorted(path for path in folder.glob(pattern) if "/." not in str(path)[place:] and path.is_file())
    if not found:
        raise SourceMissingError(what, folder, f"no file matches {pattern!r}")
    return found


def describe_members(
    folder: Path, members: Sequence[Path], digest_files: DigestFiles, *, with_times: bool
) -> pl.DataFrame:
    """Return one row a file: ``path``, ``folder``, ``name``, ``size_bytes``, ``digest``.

    The time of its last change is only told where it is asked for: copying a folder changes it.
    """
    relative = [path.relative_to(folder) for path in members]
    columns: dict[str, object] = {
        "path": [path.as_posix() for path in relative],
        "folder": ["" if len(path.parts) == 1 else path.parent.as_posix() for path in relative],
        "name": [path.name for path in relative],
        "size_bytes": [path.stat().st_size for path in members],
        DIGEST: digest_files(list(members)),
    }
    if with_times:
        columns[MODIFIED] = [datetime.fromtimestamp(path.stat().st_mtime, UTC) for path in members]
    schema = {
        "path": pl.String(),
        "folder": pl.String(),
        "name": pl.String(),
        "size_bytes": pl.Int64(),
        DIGEST: pl.String(),
    }
    return pl.DataFrame(
        columns, schema_overrides={**schema, **({MODIFIED: pl.Datetime("us", "UTC")} if with_times else {})}
    )
