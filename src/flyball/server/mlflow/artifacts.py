"""Artifacts: uploaded, listed, downloaded and deleted through the server."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from flyball.core.errors import FlyballError, InvalidInputError
from flyball.domain.tracking.artifacts import (
    ArtifactNotFoundError,
    ArtifactPathError,
    Entry,
    Place,
    check_path,
    is_kept_here,
    parse_place,
)
from flyball.server.mlflow.answers import Answer, StreamedAnswer
from flyball.server.mlflow.downloads import Found, send_file
from flyball.server.mlflow.packages import list_package
from flyball.server.mlflow.requests import ParameterMissingError, Request
from flyball.server.mlflow.routing import Route, Work, lookup, read, stream, write
from flyball.storage.blobs import PIECE_BYTES
from flyball.workspace.home import Home

F = "/api/2.0/mlflow-artifacts/"


class Listing(msgspec.Struct):
    """A folder of the store."""

    path: str = ""


class RunListing(msgspec.Struct):
    """A folder of a run."""

    run_id: str = ""
    run_uuid: str = ""
    path: str = ""


class FileBody(msgspec.Struct, frozen=True):
    """A file or a folder, as clients read it."""

    path: str
    is_dir: bool
    file_size: int | msgspec.UnsetType = msgspec.UNSET


async def upload(home: Home, request: Request) -> None:
    """Keep a file under a path; it is there when all of it has come."""
    try:
        place = read_file_place(request.values["path"])
        await asyncio.to_thread(home.artifacts.check, place)
        with home.artifacts.writing() as writer:
            await receive(request, writer.write)
            digest = await asyncio.to_thread(writer.finish)
    except (FlyballError, OSError):
        # A client reads no refusal before it has sent everything.
        async for _ in request.stream():
            pass
        raise
    await request.commit(lambda tx: home.artifacts.put(tx, place, digest, writer.size_bytes))


async def receive(request: Request, write_piece: Callable[[bytes], None]) -> None:
    """Write a request's body in pieces large enough that handing them to a thread costs little.

    The next piece comes in while one is written.
    """
    pieces: list[bytes] = []
    size = 0
    written = None
    try:
        async for chunk in request.stream():
            pieces.append(chunk)
            size += len(chunk)
            if size >= PIECE_BYTES:
                if written is not None:
                    await written
                written = asyncio.ensure_future(asyncio.to_thread(write_piece, b"".join(pieces)))
                pieces, size = [], 0
    finally:
        # Whoever gives the file up must not do so under a thread that writes to it.
        if written is not None:
            await written
    if pieces:
        await asyncio.to_thread(write_piece, b"".join(pieces))


async def download(home: Home, request: Request) -> Answer | StreamedAnswer:
    """Answer with a file."""
    place = read_file_place(request.values["path"])
    return await send_file(request, lambda: _find(home, place))


async def download_of_run(home: Home, request: Request) -> Answer | StreamedAnswer:
    """Answer with a file of a run, as web pages link to it."""
    fields = request.decode(RunListing)
    if not fields.path:
        raise ParameterMissingError("path")
    return await send_file(request, lambda: _find(home, _run_place(home, fields)[1]))


def list_folder(home: Home, request: Request) -> Any:
    """Return what is in a folder, by name."""
    place = parse_place(request.decode(Listing).path)
    entries = list_package(home, place)
    return {
        "files": [_body(entry, "") for entry in (home.artifacts.list_folder(place) if entries is None else entries)]
    }


def list_of_run(home: Home, request: Request) -> Any:
    """Return what is in a folder of a run, by path."""
    fields = request.decode(RunListing)
    root, place = _run_place(home, fields)
    return {"root_uri": root, "files": [_body(entry, place.path) for entry in home.artifacts.list_folder(place)]}


def delete(home: Home, request: Request) -> Work:
    """Remove a file, or a folder with all below."""
    place = parse_place(request.values["path"])
    if not (place.owner or place.path):
        raise ArtifactPathError("", "it names no file or folder")

    def work(tx: Any) -> None:
        if not home.artifacts.delete(tx, place) and place.path:
            raise ArtifactNotFoundError(place.path)

    return work


def tell_server_info(_home: Home, _request: Request) -> Any:
    """Say what the server can do, so that clients choose how they send files."""
    return {
        "store_type": "SqlStore",
        "workspaces_enabled": False,
        "trace_archival_enabled": False,
        "multipart_uploads_enabled": False,
        "multipart_downloads_enabled": False,
        "artifact_serving_enabled": True,
        "presigned_upload_run_id_supported": False,
        "presigned_upload_model_id_supported": False,
        "model_artifact_presigned_downloads_supported": False,
        "features_enabled": {"gateway": False},
    }


def read_file_place(path: str) -> Place:
    """Return where a file is.

    Raises:
        ArtifactPathError: The path names none.
    """
    place = parse_place(path)
    if not place.path:
        raise ArtifactPathError(path, "it names no file")
    return place


def _find(home: Home, place: Place) -> Found:
    file = home.artifacts.get(place)
    return file, lambda: home.artifacts.read(file)


def _run_place(home: Home, fields: RunListing) -> tuple[str, Place]:
    run_id = fields.run_id or fields.run_uuid
    if not run_id:
        raise ParameterMissingError("run_id")
    root = home.client_runs.get(run_id).run.artifact_root
    if not is_kept_here(root):
        raise InvalidInputError(
            f"the artifacts of run {run_id!r} are not kept here, but at {root!r}", hint="Ask for them there."
        )
    return root, parse_place(root).below(check_path(fields.path))


def _body(entry: Entry, folder: str) -> FileBody:
    path = f"{folder}/{entry.name}" if folder else entry.name
    return FileBody(path, entry.size_bytes is None, msgspec.UNSET if entry.size_bytes is None else entry.size_bytes)


ROUTES: tuple[Route, ...] = (
    read("GET", F + "artifacts", list_folder),
    stream("GET", F + "artifacts/{path:path}", download),
    stream("PUT", F + "artifacts/{path:path}", upload),
    write("DELETE", F + "artifacts/{path:path}", delete),
    read("GET", "/api/2.0/mlflow/artifacts/list", list_of_run),
    stream("GET", "/get-artifact", download_of_run),
    lookup("GET", "/api/3.0/mlflow/server-info", tell_server_info),
)
