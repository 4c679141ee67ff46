"""The Open Inference Protocol over gRPC, on the event loop of the gateway."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from flyball.core.errors import (
    BackendUnavailableError,
    ConflictError,
    FlyballError,
    InvalidInputError,
    NotFoundError,
    NotPermittedError,
)
from flyball.domain.serving.answers import Answer
from flyball.domain.serving.direct_plane import MOST_SHARED_ROWS, DirectAsk
from flyball.server.inference.apart import Apart
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.oip.gathering import Gathering
from flyball.server.inference.oip.inference import InferAnswer, InferRequest, OpenInference, check_parameters
from flyball.server.inference.oip.tensors import (
    BYTES,
    Tensor,
    TensorError,
    check_tensor,
    read_json,
    read_raw,
    read_text,
    write_raw,
)
from flyball.server.inference.oip.wire import HEALTH_SERVICE, SERVICE, make_messages
from flyball.server.inference.short_way import WORTH_NOTING_S, count_together
from flyball.server.inference.telemetry import Telemetry
from flyball.server.inference.together import Asked

_CODES: dict[type[FlyballError], grpc.StatusCode] = {
    InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    ConflictError: grpc.StatusCode.FAILED_PRECONDITION,
    NotPermittedError: grpc.StatusCode.PERMISSION_DENIED,
    BackendUnavailableError: grpc.StatusCode.UNAVAILABLE,
    FlyballError: grpc.StatusCode.INTERNAL,
}
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
_SERVING, _NOT_SERVING = 1, 2
_log = logging.getLogger("flyball.gateway")
_Call = Callable[[Any], Awaitable[Any]]


class GrpcServer:
    """Listens for the protocol's calls.

    Args:
        calls: What the protocol can do.
        thread: Where versions are loaded, so that no other request waits.
        telemetry: Watches inference.
        apart: Answers in threads what may hold up others.
        max_message_bytes: A longer message is refused unread.
    """

    def __init__(
        self, calls: OpenInference, thread: Executor, telemetry: Telemetry, apart: Apart, *, max_message_bytes: int
    ) -> None:
        self._telemetry = telemetry
        self._apart = apart
        self._calls = calls
        self._thread = thread
        self._gathering = Gathering(self._answer_together)
        self._messages = make_messages()
        self._decode = self._messages["ModelInferRequest"].FromString
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 1),
            ]
        )
        self._server.add_generic_rpc_handlers((self._list_handlers(), self._list_health_handlers()))

    async def start(self, address: str) -> int:
        """Listen at an address and return its port; raises `RuntimeError` when it is taken."""
        port = int(self._server.add_insecure_port(address))
        await self._server.start()
        return port

    async def stop(self, grace_s: float) -> None:
        """Take no more calls and finish those under way."""
        await self._server.stop(grace_s)

    def _list_handlers(self) -> grpc.GenericRpcHandler:
        # The bytes are decoded inside the call: gRPC itself would call what it cannot decode the server's fault.
        unary: dict[str, tuple[str, _Call]] = {
            "ServerLive": ("ServerLiveRequest", self._tell_live),
            "ServerReady": ("ServerReadyRequest", self._tell_ready),
            "ModelReady": ("ModelReadyRequest", self._tell_model_ready),
            "ServerMetadata": ("ServerMetadataRequest", self._describe_server),
            "ModelMetadata": ("ModelMetadataRequest", self._describe_model),
            "RepositoryIndex": ("RepositoryIndexRequest", self._list_repository),
            "RepositoryModelLoad": ("RepositoryModelRequest", self._load),
            "RepositoryModelUnload": ("RepositoryModelRequest", self._unload),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._make_handler(name, request, call))
            for name, (request, call) in unary.items()
        }
        handlers["ModelInfer"] = grpc.unary_unary_rpc_method_handler(self._infer)
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._stream)
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _list_health_handlers(self) -> grpc.GenericRpcHandler:
        handler = grpc.unary_unary_rpc_method_handler(
            self._make_handler("Check", "HealthCheckRequest", self._check_health)
        )
        return grpc.method_handlers_generic_handler(HEALTH_SERVICE, {"Check": handler})

    def _make_handler(self, name: str, request: str, call: _Call) -> Callable[[bytes, Any], Awaitable[bytes]]:
        decode = self._messages[request].FromString

        async def handle(data: bytes, context: Any) -> bytes:
            try:
                answer = await call(decode(data))
                return bytes(answer.SerializeToString())
            except Exception as error:  # noqa: BLE001 - the request's edge: one bad request must not end the process
                code, told = _refuse(error, name)
            await context.abort(code, told)
            raise AssertionError  # abort raises

        return handle

    async def _infer(self, data: bytes, context: Any) -> bytes:
        exchange = self._telemetry.begin(Exchange("open_inference_grpc"))
        if self._telemetry.tracer is not None:
            pairs = context.invocation_metadata() or ()
            exchange.headers = {key.encode(): value.encode() for key, value in pairs if isinstance(value, str)}
        code, told = grpc.StatusCode.OK, ""
        try:
            written = await self._gathering.answer(_Waiting(data, exchange))
            if written is not None:
                return written
            answer = await self._answer(self._decode(data), exchange)
            return bytes(answer.SerializeToString())
        except Exception as error:  # noqa: BLE001 - the request's edge: one bad request must not end the process
            code, told = _refuse(error, "ModelInfer")
        finally:
            if exchange.has_deferred:
                asyncio.get_running_loop().call_soon(exchange.run_deferred)
            self._telemetry.finish(exchange, "ModelInfer", f"/{SERVICE}/ModelInfer", code.name)
        await context.abort(code, told)
        raise AssertionError  # abort raises

    async def _stream(self, requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        """Answer each request of a stream; one that is refused does not end the others."""
        wrap = self._messages["ModelStreamInferResponse"]
        async for data in requests:
            exchange = self._telemetry.begin(Exchange("open_inference_grpc"))
            code = grpc.StatusCode.OK
            try:
                answer = wrap(infer_response=await self._answer(self._decode(data), exchange))
            except Exception as error:  # noqa: BLE001 - the request's edge: one bad request must not end the process
                code, told = _refuse(error, "ModelStreamInfer")
                answer = wrap(error_message=told)
            self._telemetry.finish(exchange, "ModelStreamInfer", f"/{SERVICE}/ModelStreamInfer", code.name)
            yield answer.SerializeToString()
            exchange.run_deferred()

    async def _tell_live(self, _request: Any) -> Any:
        return self._messages["ServerLiveResponse"](live=True)

    async def _tell_ready(self, _request: Any) -> Any:
        return self._messages["ServerReadyResponse"](ready=self._calls.is_ready())

    async def _check_health(self, request: Any) -> Any:
        if request.service not in ("", SERVICE):
            raise NotFoundError(f"no service is named {request.service[:100]!r}")
        status = _SERVING if self._calls.is_ready() else _NOT_SERVING
        return self._messages["HealthCheckResponse"](status=status)

    async def _tell_model_ready(self, request: Any) -> Any:
        return self._messages["ModelReadyResponse"](ready=self._calls.is_model_ready(request.name, request.version))

    async def _describe_server(self, _request: Any) -> Any:
        return self._messages["ServerMetadataResponse"](**self._calls.describe_server())

    async def _describe_model(self, request: Any) -> Any:
        await self._load_named(request.name, request.version)
        return self._messages["ModelMetadataResponse"](**self._calls.describe_model(request.name, request.version))

    async def _list_repository(self, request: Any) -> Any:
        found = await self._in_thread(lambda: self._calls.list_repository(only_ready=request.ready))
        return self._messages["RepositoryIndexResponse"](models=found)

    async def _load(self, request: Any) -> Any:
        check_parameters("the request", request.parameters)
        return await self._change(request, self._calls.load)

    async def _unload(self, request: Any) -> Any:
        return await self._change(request, self._calls.unload)

    async def _change(self, request: Any, change: Callable[[str, str], None]) -> Any:
        model = request.model_name or request.repository_name
        choice = request.parameters.get("version")
        version = str(choice.string_param or choice.int64_param or "") if choice is not None else ""
        await self._in_thread(lambda: change(model, version))
        return self._messages["RepositoryModelResponse"](model_name=model, is_done=True)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _load_named(self, model: str, version: str) -> None:
        if self._calls.needs_loading(model, version):
            await self._in_thread(lambda: self._calls.load(model, version))

    async def _answer(self, request: Any, exchange: Exchange) -> Any:
        await self._load_named(request.model_name, request.model_version)
        for found in (*request.inputs, *request.outputs):
            check_parameters(f"{found.name[:100]!r}", found.parameters)
        asked = InferRequest(
            model=request.model_name,
            version=request.model_version,
            id=request.id,
            inputs=_read_inputs(request),
            outputs=[output.name for output in request.outputs],
        )
        work = partial(self._calls.infer, asked, exchange)
        shared = None
        if not asked.version and not asked.outputs and self._calls.plane.is_plain(asked.model):
            shared = Asked(asked.model, CallRows(self._calls, asked), b"", exchange)
        answer = await self._apart.answer(_path(asked.model), request.ByteSize(), work, shared)
        return self._write(answer, is_raw=bool(request.raw_input_contents))

    def _answer_together(self, calls: Sequence["_Waiting"]) -> list[bytes | None]:
        """Answer calls of one tensor of numbers each by the short way; None for those that must go the long way."""
        answers: list[bytes | None] = [None] * len(calls)
        begun: list[int] = []
        asks: list[DirectAsk] = []
        for place, call in enumerate(calls):
            ask = self._begin(call)
            if ask is not None:
                call.exchange.mark("decode")
                begun.append(place)
                asks.append(ask)
        if not asks:
            return answers
        count_together([calls[place].exchange for place in begun], asks)
        watch = self._apart.watch()
        # The first that is answered takes along what is left to do for all.
        found_answers = self._calls.plane.answer_direct(asks, defer=calls[begun[0]].exchange.defer)
        watch.end()
        for place, found in zip(begun, found_answers, strict=True):
            call = calls[place]
            if found is not None:
                if watch.took_s > WORTH_NOTING_S:
                    self._apart.note(_path(call.model), watch.took_s)
                call.exchange.mark("log")
                answer = self._calls.finish(call.model, call.id, found, call.exchange)
                answers[place] = self._write(answer, is_raw=True).SerializeToString()
        return answers

    def _begin(self, call: "_Waiting") -> DirectAsk | None:
        try:
            request = self._decode(call.data)
            call.model, call.id = request.model_name, request.id
            is_plain = len(request.raw_input_contents) == len(request.inputs) == 1
            if not is_plain or request.model_version or request.outputs or self._apart.is_slow(_path(call.model)):
                return None
            ask = self._calls.begin(call.model, _read_inputs(request)[0], call.exchange.started_s)
        except (DecodeError, FlyballError):  # the long way meets it again, and tells it
            return None
        if ask is None or ask.block.height > MOST_SHARED_ROWS:
            return None
        call.exchange.endpoint = call.model
        return ask

    def _write(self, answer: InferAnswer, *, is_raw: bool) -> Any:
        response = self._messages["ModelInferResponse"](
            model_name=answer.model, model_version=answer.version, id=answer.id
        )
        for tensor in answer.outputs:
            output = response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            if is_raw:
                response.raw_output_contents.append(write_raw(tensor))
                continue
            values = tensor.to_list()
            if tensor.datatype == BYTES:
                values = [str(value).encode() for value in values]
            getattr(output.contents, _CONTENTS[tensor.datatype]).extend(values)
        return response


class _Waiting:
    """A call that may go the short way."""

    __slots__ = ("data", "exchange", "id", "model")

    def __init__(self, data: bytes, exchange: Exchange) -> None:
        self.data = data
        self.exchange = exchange
        self.id = ""
        self.model = ""


class CallRows:
    """Implements `RowProtocol` for one call that was decoded."""

    def __init__(self, calls: OpenInference, request: InferRequest) -> None:
        self._calls = calls
        self._request = request

    def read(self, endpoint: str, _body: bytes) -> tuple[Sequence[Any], None]:
        """See `RowProtocol.read`."""
        return self._calls.read_rows(endpoint, self._request.inputs), None

    def reply(
        self, endpoint: str, answers: Sequence[Answer], _state: None, exchange: Exchange
    ) -> InferAnswer | FlyballError:
        """See `RowProtocol.reply`."""
        try:
            return self._calls.conclude(endpoint, self._request.id, answers, exchange)
        except FlyballError as error:
            return error


def _path(model: str) -> str:
    """Return how a model's calls are named among the addresses that may be slow."""
    return f"grpc:{model}"


def _read_inputs(request: Any) -> list[Tensor]:
    raw = request.raw_input_contents
    if not raw:
        return [_read_contents(tensor) for tensor in request.inputs]
    if len(raw) != len(request.inputs):
        raise TensorError(f"there are {len(request.inputs)} inputs, but {len(raw)} raw_input_contents")
    if any(tensor.HasField("contents") for tensor in request.inputs):
        raise TensorError("an input has contents beside raw_input_contents")
    return [
        read_raw(tensor.name, tensor.datatype, tensor.shape, data)
        for tensor, data in zip(request.inputs, raw, strict=True)
    ]


def _read_contents(tensor: Any) -> Tensor:
    check_tensor(tensor.name, tensor.datatype, tensor.shape)
    place = _CONTENTS.get(tensor.datatype)
    if place is None:
        raise TensorError(f"input {tensor.name!r} is {tensor.datatype}, which is sent in raw_input_contents")
    filled = [field.name for field, _ in tensor.contents.ListFields()]
    if filled not in ([], [place]):
        raise TensorError(f"input {tensor.name!r} is {tensor.datatype}, so it must fill {place}, not {filled[0]}")
    values = list(getattr(tensor.contents, place))
    if tensor.datatype == BYTES:
        values = [read_text(tensor.name, value) for value in values]
    return read_json(tensor.name, tensor.datatype, tensor.shape, values)


def _refuse(error: Exception, name: str) -> tuple[grpc.StatusCode, str]:
    """Return what tells a caller of an error; what should not have happened goes to the log."""
    if isinstance(error, DecodeError):
        return grpc.StatusCode.INVALID_ARGUMENT, "the message is not what this call takes"
    if isinstance(error, FlyballError):
        return _code_of(error), _tell(error)
    _log.error("%s failed", name, exc_info=error)
    return grpc.StatusCode.INTERNAL, "something went wrong inside Flyball; its log has the reason"


def _code_of(error: FlyballError) -> grpc.StatusCode:
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def _tell(error: FlyballError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
