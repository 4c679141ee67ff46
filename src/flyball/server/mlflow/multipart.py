"""Uploads in parts, which a client may send side by side and again: they become a file when they are complete."""

import asyncio
import hashlib
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from flyball.core.errors import InvalidInputError, NotFoundError
from flyball.core.files import write_bytes
from flyball.domain.tracking.artifacts import Place, check_name
from flyball.server.mlflow.answers import Answer
from flyball.server.mlflow.artifacts import F, read_file_place, receive
from flyball.server.mlflow.requests import Int64, ParameterInvalidError, Request
from flyball.server.mlflow.routing import MAX_BODY_BYTES, Route, stream
from flyball.storage.blob_writing import FileWriter
from flyball.workspace.home import Home

_MAX_PARTS = 10_000
_ID = re.compile(r"[0-9a-f]{32}")


class UploadNotFoundError(NotFoundError):
    """There is no such upload, or it is complete or aborted."""

    code = "mlflow/upload-not-found"

    def __init__(self, upload_id: str) -> None:
        super().__init__(f"There is no open upload {upload_id[:100]!r}", hint="Begin a new one.")


class Begin(msgspec.Struct):
    """A file to be uploaded; only the last segment of ``path`` counts, since clients send their local one."""

    path: str
    num_parts: Int64 = 1


class PartFields(msgspec.Struct):
    """A part that was sent."""

    part_number: Int64
    etag: str = ""


class End(msgspec.Struct):
    """All parts of an upload."""

    path: str
    upload_id: str
    parts: list[PartFields] = []


class Upload(msgspec.Struct, frozen=True):
    """What is kept of an open upload."""

    owner: str
    path: str
    num_parts: int


async def create(home: Home, request: Request) -> object:
    """Begin an upload and say where to send each part."""
    await request.read_body(MAX_BODY_BYTES)
    fields = request.decode(Begin)
    if not 1 <= fields.num_parts <= _MAX_PARTS:
        raise ParameterInvalidError("num_parts", f"it must be between 1 and {_MAX_PARTS}")
    place = _place(request, fields.path)
    await asyncio.to_thread(home.artifacts.check, place)
    upload_id = await asyncio.to_thread(_begin, home, Upload(place.owner, place.path, fields.num_parts))
    base = f"{request.scheme}://{request.header(b'host')}{F}mpu/parts/{upload_id}"
    return {
        "upload_id": upload_id,
        "credentials": [
            {"url": f"{base}/{number}", "part_number": number, "headers": {}}
            for number in range(1, fields.num_parts + 1)
        ],
    }


async def put_part(home: Home, request: Request) -> Answer:
    """Keep a part; sent again, it replaces the one before."""
    upload_id, number = request.values["upload_id"], request.values["number"]
    folder, upload = await asyncio.to_thread(_open, home, upload_id)
    if not number.isdecimal() or not 1 <= int(number) <= upload.num_parts:
        raise ParameterInvalidError("part_number", f"it must be between 1 and {upload.num_parts}")
    digest = hashlib.sha256()
    with _gone_meanwhile(upload_id):
        file = FileWriter(folder / f"{secrets.token_hex(8)}.unfinished")

    def write(data: bytes) -> None:
        digest.update(data)
        file.write(data)

    try:
        await receive(request, write)
        with _gone_meanwhile(upload_id):
            # Its folder is not made again: the upload may have been given up while this part came.
            await asyncio.to_thread(file.finish, folder / f"{int(number)}-{digest.hexdigest()}", makes_folder=False)
    finally:
        file.close()
    return Answer(b"{}", headers=[(b"etag", f'"{digest.hexdigest()}"'.encode())])


async def complete(home: Home, request: Request) -> None:
    """Make a file of the parts."""
    await request.read_body(MAX_BODY_BYTES)
    fields = request.decode(End)
    folder, upload = await asyncio.to_thread(_open, home, fields.upload_id)
    place = _place(request, fields.path)
    if place != Place(upload.owner, upload.path):
        raise ParameterInvalidError("path", f"the upload is of {upload.path!r}")
    with _gone_meanwhile(fields.upload_id):
        digest, size = await asyncio.to_thread(_assemble, home, folder, upload, fields.parts)
    await request.commit(lambda tx: home.artifacts.put(tx, place, digest, size))
    await asyncio.to_thread(shutil.rmtree, folder, True)


async def abort(home: Home, request: Request) -> None:
    """Give an upload up."""
    await request.read_body(MAX_BODY_BYTES)
    folder, _ = await asyncio.to_thread(_open, home, request.decode(End).upload_id)
    await asyncio.to_thread(shutil.rmtree, folder, True)


@contextmanager
def _gone_meanwhile(upload_id: str) -> Iterator[None]:
    """Tell of an upload that another request completed or aborted while this one was at work."""
    try:
        yield
    except FileNotFoundError as error:
        raise UploadNotFoundError(upload_id) from error


def _place(request: Request, path: str) -> Place:
    name = check_name(re.split(r"[/\\]", path)[-1])
    folder = request.values.get("path", "")
    return read_file_place(f"{folder}/{name}" if folder else name)


def _begin(home: Home, upload: Upload) -> str:
    folder = home.blobs.unfinished_upload()
    write_bytes(folder / "upload.json", msgspec.json.encode(upload))
    return folder.name


def _open(home: Home, upload_id: str) -> tuple[Path, Upload]:
    folder = home.blobs.uploads / upload_id
    if not _ID.fullmatch(upload_id):
        raise UploadNotFoundError(upload_id)
    try:
        return folder, msgspec.json.decode((folder / "upload.json").read_bytes(), type=Upload)
    except FileNotFoundError as error:
        raise UploadNotFoundError(upload_id) from error


def _assemble(home: Home, folder: Path, upload: Upload, parts: list[PartFields]) -> tuple[str, int]:
    if sorted(part.part_number for part in parts) != list(range(1, upload.num_parts + 1)):
        raise ParameterInvalidError("parts", f"it must list each of the {upload.num_parts} parts once")
    files = []
    for part in sorted(parts, key=lambda part: part.part_number):
        etag = part.etag.strip('"')
        file = folder / f"{part.part_number}-{etag}"
        if not re.fullmatch(r"[0-9a-f]{64}", etag) or not file.exists():
            raise InvalidInputError(
                f"part {part.part_number} with the ETag {part.etag[:100]!r} has not come", hint="Send it again."
            )
        files.append(file)
    with home.artifacts.writing() as writer:
        for file in files:
            with file.open("rb") as opened:
                while data := opened.read(1 << 20):
                    writer.write(data)
        return writer.finish(), writer.size_bytes


ROUTES: tuple[Route, ...] = (
    stream("POST", F + "mpu/create", create),
    stream("POST", F + "mpu/create/{path:path}", create),
    stream("PUT", F + "mpu/parts/{upload_id}/{number}", put_part),
    stream("POST", F + "mpu/complete", complete),
    stream("POST", F + "mpu/complete/{path:path}", complete),
    stream("POST", F + "mpu/abort", abort),
    stream("POST", F + "mpu/abort/{path:path}", abort),
)
