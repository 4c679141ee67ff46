"""Bad requests to the processes of a real `flyball up`: a problem document that names the thing, and nothing kept."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stories.system import Reply, System, send
from tests.stories.tiny import REQUEST, write_tiny

pytestmark = pytest.mark.slow
LIMIT_BYTES = 8_000_000


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    made = System(write_tiny(tmp_path_factory.mktemp("up") / "tiny", settings='[users]\nbob = ["intern"]\n'))
    made.run("run", "training")
    made.up()
    yield made
    made.stop()
    assert "Traceback" not in made.told()


def assert_problem(reply: Reply, status: int, *words: str) -> dict[str, Any]:
    assert reply.status == status, reply
    assert {"type", "title", "status", "detail"} <= reply.body.keys()
    text = json.dumps(reply.body)
    for word in words:
        assert word in text, text
    assert "Traceback" not in text
    found: dict[str, Any] = reply.body
    return found


# predictions


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"weight_kg": None}, "weight_kg", "null"),
        ({"weight_kg": "heavy"}, "weight_kg", "heavy"),
        ({"weight_kg": [1]}, "weight_kg", "weight_kg"),
        ({"weight_kg": 50.1}, "weight_kg", "weight_kg must be between 0 and 50, but 50.1 was given"),
        ({"rush": 7}, "rush", "one of 0, 1"),
        ({"rush": 0.5}, "rush", "rush"),
        ({"shop_id": True}, "shop_id", "shop_id"),
        ({"shop_id": 2**70}, "shop_id", "shop_id"),
        ({"colour": "red"}, "colour", "colour"),
    ],
)
def test_a_bad_field_is_named(system: System, changes: dict[str, Any], field: str, words: str) -> None:
    problem = assert_problem(system.predict(REQUEST | changes), 422, words)
    assert [error["field"] for error in problem["errors"]] == [field]
    assert problem["prediction_id"]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e400", "nan"])
def test_nan_is_no_number_in_json(system: System, text: str) -> None:
    body = json.dumps(REQUEST).replace("7.5", text).encode()
    assert_problem(send(system.port + 1, "POST", "/predict/parcel", body), 400, "JSON")


def test_all_missing_fields_are_told_together(system: System) -> None:
    problem = assert_problem(system.predict({}), 422)
    assert {error["field"] for error in problem["errors"]} == {"parcel_id", "shop_id", "weight_kg", "rush"}


def test_an_unknown_endpoint_or_address_is_told(system: System) -> None:
    assert_problem(system.predict(REQUEST, "parsel"), 404, "did you mean 'parcel'")
    assert_problem(system.predict(REQUEST, "../../status"), 404)
    assert_problem(send(system.port + 1, "GET", "/predict/parcel"), 405, "POST")


@pytest.mark.parametrize("offset", [0, 1])
def test_a_body_of_100_mb_is_refused_by_both_servers(system: System, offset: int) -> None:
    path = "/predict/parcel" if offset else "/labels"
    body = b'{"prediction_id": "' + b"x" * 100_000_000 + b'"}'
    try:
        reply = send(system.port + offset, "POST", path, body)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it was refused by its length, before the client had sent it all
    else:
        assert_problem(reply, 413, f"{LIMIT_BYTES:,}" if offset else "")
    assert system.get("/health").status == 200


# the control plane


def test_labels_that_cannot_be_kept(system: System) -> None:
    assert_problem(system.post("/labels", {"prediction_id": "nonsense", "value": 1}), 404, "'nonsense'")
    assert_problem(system.post("/labels", {"prediction_id": "x"}), 422, "value")
    assert_problem(system.post("/labels", {"prediction_id": "x", "value": 1, "vlaue": 2}), 422, "vlaue")
    assert_problem(system.post("/labels", b"{oops"), 400)
    prediction = system.predict(REQUEST).body["prediction_id"]
    assert_problem(system.post("/labels", {"prediction_id": prediction, "value": 1, "at": "soon"}), 422, "'soon'")
    assert system.post("/labels", {"prediction_id": prediction, "value": 1}).status == 201
    assert_problem(system.post("/labels", {"prediction_id": prediction, "value": "late"}), 422, "late")
    assert [label["value"] for label in system.get(f"/predictions/{prediction}/trace").body["labels"]] == [1]


def test_unknown_names_in_addresses(system: System) -> None:
    assert_problem(system.get("/predictions/nonsense/trace"), 404, "'nonsense'")
    assert_problem(system.get("/endpoints/parsel/history?at=2026-01-01"), 404, "did you mean 'parcel'")
    assert_problem(system.get("/endpoints/parcel/history?at=soon"), 422, "'soon'")
    assert_problem(system.get("/endpoints/parcel/history"), 422, "at")
    assert_problem(system.get("/nowhere"), 404)
    assert_problem(system.get("/events?after=many"), 422, "after")


def test_what_may_not_be_done_is_not_done(system: System) -> None:
    before = system.get("/status").body["endpoints"]
    assert_problem(system.post("/endpoints/parsel/rollback", {}), 404, "did you mean 'parcel'")
    assert_problem(system.post("/endpoints/parcel/rollback", {}), 409, "no earlier version", "flyball run")
    assert_problem(system.post("/versions/lateness/9/approve", {"user": "bob"}), 404, "no version 9")
    assert_problem(system.post("/versions/lateness/1/approve", {"user": "bob"}), 409, "lateness/1")
    assert system.get("/status").body["endpoints"] == before


# processes


def test_only_one_up_may_use_a_home(system: System) -> None:
    refused = system.try_run("up", "--port", str(system.port + 10))
    assert refused.returncode == 1
    assert "another flyball up" in refused.stderr
    assert "--home" in refused.stderr
    assert system.get("/health").status == 200
    json.loads((system.home / "up.json").read_text())


def test_a_port_that_is_taken_is_named(system: System, tmp_path: Path) -> None:
    other = System(write_tiny(tmp_path / "tiny"))
    refused = other.try_run("up", "--port", str(system.port))
    assert refused.returncode == 1
    assert f"port {system.port} on 127.0.0.1 is taken" in refused.stderr
    assert "--port" in refused.stderr
    assert not (other.home / "up.json").exists()


def test_a_taken_port_of_grpc_is_named(system: System, tmp_path: Path) -> None:
    settings = f"grpc_port = {system.port + 2}\n"
    other = System(write_tiny(tmp_path / "tiny", settings=settings))
    refused = other.try_run("up", "--port", str(other.port))
    assert refused.returncode == 1
    assert f"port {system.port + 2} on 127.0.0.1 is taken" in refused.stderr
