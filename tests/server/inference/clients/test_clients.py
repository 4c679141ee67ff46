"""Other tools' own clients, unmodified, each from an environment of its own."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flyball.version import __version__
from tests.peers import peer_python
from tests.server.inference.conftest import Gateway

pytestmark = pytest.mark.slow
BOTH = [0.25, 0.25]


def run(peer: str, script: str, *arguments: object) -> Any:
    """Run a script beside this file with a peer's interpreter and return the JSON that it printed."""
    done = subprocess.run(
        [peer_python(peer), str(Path(__file__).with_name(script)), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_tritonclient_with_its_defaults(gateway: Gateway) -> None:
    found = run("tritonclient", "triton_calls.py", gateway.port, gateway.port + 1)
    fields = ["customer_id", "income", "term", "applied_at"]
    http = found["http"]
    assert (http["live"], http["ready"], http["model_ready"], http["unknown_ready"]) == (True, True, True, False)
    assert (http["server"], http["inputs"], set(http["index"])) == ("flyball", fields, {"credit"})
    for way in ("binary", "fields", "json", "compressed", "asynchronous"):
        assert http[way] == BOTH, way
    assert http["version"] == "2"
    assert gateway.house.predictions.get(http["ids"][1]).prediction == 0.25
    assert http["error"][0] == "404"
    assert "no endpoint is named 'unknown'" in http["error"][1]
    assert found["http_aio"] == {"binary": BOTH, "deflate": BOTH}
    grpc = found["grpc"]
    assert (grpc["live"], grpc["ready"], grpc["model_ready"]) == (True, True, True)
    assert (grpc["server"], grpc["inputs"], set(grpc["index"])) == ("flyball", fields, {"credit"})
    for way in ("raw", "fields", "compressed"):
        assert grpc[way] == BOTH, way
    assert grpc["stream"] == [BOTH] * 3
    assert grpc["error"][0] == "StatusCode.NOT_FOUND"
    assert found["grpc_aio"] == {"raw": BOTH}


def test_kserves_client_over_both_versions(gateway: Gateway) -> None:
    found = run("kserve", "kserve_calls.py", gateway.port, gateway.port + 1)
    v2, v1, grpc = found["v2"], found["v1"], found["grpc"]
    assert (v2["live"], v2["ready"], v2["model_ready"]) == (True, True, True)
    assert (v2["json"], v2["binary"], bool(v2["id"])) == (BOTH, BOTH, True)
    assert v1 == {"live": True, "model_ready": True, "predictions": BOTH, "explained": BOTH}
    assert grpc == {"live": True, "ready": True, "model_ready": True, "predictions": BOTH}


def test_mlflows_scoring_and_deployments_clients(gateway: Gateway) -> None:
    found = run("mlflow", "mlflow_calls.py", gateway.port)
    for way in ("frame", "array"):
        assert found[way] == BOTH, way
    assert (found["version"], found["times"]) == (__version__, 2)
    assert found["deployments"] == {"predictions": BOTH}
    assert found["endpoints"] == ["credit"]
    assert found["endpoint"].endswith("/endpoints/credit/invocations")
    assert "no endpoint is named 'unknown'" in found["error"]


def test_curl(gateway: Gateway) -> None:
    def curl(path: str, *options: str) -> Any:
        command = ["curl", "--silent", "--show-error", "--fail", f"http://127.0.0.1:{gateway.port}{path}", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return json.loads(done.stdout)

    body = '{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 1000, 12]}]}'
    # curl says application/x-www-form-urlencoded unless it is told otherwise.
    assert curl("/v2/models/credit/infer", "-d", body)["outputs"][0]["data"] == [0.25]
    assert curl("/v2/models/credit/ready")["ready"] is True
    assert curl("/v1/models/credit:predict", "-d", '{"instances": [[1, 1000, 12]]}') == {"predictions": [0.25]}
    options = ["-H", "content-type: text/csv", "--data-binary", "customer_id,income,term\n1,1000,12\n"]
    assert curl("/invocations", *options) == {"predictions": [0.25]}
