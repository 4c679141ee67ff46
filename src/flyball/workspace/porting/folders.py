"""Where a store of MLflow keeps the files of artifacts on this machine."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from flyball.workspace.porting.records import LocalFile, SourceFile

PROXIED = "mlflow-artifacts"
_DEFAULT = "mlartifacts"


class Folders:
    """Finds the files of addresses.

    Args:
        base: The folder in which the store's server or programs were started: addresses may be relative.
        proxied: What the server was given as ``--artifacts-destination``; by default ``mlartifacts`` in ``base``.
    """

    def __init__(self, base: Path, proxied: Path | None = None) -> None:
        self._base = base
        self._proxied = proxied or base / _DEFAULT
        self.missing: set[str] = set()
        """Roots that are not there, although something lies below them."""

    def list_files(self, location: str) -> Iterator[SourceFile] | None:
        """Yield the files below an address; None where it is not on this machine."""
        folder = self._folder(location)
        return None if folder is None else self._walk(folder)

    def _folder(self, location: str) -> Path | None:
        parts = urlsplit(location)
        if parts.scheme == PROXIED:
            if not self._proxied.is_dir():
                self.missing.add(str(self._proxied))
            return self._proxied / unquote(parts.path).lstrip("/")
        if parts.scheme == "file":
            return Path(unquote(parts.path))
        if not parts.scheme or re.match(r"[A-Za-z]:[\\/]", location):
            return self._base / location
        return None

    def _walk(self, folder: Path) -> Iterator[SourceFile]:
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if path.is_file():
                yield LocalFile(path.relative_to(folder).as_posix(), path.stat().st_size, path)
