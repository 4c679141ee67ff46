"""Tells what is at the gateway: ``GET /`` and ``GET /openapi.json``."""

import msgspec

from flyball.core.errors import FlyballError
from flyball.server.inference.asking import Asker
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.messages import Reply, Request
from flyball.server.inference.openapi import describe_gateway, write_openapi
from flyball.server.inference.paths import require_method
from flyball.server.problems import MEDIA_TYPE, make_problem

_PATHS = ("/", "/openapi.json")
_encode = msgspec.json.Encoder(enc_hook=str).encode


class Listing:
    """Answers who looks around.

    Args:
        asker: Knows the endpoints.
        grpc_address: Where inference over gRPC listens; empty when it does not.
    """

    name = "other"

    def __init__(self, asker: Asker, grpc_address: str) -> None:
        self._asker = asker
        self._grpc_address = grpc_address

    def knows(self, path: str) -> bool:
        """Tell whether an address belongs here."""
        return path in _PATHS

    def answer(self, request: Request, exchange: Exchange) -> Reply:
        """Answer a request; raises `FlyballError` for what is refused."""
        require_method(request, "GET")
        if request.path == "/":
            return Reply(200, _encode(describe_gateway(self._asker.lines, self._grpc_address)))
        return Reply(200, _encode(write_openapi(self._asker.lines)))

    def find_rows(self, _request: Request) -> None:
        """Nobody is asked for predictions here."""

    def refuse(self, error: FlyballError) -> Reply:
        """Return a problem document."""
        problem = make_problem(error)
        return Reply(problem["status"], _encode(problem), MEDIA_TYPE)
