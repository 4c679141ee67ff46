"""Other tools' own clients, unmodified, each from an environment of its own."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

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
