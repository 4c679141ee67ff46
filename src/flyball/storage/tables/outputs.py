"""Folders that a long job writes part by part, each part once, however often the job is killed and taken up."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

import polars as pl

from flyball.core.files import DiskFullError, sync_folder, writing

OutputFormat = Literal["parquet", "delta"]
_NO_SPACE = ("No space left", "File too large", "Disk quota", f"os error {errno.ENOSPC}", f"os error {errno.EFBIG}")
_UNFINISHED = ".{name}.unfinished"


class TableOutput(Protocol):
    """Where the rows of a job go."""

    def write(self, number: int, rows: pl.DataFrame) -> None:
        """Write one part; writing it again leaves it there once.

        Raises:
            DiskFullError: No space is left; nothing of the part is there.
        """
        ...

    def finish(self) -> None:
        """Make what was written all there is, where the job replaces what was there; may be called again."""
        ...


class ParquetFolder:
    """Implements `TableOutput` with one Parquet file a part.

    Args:
        folder: Made with the first part.
        job: Begins the names of the files.
        replaces: Whether only this job's files stay in the end; until then they lie beside the folder.
    """

    def __init__(self, folder: Path, job: str, *, replaces: bool = False) -> None:
        self._folder = folder
        self._job = job
        self._replaces = replaces
        self._place = folder.with_name(_UNFINISHED.format(name=folder.name)) if replaces else folder

    def write(self, number: int, rows: pl.DataFrame) -> None:
        """See `TableOutput.write`."""
        path = self._place / f"part-{self._job}-{number:06}.parquet"
        with telling_full_disk(path), writing(path) as file:
            rows.write_parquet(file, compression="zstd", compression_level=3)

    def finish(self) -> None:
        """See `TableOutput.finish`."""
        if not self._replaces:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        prefix = f"part-{self._job}-"
        for path in sorted(self._place.glob(f"{prefix}*.parquet")):
            path.replace(self._folder / path.name)
        for path in self._folder.glob("part-*.parquet"):
            if not path.name.startswith(prefix):
                path.unlink()
        sync_folder(self._folder)
        shutil.rmtree(self._place, ignore_errors=True)


class DeltaFolder:
    """Implements `TableOutput` with one commit a part; the table's own log remembers which are in.

    Args:
        folder: The table's; made with the first part.
        job: Names the job in the table's log.
        replaces: Whether the first part takes the place of all rows; earlier versions of the table keep them.
    """

    def __init__(self, folder: Path, job: str, *, replaces: bool = False) -> None:
        self._folder = folder
        self._job = job
        self._replaces = replaces

    def write(self, number: int, rows: pl.DataFrame) -> None:
        """See `TableOutput.write`."""
        from deltalake import CommitProperties, Transaction, write_deltalake

        last = self._last_part()
        if last is not None and last >= number:
            return
        is_first = self._replaces and last is None
        with telling_full_disk(self._folder):
            write_deltalake(
                self._folder,
                rows,
                mode="overwrite" if is_first else "append",
                schema_mode="overwrite" if is_first else None,
                commit_properties=CommitProperties(app_transactions=[Transaction(self._job, number)]),
            )

    def finish(self) -> None:
        """See `TableOutput.finish`."""
        from deltalake import DeltaTable

        # Not one row was written, so nothing has taken the place of the old ones yet.
        if self._replaces and self._last_part() is None and DeltaTable.is_deltatable(str(self._folder)):
            DeltaTable(self._folder).delete()

    def _last_part(self) -> int | None:
        from deltalake import DeltaTable

        if not DeltaTable.is_deltatable(str(self._folder)):
            return None
        version: int | None = DeltaTable(self._folder).transaction_version(self._job)
        return version


def open_output(format_: OutputFormat, folder: Path, job: str, *, replaces: bool = False) -> TableOutput:
    """Return a folder of a format as a job's output."""
    return (DeltaFolder if format_ == "delta" else ParquetFolder)(folder, job, replaces=replaces)


@contextmanager
def telling_full_disk(path: Path) -> Iterator[None]:
    """Tell of a full disk in our words, whichever library met it.

    Raises:
        DiskFullError: No space is left.
    """
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        if any(text in str(error) for text in _NO_SPACE):
            raise DiskFullError(path) from error
        raise
