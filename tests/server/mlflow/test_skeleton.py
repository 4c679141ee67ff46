"""What every address of the MLflow protocol does alike."""

import sqlite3
import threading

import msgspec
import pytest

from flyball.core.errors import FlyballError
from flyball.server.mlflow.app import MlflowApp
from flyball.server.mlflow.requests import Int64, Request
from flyball.server.mlflow.routing import Router, Work, lookup, read, stream, write
from flyball.storage.db import Transaction
from flyball.workspace.home import Home
from tests.server.mlflow.calls import Calls


class Point(msgspec.Struct):
    key: str
    step: Int64 = 0
    value: float = 0.0
    names: list[str] = []


def echo(_home: Home, request: Request) -> Point:
    return request.decode(Point)


def keep(_home: Home, request: Request) -> Work:
    point = request.decode(Point)

    def work(tx: Transaction) -> dict[str, int]:
        if point.key == "thread":
            return {threading.current_thread().name: 1}
        return {"events": tx.value("SELECT count(*) FROM journal_event"), "step": point.step}

    return work


def name_thread(_home: Home, _request: Request) -> str:
    return threading.current_thread().name


async def count(_home: Home, request: Request) -> dict[str, object]:
    return {"size": sum([len(chunk) async for chunk in request.stream()]), **request.values}


def break_down(_home: Home, _request: Request) -> None:
    raise ZeroDivisionError


@pytest.fixture
def calls(home: Home) -> Calls:
    routes = (
        read("GET", "/api/2.0/mlflow/points", echo),
        read("POST", "/api/2.0/mlflow/points", echo),
        write("POST", "/api/2.0/mlflow/kept", keep),
        stream("PUT", "/api/2.0/files/{name}/{rest:path}", count),
        read("POST", "/api/2.0/broken", break_down),
        read("GET", "/api/2.0/mlflow/read-by", name_thread),
        lookup("GET", "/api/2.0/mlflow/found-by", name_thread),
    )
    return Calls(MlflowApp(home, routes))


def test_numbers_come_as_numbers_or_as_texts(calls: Calls) -> None:
    assert calls.get("points", key="a", step="7", value="NaN", names=["x", "y"])["names"] == ["x", "y"]
    assert calls.post("points", key="a", step="7", value="-1e3")["value"] == -1000
    assert calls.post("kept", key="a", step=3) == {"events": 0, "step": 3}


def test_a_few_rows_of_a_file_are_read_without_changing_threads(calls: Calls) -> None:
    assert str(calls.get("read-by")).startswith("mlflow-read")
    assert calls.get("found-by") == threading.current_thread().name


def test_what_one_client_logs_to_a_file_is_committed_without_changing_threads(
    calls: Calls, home: Home, request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("--database") != "sqlite":
        pytest.skip("everything waits for a server")
    assert calls.post("kept", key="thread") == {threading.current_thread().name: 1}
    other = sqlite3.connect(home.db.url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.2, lambda: other.execute("ROLLBACK")).start()
    assert calls.post("kept", key="thread") == {"committer": 1}  # who has to wait does so elsewhere
    other.close()


def test_the_same_routes_answer_pages(calls: Calls) -> None:
    assert calls.send("GET", "/ajax-api/2.0/mlflow/points", key="a").status == 200


@pytest.mark.usefixtures("without_garbage")
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[1]", "must be a JSON object"),
        (b"3", "must be a JSON object"),
        (b"{}", "required parameter 'key'"),
        (b'{"key": 3}', "parameter 'key'"),
        (b'{"key": "a", "step": "seven"}', "parameter 'step'"),
        (b'{"key": "a", "step": 99999999999999999999}', "step"),
        (b'{"key": "a", "names": ["x", 2]}', "parameter 'names[1]'"),
        (b'{"other":' * 100_000, "nested too deeply"),
    ],
)
def test_a_body_that_does_not_fit_is_refused_by_field(calls: Calls, body: bytes, words: str) -> None:
    reply = calls.send("POST", "/api/2.0/mlflow/kept", body)
    assert reply.error == (400, "INVALID_PARAMETER_VALUE")
    assert words in reply.json()["message"]


def test_a_body_that_is_not_json_is_refused(calls: Calls) -> None:
    reply = calls.send("POST", "/api/2.0/mlflow/points", b"key=a", "application/x-www-form-urlencoded")
    assert reply.error == (400, "INVALID_PARAMETER_VALUE")


def test_an_unknown_address_and_a_wrong_method_say_so(calls: Calls) -> None:
    reply = calls.send("GET", "/api/2.0/mlflow/nothing")
    assert reply.error == (404, "ENDPOINT_NOT_FOUND")
    assert "nothing at '/api/2.0/mlflow/nothing'" in reply.json()["message"]
    assert calls.send("DELETE", "/api/2.0/mlflow/points").error == (405, "ENDPOINT_NOT_FOUND")


def test_a_path_gives_its_segments_decoded_one_by_one(calls: Calls) -> None:
    reply = calls.send("PUT", "/api/2.0/files/a%2Fb/c%20d/e", b"12345", "application/octet-stream")
    assert reply.json() == {"size": 5, "name": "a/b", "rest": "c d/e"}
    assert calls.send("PUT", "/api/2.0/files/%ff/x").error == (400, "INVALID_PARAMETER_VALUE")


def test_what_nobody_expected_is_told_without_its_inside(calls: Calls) -> None:
    reply = calls.send("POST", "/api/2.0/broken", b"{}")
    assert reply.error == (500, "INTERNAL_ERROR")
    assert "ZeroDivision" not in reply.json()["message"]


def test_two_handlers_of_one_address_are_refused() -> None:
    with pytest.raises(ValueError, match="two handlers"):
        Router([read("GET", "/x", echo), read("GET", "/x", echo)])


def test_fixed_segments_win_over_variable_ones() -> None:
    router = Router([read("GET", "/m/{id}", echo), read("POST", "/m/search", keep), read("PATCH", "/m/{id}", echo)])
    assert router.find("POST", "/m/search")[1] == {}
    assert router.find("GET", "/m/search")[1] == {"id": "search"}
    with pytest.raises(FlyballError, match="does not take DELETE"):
        router.find("DELETE", "/m/7")
