"""Version 1 of Seldon's protocol: ``POST /api/v1.0/predictions``."""

from math import prod
from typing import Any

import msgspec

from flyball.core.errors import FlyballError, InvalidInputError
from flyball.domain.serving.loaded import LoadedVersion
from flyball.server.inference.asking import Asker
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.messages import Reply, Request
from flyball.server.inference.paths import is_unread, require_method, status_for_clients, unknown_path
from flyball.server.inference.rows import from_columns, origin_headers, pick_endpoint, read_object, read_rows

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

    def knows(self, path: str) -> bool:
        """Tell whether an address belongs to this protocol."""
        return path in _PATHS or (path.startswith("/seldon/") and path.endswith(_PATHS))

    def answer(self, request: Request, exchange: Exchange) -> Reply:
        """Answer a request; raises `FlyballError` for what is refused."""
        match request.path.split("/")[1:]:
            case ["api", _, "predictions"]:
                endpoint = pick_endpoint(request, self._asker.lines)
            case ["seldon", _, endpoint, "api", _, "predictions"]:
                pass
            case _:
                raise unknown_path(request, "POST /api/v1.0/predictions and /seldon/ANY/NAME/api/v1.0/predictions")
        require_method(request, "POST")
        loaded = self._asker.open(endpoint, exchange)
        content = read_object(request.body)
        rows, is_tensor = _read(loaded, content)
        answered = self._asker.ask(endpoint, rows, exchange)
        meta = content.get("meta")
        given = meta.get("puid") if isinstance(meta, dict) else None
        values = answered.predictions
        data: dict[str, Any] = {"names": ["prediction"]}
        if is_tensor:
            data["tensor"] = {"shape": [len(values), 1], "values": values}
        else:
            data["ndarray"] = [[value] for value in values]
        reply = {"data": data, "meta": {"puid": given or answered.first_id, "requestPath": {endpoint: answered.number}}}
        return Reply(200, _encode(reply), headers=origin_headers(answered))

    def refuse(self, error: FlyballError) -> Reply:
        """Return ``{"status": {...}}``."""
        code = status_for_clients(error)
        status = {"code": code, "info": error.message, "reason": error.code, "status": "FAILURE"}
        return Reply(code, _encode({"status": status}), is_last=is_unread(error))


def _read(loaded: LoadedVersion, content: dict[str, Any]) -> tuple[list[Any], bool]:
    """Return the rows, and whether they came as a tensor."""
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
