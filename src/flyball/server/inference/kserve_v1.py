"""Version 1 of KServe's protocol: ``POST /v1/models/NAME:predict`` and ``:explain`` with instances."""

from typing import Any

import msgspec

from flyball.core.errors import FlyballError, InvalidInputError
from flyball.domain.serving.loaded import LoadedVersion
from flyball.server.inference.asking import Answered, Asker
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.messages import Reply, Request
from flyball.server.inference.paths import refuse_plainly, require_method, unknown_path
from flyball.server.inference.rows import origin_headers, read_object, read_rows
from flyball.server.inference.together import RowCalls

_PREDICT, _EXPLAIN = ":predict", ":explain"
_CLOUD_EVENT = "application/cloudevents+json"
_ADDRESSES = "GET /v1/models and /v1/models/NAME, POST /v1/models/NAME:predict and :explain"
_encode = msgspec.json.Encoder(enc_hook=str).encode


class KserveV1:
    """Answers what begins with ``/v1/models``.

    Args:
        asker: Asks the data plane.
    """

    name = "kserve_v1"

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._calls = RowCalls(asker, _read, _write)
        self._event_calls = RowCalls(asker, _read_event, _write)

    def knows(self, path: str) -> bool:
        """Tell whether an address belongs to this protocol."""
        return path == "/v1/models" or path.startswith("/v1/models/")

    def refuse(self, error: FlyballError) -> Reply:
        """Return ``{"error": text}``."""
        return refuse_plainly(error)

    def answer(self, request: Request, exchange: Exchange) -> Reply:
        """Answer a request; raises `FlyballError` for what is refused."""
        match request.path.removesuffix("/").split("/")[3:]:
            case []:
                require_method(request, "GET")
                return Reply(200, _encode({"models": sorted(self._asker.lines)}))
            case [name] if name.endswith(_PREDICT):
                require_method(request, "POST")
                return self._calls_of(request).answer(name.removesuffix(_PREDICT), request.body, exchange)
            case [name] if name.endswith(_EXPLAIN):
                return self._explain(request, name.removesuffix(_EXPLAIN), exchange)
            case [name]:
                require_method(request, "GET")
                is_ready = self._asker.line(name).live is not None
                return Reply(200 if is_ready else 503, _encode({"name": name, "ready": is_ready}))
        raise unknown_path(request, _ADDRESSES)

    def find_rows(self, request: Request) -> tuple[str, RowCalls] | None:
        """Return whom a request for predictions asks, and what reads and answers it."""
        match request.path.removesuffix("/").split("/")[3:]:
            case [name] if name.endswith(_PREDICT):
                return name.removesuffix(_PREDICT), self._calls_of(request)
        return None

    def _calls_of(self, request: Request) -> RowCalls:
        return self._event_calls if request.media_type == _CLOUD_EVENT else self._calls

    def _explain(self, request: Request, endpoint: str, exchange: Exchange) -> Reply:
        require_method(request, "POST")
        read = _read_event if request.media_type == _CLOUD_EVENT else _read
        rows, _ = read(self._asker.open(endpoint, exchange), request.body)
        answered = self._asker.ask(endpoint, rows, exchange, explain=True)
        body = {"predictions": answered.predictions, "explanations": answered.explanations}
        return Reply(200, _encode(body), headers=origin_headers(answered))


def _write(answered: Answered, _state: None) -> Reply:
    return Reply(200, _encode({"predictions": answered.predictions}), headers=origin_headers(answered))


def _read(loaded: LoadedVersion, body: bytes) -> tuple[list[Any], None]:
    return _read_content(loaded, read_object(body)), None


def _read_event(loaded: LoadedVersion, body: bytes) -> tuple[list[Any], None]:
    data = read_object(body).get("data")
    if not isinstance(data, dict):
        raise InvalidInputError("the CloudEvent must carry the request as its data, a JSON object")
    return _read_content(loaded, data), None


def _read_content(loaded: LoadedVersion, content: dict[str, Any]) -> list[Any]:
    forms = [form for form in ("instances", "inputs") if form in content]
    if len(forms) != 1:
        raise InvalidInputError('the body must be {"instances": [...]}, one entry for each row')
    return read_rows(loaded, content[forms[0]], what=forms[0])
