"""Packages of Flyball's own versions as artifacts, for reading only."""

import re
from typing import Any, NoReturn

from flyball.core.encoding import from_json
from flyball.core.errors import ConflictError
from flyball.domain.registry.packages import MANIFEST, FileEntry, Manifest
from flyball.domain.tracking.artifacts import ArtifactFile, ArtifactNotFoundError, Entry, Place, check_name
from flyball.server.mlflow.answers import Answer, StreamedAnswer
from flyball.server.mlflow.downloads import Found, send_file
from flyball.server.mlflow.requests import Request
from flyball.server.mlflow.routing import Route, Work, stream, write
from flyball.storage.blobs import BlobReader
from flyball.workspace.home import Home

FOLDER = "packages"
_PATH = "/api/2.0/mlflow-artifacts/artifacts/packages/{digest}/{path:path}"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class PackageFixedError(ConflictError):
    """A package is named by what it holds, so that can not change."""

    code = "mlflow/package-fixed"

    def __init__(self, digest: str) -> None:
        super().__init__(
            f"the files of package {digest[:12]!r} cannot be changed",
            hint="Log another model and register it as the next version.",
        )


async def download(home: Home, request: Request) -> Answer | StreamedAnswer:
    """Answer with a file of a package."""
    digest, path = request.values["digest"], check_name(request.values["path"])
    return await send_file(request, lambda: _find(home, digest, path))


def refuse_write(_home: Home, request: Request) -> Work:
    """Refuse to change a package."""
    raise PackageFixedError(request.values["digest"])


async def refuse_upload(_home: Home, request: Request) -> NoReturn:
    """Refuse to change a package, once all was sent: a client reads no refusal before."""
    async for _ in request.stream():
        pass
    raise PackageFixedError(request.values["digest"])


def list_package(home: Home, place: Place) -> list[Entry] | None:
    """Return what a folder of a package holds, by name; None where the place is of no package."""
    parts = place.path.split("/")
    if place.owner or parts[0] != FOLDER or len(parts) < 2:
        return None
    prefix = "".join(f"{part}/" for part in parts[2:])
    found: dict[str, int | None] = {}
    for path, entry in _list_files(home, parts[1]).items():
        if path.startswith(prefix):
            name, slash, _ = path[len(prefix) :].partition("/")
            found[name] = None if slash else entry.size_bytes
    return [Entry(name, size) for name, size in sorted(found.items())]


def _find(home: Home, digest: str, path: str) -> Found:
    entry = _list_files(home, digest).get(path)
    if entry is None:
        raise ArtifactNotFoundError(f"{FOLDER}/{digest}/{path}")
    file = ArtifactFile(Place("", path), entry.sha256, entry.size_bytes)
    return file, lambda: BlobReader.of_file(home.registry.packages_root / digest / path, entry.sha256)


def _list_files(home: Home, digest: str) -> dict[str, FileEntry]:
    path = home.registry.packages_root / digest / MANIFEST
    if not _DIGEST.fullmatch(digest) or not path.is_file():
        return {}
    data: Any = path.read_bytes()
    manifest = from_json(data, Manifest, what=f"{MANIFEST} of package {digest[:12]}")
    # The package's name is its manifest's digest.
    return {**manifest.files, MANIFEST: FileEntry(size_bytes=len(data), sha256=digest)}


ROUTES: tuple[Route, ...] = (
    stream("GET", _PATH, download),
    stream("PUT", _PATH, refuse_upload),
    write("DELETE", _PATH, refuse_write),
)
