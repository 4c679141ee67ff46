"""Version 1 of KServe's protocol: ``POST /v1/models/NAME:predict`` and ``:explain`` with instances."""

from typing import Any

import msgspec

from flyball.core.errors import FlyballError, InvalidInputError
from flyball.server.inference.asking import Asker
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.messages import Reply, Request
from flyball.server.inference.paths import refuse_plainly, require_method, unknown_path
from flyball.server.inference.rows import origin_headers, read_object, read_rows

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
            case [name] if name.endswith(":predict"):
                return self._predict(request, name.removesuffix(":predict"), exchange)
            case [name] if name.endswith(":explain"):
                return self._predict(request, name.removesuffix(":explain"), exchange, explain=True)
            case [name]:
                require_method(request, "GET")
                is_ready = self._asker.line(name).live is not None
                return Reply(200 if is_ready else 503, _encode({"name": name, "ready": is_ready}))
        raise unknown_path(request, _ADDRESSES)

    def _predict(self, request: Request, endpoint: str, exchange: Exchange, *, explain: bool = False) -> Reply:
        require_method(request, "POST")
        loaded = self._asker.open(endpoint, exchange)
        content = read_object(request.body)
        if request.media_type == _CLOUD_EVENT:
            content = _open_event(content)
        forms = [form for form in ("instances", "inputs") if form in content]
        if len(forms) != 1:
            raise InvalidInputError('the body must be {"instances": [...]}, one entry for each row')
        rows = read_rows(loaded, content[forms[0]], what=forms[0])
        answered = self._asker.ask(endpoint, rows, exchange, explain=explain)
        body: dict[str, Any] = {"predictions": answered.predictions}
        if explain:
            body["explanations"] = answered.explanations
        return Reply(200, _encode(body), headers=origin_headers(answered))


def _open_event(event: dict[str, Any]) -> dict[str, Any]:
    data = event.get("data")
    if not isinstance(data, dict):
        raise InvalidInputError("the CloudEvent must carry the request as its data, a JSON object")
    return data
