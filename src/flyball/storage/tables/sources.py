"""A source's kind and its files, found without reading any of them."""

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from flyball.core.errors import BackendError, InvalidInputError, NotFoundError
from flyball.core.hashing import digest_value

Kind = Literal["csv", "parquet", "delta"]
_SUFFIXES: dict[str, Kind] = {".csv": "csv", ".parquet": "parquet"}


class DataFile(NamedTuple):
    """One file of a source.

    Attributes:
        path: Where it lies.
        partition: Values of columns that the file's rows share and the file itself does not hold.
    """

    path: Path
    partition: Mapping[str, Any]


class SourceMissingError(NotFoundError):
    """There is no data where a table should lie."""

    code = "data/source-missing"

    def __init__(self, what: str, path: Path, found: str) -> None:
        super().__init__(
            f"the {what} lies nowhere: {found} at {str(path)!r}",
            hint="Put the data there, or correct the table's source in the project file.",
        )


class SourceUnreadableError(BackendError):
    """A file of a table cannot be read: cut off, corrupt, or of another format than its name says."""

    code = "data/source-unreadable"

    def __init__(self, what: str, path: Path, reason: str) -> None:
        super().__init__(
            f"the {what} cannot be read: {path.name!r} is damaged or not what its name says ({reason})",
            hint=f"Write {str(path)!r} again; no snapshot was made.",
        )


def find_kind(path: Path, what: str) -> Kind:
    """Return the format of a source: by its suffix, its glob's suffix, or what a folder holds.

    Raises:
        SourceMissingError: There is neither a file nor a folder.
        InvalidInputError: The suffix names no known format.
    """
    if path.is_dir():
        if (path / "_delta_log").is_dir():
            return "delta"
        if _below(path, ".parquet"):
            return "parquet"
        if _below(path, ".csv"):
            return "csv"
        raise SourceMissingError(what, path, "there is no Parquet, CSV or Delta data in the folder")
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        if not path.exists():
            raise SourceMissingError(what, path, "there is no file or folder")
        raise InvalidInputError(
            f"the {what} is a {path.suffix or 'suffixless'} file, which is no known format",
            hint="A table lies in .csv or .parquet files, a folder of them, or a Delta folder.",
        )
    return kind


def list_files(path: Path, kind: Kind, what: str) -> list[Path]:
    """Return the files of a CSV or Parquet source, in the order of their paths.

    Raises:
        SourceMissingError: There are none.
    """
    suffix = f".{kind}"
    if path.is_dir():
        found = _below(path, suffix)
    elif path.exists():
        found = [path]
    else:
        matched = glob.glob(str(path), recursive=True)  # noqa: PTH207  (Path.glob takes no absolute pattern)
        found = sorted(Path(name) for name in matched if Path(name).is_file())
    if not found:
        asked = "no file matches the pattern" if glob.has_magic(str(path)) else "there is no file"
        raise SourceMissingError(what, path, asked)
    return found


def stat_token(path: Path) -> str:
    """Return what changes whenever a file's content does, at the price of a look at its folder entry.

    Raises:
        FileNotFoundError: It is gone.
    """
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"


def fingerprint_source(path: Path, what: str) -> str:
    """Return a token that changes when a source does. Reads no content; a Delta table is judged by its log.

    Raises:
        SourceMissingError: There is nothing.
    """
    kind = find_kind(path, what)
    files = sorted((path / "_delta_log").iterdir()) if kind == "delta" else list_files(path, kind, what)
    try:
        return digest_value([kind, [[str(file), stat_token(file)] for file in files]])
    except FileNotFoundError as error:
        raise SourceMissingError(what, path, "a file was removed while it was looked at") from error


def _below(folder: Path, suffix: str) -> list[Path]:
    return sorted(
        file
        for file in folder.rglob(f"*{suffix}")
        if file.is_file() and not any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
    )
