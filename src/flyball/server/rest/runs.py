"""Routes that take what programs log with ``fb.run()``: records in batches, and the bytes of files."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Request, post, put
from litestar.handlers import HTTPRouteHandler

from flyball.core.errors import InvalidInputError
from flyball.domain.tracking.records import decode_batch
from flyball.workspace.workspace import Workspace

_DIGEST = re.compile(r"[0-9a-f]{64}")


def make_run_routes(workspace: Workspace) -> list[HTTPRouteHandler]:
    """Return the routes.

    Args:
        workspace: Where runs are kept.
    """

    @post("/runs/records", status_code=200)
    async def records(request: Request[Any, Any, Any]) -> dict[str, int]:
        """Keep a batch of a run's records, each once; the body is MessagePack."""
        try:
            batch = decode_batch(await request.body())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"the batch of records cannot be read: {error}") from error
        return {"kept": await asyncio.to_thread(workspace.tracking.receive, batch)}

    @put("/runs/blobs/{digest:str}", status_code=200, request_max_body_size=None)
    async def blob(digest: str, request: Request[Any, Any, Any]) -> dict[str, int]:
        """Keep the bytes of a file under their SHA-256, which is checked."""
        if not _DIGEST.fullmatch(digest):
            raise InvalidInputError(f"{digest!r} is no SHA-256 in hexadecimal signs")
        return {"size_bytes": await _keep(workspace, digest, request.stream())}

    return [records, blob]


async def _keep(workspace: Workspace, digest: str, chunks: AsyncIterator[bytes]) -> int:
    unfinished = workspace.blobs.unfinished()
    size = 0
    try:
        with unfinished.open("wb") as file:
            async for chunk in chunks:
                size += len(chunk)
                await asyncio.to_thread(file.write, chunk)
        found = await asyncio.to_thread(workspace.blobs.adopt_as, unfinished, digest)
    finally:
        unfinished.unlink(missing_ok=True)
    if not found:
        raise InvalidInputError(f"the bytes that were sent do not have the digest {digest!r}", hint="Send them again.")
    return size
