"""Which protocol answers a request, and how each tells an error."""

import asyncio
import logging
import typing
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from flyball.core.errors import ConflictError, FlyballError
from flyball.server.inference.apart import Apart
from flyball.server.inference.asking import Asker
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.kserve_v1 import KserveV1
from flyball.server.inference.listing import Listing
from flyball.server.inference.messages import (
    DisconnectedError,
    Receive,
    Reply,
    Request,
    Scope,
    allow_header,
    compress,
    read_request,
    wait_until_left,
)
from flyball.server.inference.mlflow_scoring import MlflowScoring
from flyball.server.inference.oip.inference import OpenInference
from flyball.server.inference.oip.rest import OpenInferenceRest
from flyball.server.inference.rows import ENDPOINT_HEADER
from flyball.server.inference.seldon_v1 import SeldonV1
from flyball.server.inference.telemetry import Telemetry
from flyball.server.inference.together import Asked, RowProtocol

if TYPE_CHECKING:
    from flyball.server.inference.oip.grpc import GrpcServer

_log = logging.getLogger("flyball.gateway")
_GRACE_S = 5.0
_EXPLAIN = ":explain"
Until = Callable[[], Awaitable[object]]


class Protocol(typing.Protocol):
    """One protocol over HTTP; its name is a label of metrics."""

    name: str

    def knows(self, path: str) -> bool:
        """Tell whether an address belongs to it."""
        ...

    def answer(self, request: Request, exchange: Exchange) -> Reply:
        """Answer a request; raises `FlyballError` for what is refused."""
        ...

    def refuse(self, error: FlyballError) -> Reply:
        """Tell an error as this protocol's clients expect it."""
        ...

    def find_rows(self, request: Request) -> tuple[str, RowProtocol] | None:
        """Return whom a request asks, and what reads and answers it; None where others cannot share its call."""
        ...


class UnexpectedError(FlyballError):
    """Something that should not have happened; the log has the details."""

    code = "http/unexpected"

    def __init__(self) -> None:
        super().__init__(
            "something went wrong inside Flyball", hint="The reason is in the process's log, in the home's folder logs."
        )


class Protocols:
    """Answers requests of the protocols that other tools speak.

    Args:
        asker: Asks the data plane.
        thread: Where versions that callers name are loaded, so that no other request waits.
        telemetry: Watches what comes over gRPC.
        apart: Answers in threads what may hold up others.
        max_body_bytes: A longer body or message is refused unread.
        grpc_address: Where to listen for gRPC; nowhere when it is empty.
    """

    def __init__(
        self,
        asker: Asker,
        thread: Executor,
        telemetry: Telemetry,
        apart: Apart | None = None,
        *,
        max_body_bytes: int,
        grpc_address: str = "",
    ) -> None:
        self._asker = asker
        self._telemetry = telemetry
        self._apart = apart or Apart(0.0)
        self._thread = thread
        self._max_body_bytes = max_body_bytes
        self._grpc_address = grpc_address
        self._grpc: GrpcServer | None = None
        self.calls = OpenInference(asker)
        self.rest = OpenInferenceRest(self.calls)
        self._protocols: tuple[Protocol, ...] = (
            self.rest,
            MlflowScoring(asker),
            KserveV1(asker),
            SeldonV1(asker),
            Listing(asker, grpc_address),
        )

    async def start(self) -> None:
        """Listen for gRPC, if that is wanted and installed.

        Raises:
            ConflictError: The address is taken.
        """
        if not self._grpc_address:
            return
        try:
            from flyball.server.inference.oip.grpc import GrpcServer
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("grpc", "google"):
                raise
            _log.info("inference over gRPC is off: pip install 'flyball[grpc]' turns it on")
            return
        server = GrpcServer(
            self.calls, self._thread, self._telemetry, self._apart, max_message_bytes=self._max_body_bytes
        )
        try:
            await server.start(self._grpc_address)
        except RuntimeError as error:
            raise ConflictError(
                f"inference over gRPC cannot listen at {self._grpc_address}: it is taken, or not of this machine",
                hint="Set grpc_port to a free port in flyball.toml, or to -1 to go without gRPC.",
            ) from error
        self._grpc = server

    async def stop(self) -> None:
        """Finish what is under way over gRPC."""
        if self._grpc is not None:
            await self._grpc.stop(_GRACE_S)

    def find(self, path: str) -> Protocol | None:
        """Return the protocol that an address belongs to."""
        return next((protocol for protocol in self._protocols if protocol.knows(path)), None)

    async def answer(self, protocol: Protocol, scope: Scope, receive: Receive, exchange: Exchange) -> Reply:
        """Read and answer a request; errors are told as its protocol tells them.

        Raises:
            DisconnectedError: The client left.
        """
        exchange.protocol = protocol.name
        try:
            request = await read_request(scope, receive, self._max_body_bytes)
            exchange.headers = request.headers
            exchange.mark("read")
            until = partial(wait_until_left, receive)
            return compress(await self._answer(protocol, request, exchange, until), request)
        except DisconnectedError:
            raise
        except FlyballError as error:
            reply = protocol.refuse(error)
            return msgspec.structs.replace(reply, headers=(*reply.headers, *allow_header(error)))
        except Exception:  # noqa: BLE001 - the request's edge: one bad request must not end the process
            _log.exception("%s %s failed", scope["method"], scope["path"])
            return protocol.refuse(UnexpectedError())

    def answer_read(self, request: Request, exchange: Exchange) -> Reply:
        """Answer a request for inference that was read to its end, and that names no version."""
        exchange.protocol = self.rest.name
        try:
            return compress(self.rest.answer(request, exchange), request)
        except FlyballError as error:
            return self.rest.refuse(error)
        except Exception:  # noqa: BLE001 - the request's edge: one bad request must not end the process
            _log.exception("%s %s failed", request.method, request.path)
            return self.rest.refuse(UnexpectedError())

    async def _answer(self, protocol: Protocol, request: Request, exchange: Exchange, until: Until) -> Reply:
        loop = asyncio.get_running_loop()
        if protocol is not self.rest:
            if request.path.endswith(_EXPLAIN):
                # Explaining takes as long as many predictions: nobody shall wait behind it.
                work = partial(protocol.answer, request, exchange)
                return await self._apart.answer(request.path, len(request.body), work, None, until, is_alone=True)
            return await self._answer_apart(protocol, request, exchange, until)
        match request.path.split("/"):
            case ["", "v2", "repository", *_]:
                return await loop.run_in_executor(self._thread, protocol.answer, request, exchange)
            case ["", "v2", "models", model, "versions", version, *rest] if rest != ["ready"]:
                if self.calls.needs_loading(model, version):
                    await loop.run_in_executor(self._thread, self.calls.load, model, version)
        return await self._answer_apart(protocol, request, exchange, until)

    async def _answer_apart(self, protocol: Protocol, request: Request, exchange: Exchange, until: Until) -> Reply:
        """Answer in a thread what may hold up others."""
        if request.method != "POST":
            return protocol.answer(request, exchange)
        asked = None
        if (found := protocol.find_rows(request)) is not None and self._asker.plane.is_plain(found[0]):
            asked = Asked(*found, request.body, exchange)
        named = request.headers.get(ENDPOINT_HEADER, b"").decode("latin-1")
        path = f"{request.path}#{named}" if named else request.path
        work = partial(protocol.answer, request, exchange)
        return await self._apart.answer(path, len(request.body), work, asked, until)
