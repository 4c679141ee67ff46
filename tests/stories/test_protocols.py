"""A real model behind every protocol, by the processes that a user starts."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from flyball.server.inference.oip.wire import SERVICE, make_messages
from tests.docs.snippets import ROOT, read_blocks
from tests.peers import peer_python
from tests.peers.fuzzing import check_no_fault
from tests.stories.system import System, send, wait_for
from tests.stories.tiny import REQUEST, make_request, write_tiny
from tests.stories.traffic import Traffic

pytestmark = pytest.mark.slow
messages = make_messages()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    made = System(write_tiny(tmp_path_factory.mktemp("protocols") / "tiny", settings="tick_seconds = 0.2\n"))
    made.run("run", "training")
    made.up()
    yield made
    made.stop()


def ask(system: System, path: str, body: Any) -> Any:
    reply = send(system.port + 1, "POST", path, body)
    assert reply.status == 200, reply
    return reply.body


def tensors(request: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "datatype": "FP64" if isinstance(value, float) else "INT64",
            "shape": [1],
            "data": [value],
        }
        for name, value in request.items()
    ]


def test_every_protocol_gives_the_same_prediction(system: System) -> None:
    expected = system.predict(REQUEST).body["prediction"]
    by_tensors = ask(system, "/v2/models/parcel/infer", {"inputs": tensors(REQUEST)})
    matrix = {"name": "x", "datatype": "FP64", "shape": [1, len(REQUEST)], "data": list(REQUEST.values())}
    found = {
        "fields": by_tensors["outputs"][0]["data"],
        "matrix": ask(system, "/v2/models/parcel/infer", {"inputs": [matrix]})["outputs"][0]["data"],
        "named": ask(system, "/v2/models/parcel/versions/1/infer", {"inputs": [matrix]})["outputs"][0]["data"],
        "records": ask(system, "/invocations", {"dataframe_records": [REQUEST]})["predictions"],
        "v1": ask(system, "/v1/models/parcel:predict", {"instances": [REQUEST]})["predictions"],
        "seldon": ask(system, "/api/v1.0/predictions", {"jsonData": REQUEST})["data"]["ndarray"][0],
    }
    assert found == {name: [expected] for name in found}
    # Unlike the row's values, its prediction can be traced to the data, whatever protocol it came by.
    assert "parcels" in system.run("trace", by_tensors["id"])


def test_grpc_is_two_ports_above(system: System) -> None:
    inputs = tensors(REQUEST)
    for tensor in inputs:
        place = "fp64_contents" if tensor["datatype"] == "FP64" else "int64_contents"
        tensor["contents"] = {place: tensor.pop("data")}
    request = messages["ModelInferRequest"](model_name="parcel", inputs=inputs)
    with grpc.insecure_channel(f"127.0.0.1:{system.port + 2}") as channel:
        data = channel.unary_unary(f"/{SERVICE}/ModelInfer")(request.SerializeToString(), timeout=10)
    answer = messages["ModelInferResponse"].FromString(data)
    assert list(answer.outputs[0].contents.fp64_contents) == [system.predict(REQUEST).body["prediction"]]


def test_the_documented_examples_come_from_the_training_data(system: System) -> None:
    described = send(system.port + 1, "GET", "/openapi.json").body
    body = described["paths"]["/predict/parcel"]["post"]["requestBody"]["content"]["application/json"]
    example = body["examples"]["one"]["value"]
    rows = (system.project / "data" / "parcels.csv").read_text()
    assert f"{example['weight_kg']:.2f}" in rows
    assert ask(system, "/predict/parcel", example)["status"] == "ok"


def run_as_documented(system: System, folder: Path, page: str, contains: str, *command: str) -> list[str]:
    """Run a page's blocks that contain a word, against the system's own port, and return what each printed."""
    said = []
    for block in read_blocks(ROOT / "docs" / "how-to" / page):
        if contains in block.text:
            text = block.text.replace("localhost:3593", f"127.0.0.1:{system.port + 1}")
            done = subprocess.run([*command, text], capture_output=True, text=True, timeout=60, check=False, cwd=folder)
            assert done.returncode == 0, (block.line, done.stdout, done.stderr)
            said.append(done.stdout)
    return said


def read_objects(text: str) -> Iterator[Any]:
    """Yield JSON objects that were printed one after the other."""
    while text:
        found, end = json.JSONDecoder().raw_decode(text)
        yield found
        text = text[end:].lstrip()


def test_curl_does_what_the_pages_say(system: System, tmp_path: Path) -> None:
    rows = (system.project / "data" / "parcels.csv").read_text().splitlines(keepends=True)
    (tmp_path / "parcels.csv").write_text("".join(rows[:20]))
    named, invoked = run_as_documented(system, tmp_path, "serving-protocols.md", "curl ", "bash", "-c")
    one, many = read_objects(named)
    assert one["status"] == many["predictions"][0]["status"] == "ok"
    by_file, by_frame = read_objects(invoked)
    assert len(by_file["predictions"]) == 19
    assert by_frame["predictions"] == [one["prediction"]]
    [explained] = run_as_documented(system, tmp_path, "explanations.md", "curl ", "bash", "-c")
    assert json.loads(explained)["explanation"]["attributions"]


@pytest.mark.parametrize(
    ("peer", "contains", "before", "last"),
    [
        ("tritonclient", "tritonclient.http", "", "client.infer("),
        (
            "mlflow",
            "get_deploy_client",
            "import pandas\nframe = pandas.DataFrame([[7, 3, 7.5, 1], [8, 2, 1.2, 0]],"
            " columns=['parcel_id', 'shop_id', 'weight_kg', 'rush'])\n",
            "client.predict(",
        ),
    ],
)
def test_clients_do_what_the_page_says(
    system: System, tmp_path: Path, peer: str, contains: str, before: str, last: str
) -> None:
    show = f"import sys\ntext = sys.argv[1].replace({last!r}, 'answer = {last}')\nexec({before!r} + text)\n"
    program = f"{show}print(getattr(answer, 'predictions', answer))"
    [said] = run_as_documented(system, tmp_path, "serving-protocols.md", contains, peer_python(peer), "-c", program)
    values = [float(text) for text in re.findall(r"\d\.\d+", said)]
    expected = system.predict({"parcel_id": 7, "shop_id": 3, "weight_kg": 7.5, "rush": 1}).body["prediction"]
    assert len(values) == 2
    assert values[0] == pytest.approx(expected, abs=1e-6)


def test_an_older_version_answers_when_it_is_named(system: System) -> None:
    body = {"inputs": tensors(REQUEST)}
    with Traffic(system.port + 1, make_request).flowing():
        system.run("run", "training", "--param", "train.strength=0.02")
        wait_for(lambda: system.live() == "lateness/2", "lateness/2 is live", 60)
    wait_for(lambda: ask(system, "/v2/models/parcel/infer", body)["model_version"] == "2", "the gateway follows")
    old = ask(system, "/v2/models/parcel/versions/1/infer", body)
    assert old["model_version"] == "1"
    index = ask(system, "/v2/repository/index", {})
    assert [(entry["version"], entry["state"]) for entry in index] == [("1", "READY"), ("2", "READY")]
    unknown = send(system.port + 1, "POST", "/v2/models/parcel/versions/3/infer", body)
    assert (unknown.status, "its versions are 1 to 2" in unknown.body["error"]) == (404, True)


def test_metrics_tell_of_the_load_and_the_requests(system: System) -> None:
    text = subprocess.run(
        ["curl", "-sf", f"http://127.0.0.1:{system.port + 1}/metrics"], capture_output=True, text=True, check=True
    ).stdout
    assert 'flyball_model_loads_total{version="lateness/1",outcome="loaded"} 1' in text
    assert 'flyball_endpoint_ready{endpoint="parcel"} 1' in text


def test_schemathesis_finds_no_fault_in_a_real_model(system: System, tmp_path: Path) -> None:
    check_no_fault(f"http://127.0.0.1:{system.port + 1}/openapi.json", folder=tmp_path, examples=40)
    assert json.loads((system.home / "metrics" / "0.json").read_bytes())
