"""What a user of tritonclient does: ``PYTHON triton_calls.py PORT GRPC_PORT``; prints one JSON object."""

import asyncio
import json
import sys

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as over_grpc_aio
import tritonclient.http as over_http
import tritonclient.http.aio as over_http_aio
from tritonclient.utils import InferenceServerException

ROWS = np.array([[1.0, 1000.0, 12.0], [2.0, 2000.0, 24.0]])


def make_inputs(module, **options):
    tensor = module.InferInput("x", list(ROWS.shape), "FP64")
    tensor.set_data_from_numpy(ROWS, **options)
    return [tensor]


def make_fields(module):
    inputs = []
    for name, datatype, values in (
        ("customer_id", "INT64", np.array([1, 2], dtype=np.int64)),
        ("income", "FP32", np.array([1000, 2000], dtype=np.float32)),
        ("term", "INT32", np.array([12, 24], dtype=np.int32)),
        ("applied_at", "BYTES", np.array(["2026-03-01T00:00:00Z"] * 2, dtype=object)),
    ):
        tensor = module.InferInput(name, [2], datatype)
        tensor.set_data_from_numpy(values)
        inputs.append(tensor)
    return inputs


def call_http(port):
    client = over_http.InferenceServerClient(f"127.0.0.1:{port}")
    found = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready("credit"),
        "unknown_ready": client.is_model_ready("unknown"),
        "server": client.get_server_metadata()["name"],
        "inputs": [spec["name"] for spec in client.get_model_metadata("credit")["inputs"]],
        "index": [entry["name"] for entry in client.get_model_repository_index()],
        "binary": client.infer("credit", make_inputs(over_http)).as_numpy("prediction").tolist(),
        "fields": client.infer("credit", make_fields(over_http)).as_numpy("prediction").tolist(),
        "json": client.infer(
            "credit",
            make_inputs(over_http, binary_data=False),
            outputs=[over_http.InferRequestedOutput("prediction", binary_data=False)],
        )
        .as_numpy("prediction")
        .tolist(),
        "compressed": client.infer(
            "credit",
            make_inputs(over_http),
            request_compression_algorithm="gzip",
            response_compression_algorithm="gzip",
        )
        .as_numpy("prediction")
        .tolist(),
        "version": client.infer("credit", make_inputs(over_http), model_version="2").get_response()["model_version"],
        "ids": client.infer("credit", make_inputs(over_http), outputs=[over_http.InferRequestedOutput("prediction_id")])
        .as_numpy("prediction_id")
        .tolist(),
        "asynchronous": client.async_infer("credit", make_inputs(over_http))
        .get_result()
        .as_numpy("prediction")
        .tolist(),
    }
    found["ids"] = [text.decode() for text in found["ids"]]
    client.load_model("credit")
    try:
        client.infer("unknown", make_inputs(over_http))
    except InferenceServerException as error:
        found["error"] = [error.status(), error.message()]
    client.close()
    return found


async def call_http_aio(port):
    client = over_http_aio.InferenceServerClient(f"127.0.0.1:{port}")
    answer = await client.infer("credit", make_inputs(over_http_aio))
    squeezed = await client.infer("credit", make_inputs(over_http_aio), request_compression_algorithm="deflate")
    found = {"binary": answer.as_numpy("prediction").tolist(), "deflate": squeezed.as_numpy("prediction").tolist()}
    await client.close()
    return found


def call_grpc(port):
    client = over_grpc.InferenceServerClient(f"127.0.0.1:{port}")
    found = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready("credit"),
        "server": client.get_server_metadata().name,
        "inputs": [spec.name for spec in client.get_model_metadata("credit").inputs],
        "index": [model.name for model in client.get_model_repository_index().models],
        "raw": client.infer("credit", make_inputs(over_grpc)).as_numpy("prediction").tolist(),
        "fields": client.infer("credit", make_fields(over_grpc)).as_numpy("prediction").tolist(),
        "compressed": client.infer("credit", make_inputs(over_grpc), compression_algorithm="gzip")
        .as_numpy("prediction")
        .tolist(),
    }
    client.load_model("credit")
    try:
        client.infer("unknown", make_inputs(over_grpc))
    except InferenceServerException as error:
        found["error"] = [error.status(), error.message()]
    answers = []
    client.start_stream(lambda result, error: answers.append(error or result.as_numpy("prediction").tolist()))
    for _ in range(3):
        client.async_stream_infer("credit", make_inputs(over_grpc))
    client.stop_stream()
    found["stream"] = answers
    client.close()
    return found


async def call_grpc_aio(port):
    client = over_grpc_aio.InferenceServerClient(f"127.0.0.1:{port}")
    answer = await client.infer("credit", make_inputs(over_grpc_aio))
    await client.close()
    return {"raw": answer.as_numpy("prediction").tolist()}


if __name__ == "__main__":
    http_port, grpc_port = sys.argv[1:3]
    results = {
        "http": call_http(http_port),
        "http_aio": asyncio.run(call_http_aio(http_port)),
        "grpc": call_grpc(grpc_port),
        "grpc_aio": asyncio.run(call_grpc_aio(grpc_port)),
    }
    print(json.dumps(results))
