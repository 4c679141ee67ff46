"""How a signature becomes tensors, and answers become outputs."""

import json
from typing import Any

import pytest

from flyball.core.errors import UnknownNameError
from flyball.domain.serving.rollouts import canary
from flyball.server.inference.asking import Answered
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.messages import Request
from flyball.server.inference.oip.interface import Interface, TensorSpec, write_output
from flyball.server.inference.rows import EndpointNotNamedError, pick_endpoint
from tests.domain.serving.conftest import fixed, make_version
from tests.server.inference.conftest import StartGateway


def interface(*classes: Any) -> Interface:
    return Interface.of(make_version("m/1", fixed(0.5), classes=classes))


@pytest.mark.parametrize(
    ("classes", "datatype"),
    [
        (("a", "b", "c"), "BYTES"),
        ((1, 2, 3), "INT64"),
        ((0.5, 1.5, 2.5), "FP64"),
        (("a", 1, True), "BYTES"),
        ((False, True), "FP64"),
    ],
)
def test_predictions_have_the_classes_type(classes: tuple[Any, ...], datatype: str) -> None:
    assert interface(*classes).outputs["prediction"] == TensorSpec("prediction", datatype, (-1,))


def test_more_than_two_classes_have_scores() -> None:
    made = interface("a", "b", "c")
    assert made.answered == ("prediction", "scores")
    answered = Answered(
        endpoint="e",
        first_id="i",
        ids=["i", "j"],
        versions=["m/1", "m/2"],
        predictions=["a", "c"],
        scores=[[0.8, 0.1, 0.1], [0.0, 0.1, 0.9]],
    )
    scores = write_output(made.outputs["scores"], answered)
    assert (scores.shape, scores.to_list()) == ((2, 3), [0.8, 0.1, 0.1, 0.0, 0.1, 0.9])
    assert write_output(made.outputs["prediction"], answered).to_list() == ["a", "c"]
    assert write_output(made.outputs["model_version"], answered).to_list() == ["1", "2"]
    assert answered.number == ""


def test_rows_shared_by_two_versions_say_who_answered_each(start: StartGateway) -> None:
    gateway = start()
    gateway.house.start("m/2", canary(0.5, "1h"))
    columns = {"customer_id": list(range(60)), "income": [1] * 60, "term": [12] * 60}
    inputs = [
        {"name": name, "datatype": "INT64", "shape": [len(values)], "data": values} for name, values in columns.items()
    ]
    body = json.dumps({"inputs": inputs}).encode()
    answer: dict[str, Any] = {}
    while answer.get("model_version", "1") == "1":  # until the gateway has followed
        answer = gateway.send("POST", "/v2/models/credit/infer", body).json
    prediction, version = answer["outputs"]
    assert (answer["model_version"], version["name"]) == ("", "model_version")
    assert set(version["data"]) == {"1", "2"}
    expected = {"1": 0.25, "2": 0.75}
    assert prediction["data"] == [expected[number] for number in version["data"]]


def test_an_endpoint_must_be_named_where_there_are_several() -> None:
    lines: Any = {"a": None, "b": None}

    def request(name: bytes | None = None) -> Request:
        return Request("POST", "/invocations", b"", {} if name is None else {b"x-flyball-endpoint": name})

    assert pick_endpoint(request(b"b"), lines) == "b"
    assert pick_endpoint(request(), {"a": lines["a"]}) == "a"
    with pytest.raises(EndpointNotNamedError, match="there are a, b"):
        pick_endpoint(request(), lines)
    with pytest.raises(EndpointNotNamedError, match="there is none"):
        pick_endpoint(request(), {})
    with pytest.raises(UnknownNameError):
        pick_endpoint(request(b"\xff"), lines)


def test_deferred_work_is_done_after_the_answer() -> None:
    exchange, done = Exchange(), []
    assert not exchange.has_deferred
    exchange.defer(lambda: done.append(1))
    assert exchange.has_deferred
    exchange.run_deferred()
    assert done == [1]
