"""Files as answers: streamed, resumable by ranges, checked by digest."""

import asyncio
import mimetypes
import re
from collections.abc import AsyncIterator, Callable, Iterator
from urllib.parse import quote

from flyball.domain.tracking.artifacts import ArtifactFile
from flyball.server.mlflow.answers import Answer, StreamedAnswer
from flyball.server.mlflow.requests import Request
from flyball.storage.blobs import BlobReader

# A model is mostly small files; each is found and read by one turn of a thread, and sent at once.
_SMALL_BYTES = 256_000
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
# What people look at in a browser; the kinds of some of them differ from one system to the next.
_TEXTS = frozenset({"cfg", "conf", "csv", "err", "hocon", "ini", "js", "json", "log", "md", "mlmodel", "mlproject"}) | {
    *("properties", "py", "rst", "toml", "tsv", "txt", "xml", "yaml", "yml")
}


Found = tuple[ArtifactFile, Callable[[], BlobReader]]
"""A file's name, digest and size, and what opens its bytes."""


async def send_file(request: Request, find: Callable[[], Found]) -> Answer | StreamedAnswer:
    """Answer with a file, or with the part of it that the request's ``Range`` asks for.

    Args:
        request: What the client sent.
        find: Finds the file; called in a thread.
    """
    return await asyncio.to_thread(_answer, request, find)


def _answer(request: Request, find: Callable[[], Found]) -> Answer | StreamedAnswer:
    file, open_it = find()
    etag = f'"{file.digest}"'
    media_type = _media_type(file.place.name)
    headers = [(b"etag", etag.encode()), (b"accept-ranges", b"bytes"), *_as_download(file.place.name)]
    if etag in re.split(r"\s*,\s*", request.header(b"if-none-match").replace("W/", "")):
        return Answer(b"", media_type, 304, headers)
    start, stop, status = 0, file.size_bytes, 200
    wanted = request.header(b"range")
    # With a condition that does not hold, the whole file is the answer: it has changed since the first part.
    if wanted and request.header(b"if-range") in ("", etag):
        found = read_range(wanted, file.size_bytes)
        if found is not None and found[0] >= found[1]:
            unsatisfied = (b"content-range", f"bytes */{file.size_bytes}".encode())
            return Answer(b"", media_type, 416, [*headers, unsatisfied])
        if found is not None:
            (start, stop), status = found, 206
            headers.append((b"content-range", f"bytes {start}-{stop - 1}/{file.size_bytes}".encode()))
    reader = open_it()
    if stop - start > _SMALL_BYTES:
        return StreamedAnswer(_pieces(request, reader, start, stop), media_type, stop - start, status, headers)
    with reader:
        return Answer(b"".join(reader.chunks(start, stop)), media_type, status, headers)


def read_range(header: str, size_bytes: int) -> tuple[int, int] | None:
    """Return the first byte and the one after the last that a ``Range`` header asks for.

    Empty (the first is not before the second) where there are no such bytes; None where it asks for several parts or
    in another unit, which may be answered with the whole (RFC 9110, section 14.2).
    """
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return max(0, size_bytes - int(match[2])), size_bytes
    if match[2] and int(match[2]) < int(match[1]):
        return None
    return int(match[1]), min(size_bytes, int(match[2]) + 1) if match[2] else size_bytes


async def _pieces(request: Request, reader: BlobReader, start: int, stop: int) -> AsyncIterator[bytes]:
    """Yield a file's bytes until the client leaves; reading ahead of a slow client is the server's limit, not ours."""
    left = asyncio.create_task(request.wait_until_gone())
    pieces: Iterator[bytes] = reader.chunks(start, stop)
    try:
        while not left.done():
            piece = await asyncio.to_thread(next, pieces, b"")
            if not piece:
                return
            yield piece
    finally:
        left.cancel()
        reader.close()


def _as_download(name: str) -> list[tuple[bytes, bytes]]:
    # What people upload must not run as a page of this server, so it is saved rather than shown.
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    disposition = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    return [(b"content-disposition", disposition.encode()), (b"x-content-type-options", b"nosniff")]


def _media_type(name: str) -> str:
    if (name.rpartition(".")[2] or name).lower() in _TEXTS:
        return "text/plain; charset=utf-8"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
