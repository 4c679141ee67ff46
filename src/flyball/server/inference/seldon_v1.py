"""Version 1 of Seldon's protocol: ``POST /api/v1.0/predictions``."""

from math import prod
from typing import Any

import msgspec

from flyball.core.errors import FlyballError, InvalidInputError
from flyball.domain.serving.loaded import LoadedVersion
from flyball.server.inference.asking import Answered, Asker
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.messages import Reply, Request
from flyball.server.inference.paths import is_unread, require_method, status_for_clients, unknown_path
from flyball.server.inference.rows import from_columns, origin_headers, pick_endpoint, read_object, read_rows
from flyball.server.inference.together import RowCalls

_PATHS = ("/api/v1.0/predictions", "/api/v0.1/predictions")
_encode = msgspec.json.Encoder(enc_hook=str).encode


class SeldonV1:
    """Answers predictions as Seldon Core's version 1 does; feedback is given as labels instead.

    Args:
        asker: Asks the data plane.
    """

    name = "seldon_v1"

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._calls = RowCalls(asker, _read, _write)

    def knows(self, path: str) -> bool:
        """Tell whether an address belongs to this protocol."""
        return path in _PATHS or (path.startswith("/seldon/") and path.endswith(_PATHS))

    def answer(self, request: Request, exchange: Exchange) -> Reply:
        """Answer a request; raises `FlyballError` for what is refused."""
        endpoint, calls = self.find_rows(request)
        require_method(request, "POST")
        return calls.answer(endpoint, request.body, exchange)

    def find_rows(self, request: Request) -> tuple[str, RowCalls]:
        """Return whom a request asks, and what reads and answers it.

        Raises:
            EndpointNotNamedError: There are several endpoints, or none, and none is named.
            PathUnknownError: There is no such address.
        """
        match request.path.split("/")[1:]:
            case ["api", _, "predictions"]:
                return pick_endpoint(request, self._asker.lines), self._calls
            case ["seldon", _, endpoint, "api", _, "predictions"]:
                return endpoint, self._calls
        raise unknown_path(request, "POST /api/v1.0/predictions and /seldon/ANY/NAME/api/v1.0/predictions")

    def refuse(self, error: FlyballError) -> Reply:
        """Return ``{"status": {...}}``."""
        code = status_for_clients(error)
        status = {"code": code, "info": error.message, "reason": error.code, "status": "FAILURE"}
        return Reply(code, _encode({"status": status}), is_last=is_unread(error))


def _read(loaded: LoadedVersion, body: bytes) -> tuple[list[Any], tuple[bool, Any]]:
    """Return the rows, whether they came as a tensor, and what the client calls the request."""
    content = read_object(body)
    rows, is_tensor = _read_rows(loaded, content)
    meta = content.get("meta")
    return rows, (is_tensor, meta.get("puid") if isinstance(meta, dict) else None)


def _write(answered: Answered, state: tuple[bool, Any]) -> Reply:
    is_tensor, given = state
    values = answered.predictions
    data: dict[str, Any] = {"names": ["prediction"]}
    if is_tensor:
        data["tensor"] = {"shape": [len(values), 1], "values": values}
    else:
        data["ndarray"] = [[value] for value in values]
    meta = {"puid": given or answered.first_id, "requestPath": {answered.endpoint: answered.number}}
    return Reply(200, _encode({"data": data, "meta": meta}), headers=origin_headers(answered))


def _read_rows(loaded: LoadedVersion, content: dict[str, Any]) -> tuple[list[Any], bool]:
    forms = [form for form in ("data", "jsonData", "strData", "binData") if form in content]
    if len(forms) != 1 or forms[0] in ("strData", "binData"):
        found = " and ".join(forms) or "neither"
        raise InvalidInputError(f"the body must have either data or jsonData, but it has {found}")
    if forms == ["jsonData"]:
        rows = content["jsonData"]
        return read_rows(loaded, [rows] if isinstance(rows, dict) else rows, what="jsonData"), False
    data = content["data"]
    if not isinstance(data, dict) or ("ndarray" in data) == ("tensor" in data):
        raise InvalidInputError("data must be an object with either ndarray or tensor")
    is_tensor = "tensor" in data
    values = _nest(data["tensor"]) if is_tensor else data["ndarray"]
    names = data.get("names")
    if not names:
        return read_rows(loaded, values, what="data"), is_tensor
    if not isinstance(names, list) or not isinstance(values, list):
        raise InvalidInputError("the names and the values of data must be lists")
    return from_columns(loaded, names, values, what="data"), is_tensor


def _nest(tensor: Any) -> list[Any]:
    shape, values = (tensor.get("shape"), tensor.get("values")) if isinstance(tensor, dict) else (None, None)
    if (
        not isinstance(values, list)
        or not isinstance(shape, list)
        or len(shape) != 2
        or not all(type(size) is int and size >= 0 for size in shape)
        or prod(shape) != len(values)
    ):
        raise InvalidInputError("a tensor must have a shape of two dimensions and as many values")
    return [values[start : start + shape[1]] for start in range(0, len(values), max(1, shape[1]))]
