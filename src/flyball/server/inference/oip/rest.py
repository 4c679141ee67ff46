"""The Open Inference Protocol over REST, with its extension for binary tensors."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from flyball.core.errors import FlyballError, InvalidInputError
from flyball.domain.serving.answers import Answer
from flyball.domain.serving.direct_plane import DirectAnswer, DirectAsk
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.messages import Reply, Request
from flyball.server.inference.oip.inference import InferAnswer, InferRequest, OpenInference, check_parameters
from flyball.server.inference.oip.tensors import (
    Tensor,
    TensorError,
    check_tensor,
    read_raw,
    read_text_of_json,
    write_raw,
)
from flyball.server.inference.paths import refuse_plainly, require_method, unknown_path
from flyball.server.inference.together import RowProtocol
from flyball.server.problems import BodyUnreadableError

_INFER = re.compile("/v2/models/([^/]+)/infer")
_HEADER = b"inference-header-content-length"
_OCTETS = "application/octet-stream"
_ADDRESSES = (
    "GET /v2, /v2/health/live, /v2/health/ready, /v2/models/NAME[/versions/NUMBER][/ready] and "
    "POST /v2/models/NAME[/versions/NUMBER]/infer"
)
_encode = msgspec.json.Encoder(enc_hook=str).encode
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**40)]


class _Input(msgspec.Struct):
    name: str
    datatype: str
    shape: list[_Size]
    parameters: dict[str, Any] | None = None
    data: msgspec.Raw = msgspec.Raw(b"")


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Body(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


class _FloatInput(msgspec.Struct):
    name: str
    datatype: str
    shape: list[_Size]
    data: list[float]
    parameters: dict[str, Any] | None = None


class _FloatBody(msgspec.Struct):
    """A request of floats, which nearly all are: read at once, where others are read by their datatypes."""

    inputs: list[_FloatInput]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


_decode = msgspec.json.Decoder(_Body).decode
_decode_floats = msgspec.json.Decoder(_FloatBody).decode


class OpenInferenceRest:
    """Answers what begins with ``/v2``.

    Args:
        calls: What the protocol can do.
    """

    name = "open_inference"

    def __init__(self, calls: OpenInference) -> None:
        self._calls = calls

    def knows(self, path: str) -> bool:
        """Tell whether an address belongs to this protocol."""
        return path == "/v2" or path.startswith("/v2/")

    def begin(self, endpoint: str, body: bytes, exchange: Exchange) -> tuple[DirectAsk, Any] | None:
        """See `ShortWay`."""
        try:
            _require_text(body)
            found = _read_floats(body) or _read_one(body)
        except (FlyballError, msgspec.DecodeError, ValueError, RecursionError):
            return None
        if found is None:
            return None
        tensor, identifier = found
        ask = self._calls.begin(endpoint, tensor, exchange.started_s)
        return None if ask is None else (ask, identifier)

    def read(self, endpoint: str, body: bytes) -> tuple[Sequence[Any], Any] | None:
        """See `ShortWay`."""
        try:
            content = _decode(body)
            if content.outputs is not None or content.parameters:
                return None
            inputs, _ = _read_inputs(content.inputs, memoryview(b""))
            return self._calls.read_rows(endpoint, inputs), content.id
        except (FlyballError, msgspec.DecodeError, ValueError, RecursionError):
            return None

    def reply(self, endpoint: str, answers: Sequence[Answer], state: Any, exchange: Exchange) -> Reply:
        """See `ShortWay`."""
        try:
            found = self._calls.conclude(endpoint, state or "", answers, exchange)
        except FlyballError as error:
            return self.refuse(error)
        return _write(found, [False] * len(found.outputs))

    def finish(self, endpoint: str, answer: DirectAnswer, state: Any, exchange: Exchange) -> bytes:
        """See `ShortWay`."""
        found = self._calls.finish(endpoint, state or "", answer, exchange)
        return _write(found, [False] * len(found.outputs)).body

    def refuse(self, error: FlyballError) -> Reply:
        """Return ``{"error": text}``."""
        return refuse_plainly(error)

    def find_rows(self, request: Request) -> tuple[str, RowProtocol] | None:
        """Return whom a request asks; one that names a version is answered alone."""
        found = _INFER.fullmatch(request.path)
        return None if found is None else (found[1], self)

    def answer(self, request: Request, exchange: Exchange) -> Reply:
        """Answer a request; raises `FlyballError` for what is refused."""
        match request.path.removesuffix("/").split("/")[2:]:
            case []:
                return _reply(request, "GET", self._calls.describe_server)
            case ["health", "live"]:
                return _reply(request, "GET", lambda: {"live": True})
            case ["health", "ready"]:
                require_method(request, "GET")
                is_ready = self._calls.is_ready()
                return Reply(200 if is_ready else 503, _encode({"ready": is_ready}))
            case ["models"]:
                return _reply(request, "GET", lambda: {"models": self._calls.list_models()})
            case ["models", model, "versions", version, *rest]:
                return self._answer_model(request, model, version, rest, exchange)
            case ["models", model, *rest]:
                return self._answer_model(request, model, "", rest, exchange)
            case ["repository", *rest]:
                return self._answer_repository(request, rest)
        raise unknown_path(request, _ADDRESSES)

    def _answer_model(
        self, request: Request, model: str, version: str, rest: Sequence[str], exchange: Exchange
    ) -> Reply:
        match rest:
            case ["infer"]:
                require_method(request, "POST")
                return self._infer(request, model, version, exchange)
            case []:
                return _reply(request, "GET", lambda: self._calls.describe_model(model, version))
            case ["ready"]:
                require_method(request, "GET")
                is_ready = self._calls.is_model_ready(model, version)
                return Reply(200 if is_ready else 503, _encode({"name": model, "ready": is_ready}))
        raise unknown_path(request, _ADDRESSES)

    def _answer_repository(self, request: Request, rest: Sequence[str]) -> Reply:
        require_method(request, "POST")
        content = read_object(request.body) if request.body else {}
        match rest:
            case ["index"]:
                return Reply(200, _encode(self._calls.list_repository(only_ready=_flag(content, "ready"))))
            case ["models", model, "load"]:
                parameters = content.get("parameters")
                check_parameters("the request", parameters if isinstance(parameters, dict) else ())
                self._calls.load(model, version_parameter(content))
                return Reply(200, b"{}")
            case ["models", model, "unload"]:
                self._calls.unload(model, version_parameter(content))
                return Reply(200, b"{}")
        raise unknown_path(request, "POST /v2/repository/index and /v2/repository/models/NAME/load or /unload")

    def _infer(self, request: Request, model: str, version: str, exchange: Exchange) -> Reply:
        header, raw = _split_body(request)
        try:
            _require_text(header)
            body = _decode(header)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise _unreadable(header, error) from error
        try:
            inputs, left = _read_inputs(body.inputs, raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _unreadable(header, error) from error
        if left:
            raise TensorError(f"{left:,} bytes follow the last binary tensor")
        wanted = body.outputs or []
        tensors: list[_Input | _Output] = [*body.inputs, *wanted]
        for found in tensors:
            check_parameters(f"{found.name[:100]!r}", found.parameters or ())
        answer = self._calls.infer(
            InferRequest(
                model=model,
                version=version,
                id=body.id or "",
                inputs=inputs,
                outputs=[output.name for output in wanted],
            ),
            exchange,
        )
        default = _flag(body.parameters, "binary_data_output")
        is_binary = {output.name: _flag(output.parameters, "binary_data", default) for output in wanted}
        return _write(answer, [is_binary.get(output.name, default) for output in answer.outputs])


def _read_floats(body: bytes) -> tuple[Tensor, str | None] | None:
    """Return the tensor and the id of a request of one flat matrix of floats; None where it is another."""
    try:
        content = _decode_floats(body)
    except msgspec.DecodeError:
        return None
    if len(content.inputs) != 1 or not _is_short(content, content.inputs[0]):
        return None
    found = content.inputs[0]
    if found.datatype not in ("FP64", "FP32") or len(found.data) != check_tensor("", found.datatype, found.shape):
        return None
    return Tensor(found.name, found.datatype, tuple(found.shape), found.data, _find_data(body)), content.id


def _read_one(body: bytes) -> tuple[Tensor, str | None] | None:
    """Return the tensor and the id of a request of one tensor; None where there are more, or options."""
    content = _decode(body)
    if len(content.inputs) != 1 or not _is_short(content, content.inputs[0]):
        return None
    found = content.inputs[0]
    return read_text_of_json(found.name, found.datatype, found.shape, bytes(found.data)), content.id


def _is_short(content: _Body | _FloatBody, tensor: _Input | _FloatInput) -> bool:
    return content.outputs is None and not content.parameters and not tensor.parameters


def _find_data(body: bytes) -> bytes:
    """Return the text of the one flat list of numbers under ``data``; empty where it cannot be told for certain."""
    at = body.find(b'"data"')
    if at < 0 or b"\\" in body or body.find(b'"data"', at + 1) >= 0:
        return b""
    start = body.find(b"[", at)
    text = body[start : body.find(b"]", start) + 1]
    return b"" if b"\n" in text else text


def read_object(body: bytes) -> dict[str, Any]:
    """Return a body that must be a JSON object."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise _unreadable(body, error) from error


def version_parameter(content: dict[str, Any]) -> str:
    """Return the version that a load or unload names in its parameters."""
    parameters = content.get("parameters")
    version = parameters.get("version", "") if isinstance(parameters, dict) else ""
    return str(version)


def _require_text(content: bytes) -> None:
    """Raise `UnicodeDecodeError` where content is no UTF-8; the decoder does not look at fields that nobody reads."""
    if not content.isascii():
        content.decode()


def _unreadable(body: bytes, error: Exception) -> BodyUnreadableError:
    if not body:
        return BodyUnreadableError("it is empty")
    if isinstance(error, RecursionError):
        return BodyUnreadableError("it is nested too deeply")
    if isinstance(error, msgspec.ValidationError):
        return BodyUnreadableError(str(error), wanted="a request of the Open Inference Protocol")
    return BodyUnreadableError(str(error))


def _reply(request: Request, method: str, tell: Any) -> Reply:
    require_method(request, method)
    return Reply(200, _encode(tell()))


def _split_body(request: Request) -> tuple[bytes, memoryview]:
    """Return the JSON and the raw bytes that follow it; the length of the JSON is what tells, not the media type."""
    length = request.headers.get(_HEADER)
    if length is None:
        return request.body, memoryview(b"")
    if not length.isdigit() or int(length) > len(request.body):
        raise InvalidInputError(
            f"Inference-Header-Content-Length is {length[:20].decode('latin-1')!r}, "
            f"but the body has {len(request.body):,} bytes"
        )
    return request.body[: int(length)], memoryview(request.body)[int(length) :]


def _read_inputs(inputs: Sequence[_Input], raw: memoryview) -> tuple[list[Tensor], int]:
    """Return the tensors, and how many raw bytes were left over."""
    tensors = []
    for found in inputs:
        size = (found.parameters or {}).get("binary_data_size")
        if size is None:
            tensors.append(read_text_of_json(found.name, found.datatype, found.shape, bytes(found.data)))
            continue
        if type(size) is not int or not 0 <= size <= len(raw):
            raise TensorError(f"input {found.name!r} has {size!r} binary bytes, but {len(raw):,} are left in the body")
        if found.data:
            raise TensorError(f"input {found.name!r} has both data and binary_data_size")
        tensors.append(read_raw(found.name, found.datatype, found.shape, raw[:size]))
        raw = raw[size:]
    return tensors, len(raw)


def _flag(parameters: dict[str, Any] | None, name: str, default: bool = False) -> bool:
    value = (parameters or {}).get(name, default)
    if not isinstance(value, bool):
        raise InvalidInputError(f"the parameter {name!r} must be true or false")
    return value


def _write(answer: InferAnswer, is_binary: Sequence[bool]) -> Reply:
    outputs, parts = [], []
    for tensor, raw in zip(answer.outputs, is_binary, strict=True):
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if raw:
            parts.append(write_raw(tensor))
            output["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            output["data"] = tensor.values
        outputs.append(output)
    header = _encode({"model_name": answer.model, "model_version": answer.version, "id": answer.id, "outputs": outputs})
    if not parts:
        return Reply(200, header)
    return Reply(200, b"".join([header, *parts]), _OCTETS, headers=((_HEADER, str(len(header)).encode()),))
