"""A source's kind and its files, found without reading any of them."""

import glob
import os
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
    return [Path(name) for name in _names_of_files(path, kind, what)]


def _names_of_files(path: Path, kind: Kind, what: str) -> list[str]:
    # As texts: the loop asks at every turn, and for thousands of files their paths as objects take most of the time.
    if path.is_dir():
        found = _below(path, f".{kind}")
    elif path.exists():
        found = [str(path)]
    else:
        matched = glob.glob(str(path), recursive=True)  # noqa: PTH207  (Path.glob takes no absolute pattern)
        found = sorted(filter(os.path.isfile, matched), key=_parts)
    if not found:
        asked = "no file matches the pattern" if glob.has_magic(str(path)) else "there is no file"
        raise SourceMissingError(what, path, asked)
    return found


def stat_token(path: Path | str) -> str:
    """Return what changes whenever a file's content does, at the price of a look at its folder entry.

    Raises:
        FileNotFoundError: It is gone.
    """
    stat = os.stat(path)  # noqa: PTH116  (a path may be a text here)
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"


def fingerprint_source(path: Path, what: str) -> str:
    """Return a token that changes when a source does. Reads no content; a Delta table is judged by its log.

    Raises:
        SourceMissingError: There is nothing.
    """
    kind = find_kind(path, what)
    log = path / "_delta_log"
    files = [f"{log}/{name}" for name in sorted(os.listdir(log))] if kind == "delta" else None  # noqa: PTH208
    try:
        return digest_value([kind, [[file, stat_token(file)] for file in files or _names_of_files(path, kind, what)]])
    except FileNotFoundError as error:
        raise SourceMissingError(what, path, "a file was removed while it was looked at") from error


def _below(folder: Path, suffix: str) -> list[str]:
    found: list[str] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        found += [f"{parent}/{name}" for name in names if name.endswith(suffix) and not name.startswith((".", "_"))]
    return sorted(filter(os.path.isfile, found), key=_parts)


def _parts(path: str) -> list[str]:
    """Return what paths are ordered by: a folder's files come before those of a folder whose name goes on."""
    return path.split("/")
