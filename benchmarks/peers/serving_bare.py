"""The limits of `benchmarks.serving`: a server that answers a constant, or calls the model and does nothing else.

Usage: python serving_bare.py constant|model|grpc PROJECT HOME PORT MODEL
"""

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvicorn

ANSWER = (
    b'{"model_name":"plain","model_version":"1","id":"0","outputs":[{"name":"prediction","shape":[1],"data":[0.5]}]}'
)


class _Input(msgspec.Struct):
    shape: list[int]
    data: list[float]


class _Body(msgspec.Struct):
    inputs: list[_Input]


def main(role: str, project: str, home: str, port: str, model: str) -> None:
    predict = None if role == "constant" else _load(Path(project), Path(home), model)
    if role == "grpc":
        asyncio.run(_serve_grpc(port, predict))
        return
    decode = msgspec.json.Decoder(_Body).decode
    encode = msgspec.json.Encoder().encode

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        answer = ANSWER
        if predict is not None:
            given = decode(body).inputs[0]
            # The row's key comes first; the model takes the rest.
            values = np.array(given.data).reshape(given.shape)[:, 1:]
            output = {
                "name": "prediction",
                "datatype": "FP64",
                "shape": given.shape[:1],
                "data": predict(values).tolist(),
            }
            answer = encode({"model_name": "plain", "model_version": "1", "id": "0", "outputs": [output]})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    options: dict[str, Any] = {"loop": "uvloop", "http": "httptools", "lifespan": "off", "ws": "none"}
    config = uvicorn.Config(app, log_level="error", access_log=False, date_header=False, **options)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(("127.0.0.1", int(port)))
        uvicorn.Server(config).run(sockets=[listening])


async def _serve_grpc(port: str, predict: Any) -> None:
    """Serve the protocol's one call: its bytes are read, given to the model, and written."""
    import grpc

    from flyball.server.inference.oip.wire import SERVICE, make_messages

    messages = make_messages()

    async def infer(request: Any, _context: Any) -> Any:
        given = request.inputs[0]
        values = np.frombuffer(request.raw_input_contents[0]).reshape(tuple(given.shape))[:, 1:]
        found = predict(values)
        output = {"name": "prediction", "datatype": "FP64", "shape": [len(values)]}
        return messages["ModelInferResponse"](
            model_name="plain", model_version="1", id="0", outputs=[output], raw_output_contents=[found.tobytes()]
        )

    handler = grpc.unary_unary_rpc_method_handler(
        infer,
        request_deserializer=messages["ModelInferRequest"].FromString,
        response_serializer=messages["ModelInferResponse"].SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def _load(project: Path, home: Path, model: str) -> Any:
    """Return the model as the gateway computes it."""
    from flyball.workspace.workspace import Workspace

    loaded = Workspace(project, home).packages.load(f"{model}/1")
    names = [field.name for field in loaded.signature.features.fields]
    predict_array = getattr(loaded.predictor, "predict_array", None)
    if predict_array is not None:
        return predict_array
    import polars as pl

    return lambda values: loaded.predictor.predict(pl.DataFrame(values, schema=names))


if __name__ == "__main__":
    main(*sys.argv[1:6])
