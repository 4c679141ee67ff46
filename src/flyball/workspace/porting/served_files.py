"""Files of artifacts that a server of MLflow hands out."""

import http.client
import threading
from collections.abc import Iterator
from typing import BinaryIO, cast
from urllib.parse import quote, unquote, urlsplit

import msgspec

from flyball.workspace.porting.connections import Connections, RefusedError
from flyball.workspace.porting.folders import PROXIED
from flyball.workspace.porting.records import SourceFile

_PROXY = "/api/2.0/mlflow-artifacts/artifacts"
_LIST = "/api/2.0/mlflow/artifacts/list"
_GET = "/get-artifact"


class ServedFile(msgspec.Struct, frozen=True):
    """Implements `SourceFile` over HTTP."""

    path: str
    size_bytes: int
    server: Connections
    address: str
    query: dict[str, str] = {}

    def open(self) -> BinaryIO:
        """See `SourceFile.open`."""
        response: http.client.HTTPResponse = self.server.open(self.address, self.query)
        return cast(BinaryIO, response)


class ServedFiles:
    """Lists what is below addresses.

    Args:
        server: The server.
        lists_owners: Whether the folder above a run's names the run once it has files, as MLflow's servers do.
    """

    def __init__(self, server: Connections, *, lists_owners: bool = True) -> None:
        self._server = server
        self._lists_owners = lists_owners
        # Most runs have no files, and no folder: one look at the folder above tells that of all of them.
        self._present: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def list_files(self, location: str, run_id: str) -> Iterator[SourceFile] | None:
        """Yield the files below an address; None where clients reach them without the server."""
        parts = urlsplit(location)
        if parts.scheme == PROXIED:
            root = unquote(parts.path).strip("/")
            return self._walk_proxied(root, "") if self._is_present(root) else iter(())
        if parts.scheme in ("", "file"):
            # On the server's own disk: it hands out what belongs to runs.
            return self._walk_run(run_id, "") if run_id else iter(())
        return None

    def _is_present(self, root: str) -> bool:
        """Tell whether the folder of a run, above its ``artifacts``, is there."""
        above, _, name = root.removesuffix("/artifacts").rpartition("/")
        if not above or not self._lists_owners:
            return True
        with self._lock:
            if above not in self._present:
                found = self._server.get(_PROXY, path=above)
                self._present[above] = {entry["path"] for entry in found.get("files", ())}
        return name in self._present[above]

    def _walk_proxied(self, root: str, below: str) -> Iterator[SourceFile]:
        found = self._server.get(_PROXY, path=f"{root}/{below}".rstrip("/"))
        for entry in found.get("files", ()):
            # Names come relative to what was asked for.
            path = f"{below}/{entry['path']}".lstrip("/")
            if entry.get("is_dir"):
                yield from self._walk_proxied(root, path)
            else:
                address = f"{_PROXY}/{quote(f'{root}/{path}')}"
                yield ServedFile(path, int(entry.get("file_size") or 0), self._server, address)

    def _walk_run(self, run_id: str, below: str) -> Iterator[SourceFile]:
        query = {"run_id": run_id, "run_uuid": run_id} | ({"path": below} if below else {})
        try:
            found = self._server.get(_LIST, **query)
        except RefusedError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return
            raise
        for entry in found.get("files", ()):
            if entry.get("is_dir"):
                yield from self._walk_run(run_id, entry["path"])
            else:
                where = {"run_uuid": run_id, "path": entry["path"]}
                yield ServedFile(entry["path"], int(entry.get("file_size") or 0), self._server, _GET, where)
