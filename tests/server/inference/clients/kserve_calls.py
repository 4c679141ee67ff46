"""What a user of KServe's client does: ``PYTHON kserve_calls.py PORT GRPC_PORT``; prints one JSON object."""

import asyncio
import json
import sys

http_port, grpc_port = sys.argv[1:3]
del sys.argv[1:]  # importing kserve reads the command line

import numpy as np  # noqa: E402
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig  # noqa: E402

ROWS = np.array([[1.0, 1000.0, 12.0], [2.0, 2000.0, 24.0]])


def make_request(*, binary=False):
    tensor = InferInput(name="x", shape=list(ROWS.shape), datatype="FP64")
    tensor.set_data_from_numpy(ROWS, binary_data=binary)
    return InferRequest(model_name="credit", infer_inputs=[tensor])


async def call_v2():
    url = f"http://127.0.0.1:{http_port}"
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=1))
    answer = await client.infer(url, make_request(), model_name="credit")
    binary = await client.infer(url, make_request(binary=True), model_name="credit")
    found = {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model_ready": await client.is_model_ready(url, "credit"),
        "json": answer.outputs[0].as_numpy().tolist(),
        "binary": binary.outputs[0].as_numpy().tolist(),
        "id": answer.id,
    }
    await client.close()
    return found


async def call_v1():
    url = f"http://127.0.0.1:{http_port}"
    client = InferenceRESTClient(RESTConfig(protocol="v1", retries=1))
    answer = await client.infer(url, {"instances": ROWS.tolist()}, model_name="credit")
    told = await client.explain(url, "credit", {"instances": ROWS.tolist()})
    found = {
        "live": await client.is_server_live(url),
        "model_ready": await client.is_model_ready(url, "credit"),
        "predictions": answer["predictions"],
        "explained": [found["base"] + sum(found["attributions"].values()) for found in told["explanations"]],
    }
    await client.close()
    return found


async def call_grpc():
    client = InferenceGRPCClient(f"127.0.0.1:{grpc_port}")
    answer = await client.infer(make_request())
    found = {
        "live": await client.is_server_live(),
        "ready": await client.is_server_ready(),
        "model_ready": await client.is_model_ready("credit"),
        "predictions": answer.outputs[0].as_numpy().tolist(),
    }
    await client.close()
    return found


async def main():
    print(json.dumps({"v2": await call_v2(), "v1": await call_v1(), "grpc": await call_grpc()}))


asyncio.run(main())
