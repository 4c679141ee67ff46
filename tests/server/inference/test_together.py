"""Requests of the long way that wait at the same time are answered by one call of the model."""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyball.core.errors import FlyballError
from flyball.domain.serving.on_demand import VersionsOnDemand
from flyball.server.inference.app import InferenceApp
from flyball.server.inference.asking import Asker
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.messages import Reply, Request
from flyball.server.inference.metrics import GatewayMetrics
from flyball.server.inference.oip.grpc import CallRows
from flyball.server.inference.oip.inference import InferRequest
from flyball.server.inference.oip.tensors import Tensor
from flyball.server.inference.protocols import Protocols
from flyball.server.inference.short_way import ShortWay, Waiting
from flyball.server.inference.telemetry import Telemetry
from flyball.server.inference.together import Asked, answer_together
from tests.domain.serving.conftest import REQUEST, House

ROW = REQUEST | {"applied_at": None}
FIELDS = ("customer_id", "income", "term", "applied_at")


class Counted:
    """Half of the income's millionth; remembers how many rows came together, and breaks at an income of 13."""

    def __init__(self) -> None:
        self.heights: list[int] = []

    def __call__(self, frame: pl.DataFrame) -> Any:
        self.heights.append(frame.height)
        if (frame["income"] == 13).any():
            raise ValueError("thirteen")
        return np.asarray(frame["income"]) / 2e6


@pytest.fixture
def model(house: House) -> Counted:
    made = Counted()
    house.add(1, made)
    house.go_live("m/1")
    house.fleet.refresh()
    house.fleet.stop_checking()
    return made


@pytest.fixture
def way(house: House, model: Counted) -> ShortWay:
    app = InferenceApp(house.plane, house.predictions.log, VersionsOnDemand(house.fleet, house, house))
    return app.short_way


def send(way: ShortWay, *bodies: tuple[str, bytes]) -> list[Reply]:
    replies: dict[int, Reply] = {}
    requests = []
    for number, (path, body) in enumerate(bodies):
        way._apart._addresses.pop(path, None)  # what a busy machine made of it
        way._apart.note(path, 0.001)
        route = way.find(path.encode())
        assert route is not None
        requests.append(Waiting(route, [], body, way.begin(), partial(replies.__setitem__, number)))
    way.answer(requests)
    return [replies[number] for number in range(len(bodies))]


def own(income: Any, *more: Any) -> tuple[str, bytes]:
    rows = [ROW | {"income": value} for value in (income, *more)]
    return "/predict/credit", json.dumps({"rows": rows} if more else rows[0]).encode()


def open_inference(income: float) -> tuple[str, bytes]:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, income, 12]}
    return "/v2/models/credit/infer", json.dumps({"inputs": [tensor], "id": f"{income:g}"}).encode()


def test_they_share_one_call_and_each_gets_its_own_answer(house: House, way: ShortWay, model: Counted) -> None:
    replies = send(way, own(1e5), own(2e5, 3e5), open_inference(4e5))

    assert model.heights == [4]
    contents = [json.loads(reply.body) for reply in replies]
    assert contents[0]["prediction"] == 0.05
    assert [found["prediction"] for found in contents[1]["predictions"]] == [0.1, 0.15]
    assert contents[2]["outputs"][0]["data"] == [0.2]
    assert contents[2]["id"] == "400000"
    logged = house.sealed()
    assert logged.height == 4
    assert contents[0]["prediction_id"] in logged["id"].to_list()


def test_one_that_is_refused_spoils_no_other(house: House, way: ShortWay, model: Counted) -> None:
    replies = send(way, own(1e5), own("much"), ("/predict/credit", b"{"), own(-5), open_inference(-5), own(2e5))

    assert [reply.status for reply in replies] == [200, 422, 400, 422, 400, 200]
    assert model.heights == [2]
    assert house.sealed()["status"].to_list().count("ok") == 2


def test_one_that_breaks_the_model_is_answered_alone_and_nothing_is_logged_twice(
    house: House, way: ShortWay, model: Counted
) -> None:
    replies = send(way, own(1e5), own(13), own(2e5))

    assert [reply.status for reply in replies] == [200, 502, 200]
    assert model.heights == [3, 1, 1, 1]
    assert sorted(house.sealed()["status"]) == ["error", "ok", "ok"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bodies=st.lists(
        st.one_of(
            st.sampled_from([1e5, 2e5, 13, -5, "much", None]).map(own),
            st.tuples(st.sampled_from([1e5, 13, -5]), st.sampled_from([3e5, 4e5])).map(lambda pair: own(*pair)),
            st.sampled_from([1e5, 13.0, -5.0]).map(open_inference),
            st.sampled_from([("/predict/credit", b"{"), ("/v2/models/credit/infer", b"[]")]),
        ),
        min_size=2,
        max_size=9,
    )
)
def test_company_changes_no_answer(way: ShortWay, bodies: list[tuple[str, bytes]]) -> None:
    together = send(way, *bodies)
    alone = [reply for body in bodies for reply in send(way, body)]
    assert [anonymous(reply) for reply in together] == [anonymous(reply) for reply in alone]


def anonymous(reply: Reply) -> Any:
    """Return what a reply says, without the names of predictions."""
    return reply.status, re.sub(rb"[0-9A-Za-z]{26}", b"ID", reply.body)


def test_an_address_that_is_not_known_to_be_quick_is_not_collected(house: House, model: Counted) -> None:
    app = InferenceApp(house.plane, house.predictions.log, VersionsOnDemand(house.fleet, house, house))
    assert app.short_way.find(b"/predict/credit") is None
    app.short_way._apart.note("/predict/credit", 0.5)
    assert app.short_way.find(b"/predict/credit") is None


# What waits for a slow model


def mlflow(income: Any) -> Request:
    content = {"dataframe_split": {"columns": ["customer_id", "income", "term"], "data": [[1, income, 12]]}}
    return Request("POST", "/invocations", b"", {}, json.dumps(content).encode())


def mlflow_csv(income: Any) -> Request:
    headers = {b"content-type": b"text/csv"}
    return Request("POST", "/invocations", b"", headers, f"customer_id,income,term\n1,{income},12\n".encode())


def kserve(income: Any) -> Request:
    content = {"instances": [REQUEST | {"income": income}]}
    return Request("POST", "/v1/models/credit:predict", b"", {}, json.dumps(content).encode())


def kserve_event(income: Any) -> Request:
    headers = {b"content-type": b"application/cloudevents+json"}
    content = {"data": {"instances": [REQUEST | {"income": income}]}}
    return Request("POST", "/v1/models/credit:predict", b"", headers, json.dumps(content).encode())


def seldon(income: Any) -> Request:
    content = {"data": {"ndarray": [[1, income, 12]]}, "meta": {"puid": str(income)}}
    return Request("POST", "/api/v1.0/predictions", b"", {}, json.dumps(content).encode())


def oip(income: Any) -> Request:
    path, body = open_inference(income) if isinstance(income, float) else ("/v2/models/credit/infer", b"[]")
    return Request("POST", path, b"", {}, body)


def grpc_call(income: Any) -> InferRequest:
    tensor = Tensor(name="x", datatype="FP64", shape=(1, 3), values=[1.0, income, 12.0])
    return InferRequest(model="credit", version="", id="one", inputs=(tensor,), outputs=[])


def tell(reply: Any) -> Any:
    """Return what an answer says, without the names of predictions; of an error what it says."""
    if isinstance(reply, Reply):
        return anonymous(reply)
    return str(reply) if isinstance(reply, FlyballError) else reply.outputs[0]


@pytest.mark.parametrize("make", [mlflow, mlflow_csv, kserve, kserve_event, seldon, oip, grpc_call])
def test_every_protocol_shares_calls_and_answers_as_alone(
    house: House, model: Counted, make: Callable[[Any], Any]
) -> None:
    asker = Asker(house.plane, GatewayMetrics(), VersionsOnDemand(house.fleet, house, house))
    telemetry = Telemetry(GatewayMetrics())
    with ThreadPoolExecutor(1) as thread:
        protocols = Protocols(asker, thread, telemetry, max_body_bytes=1_000_000)

        def share(request: Any) -> Asked:
            if isinstance(request, InferRequest):
                return Asked("credit", CallRows(protocols.calls, request), b"", Exchange())
            protocol = protocols.find(request.path)
            assert protocol is not None
            endpoint, rows = protocol.find_rows(request) or ("", None)
            assert rows is not None
            return Asked(endpoint, rows, request.body, Exchange())

        def ask_alone(request: Any) -> Any:
            try:
                if isinstance(request, InferRequest):
                    return protocols.calls.infer(request, Exchange())
                protocol = protocols.find(request.path)
                assert protocol is not None
                return protocol.answer(request, Exchange())
            except FlyballError as error:
                return error

        requests = [make(income) for income in (1e5, 2e5, -5.0, 3e5)]
        shared = answer_together(house.plane, [share(request) for request in requests], lambda work: work())
        assert model.heights == [3], "the one that is refused asks for nothing"
        alone = [ask_alone(request) for request in requests]
    for together, single in zip(shared, alone, strict=True):
        # A refusal comes out as the error, or as what the protocol makes of it.
        is_told = isinstance(together, Reply) and isinstance(single, FlyballError)
        assert tell(together) == tell(single) or (is_told and single.message.encode() in together.body)


def test_what_is_no_request_for_predictions_shares_nothing(house: House, model: Counted) -> None:
    asker = Asker(house.plane, GatewayMetrics(), VersionsOnDemand(house.fleet, house, house))
    with ThreadPoolExecutor(1) as thread:
        protocols = Protocols(asker, thread, Telemetry(GatewayMetrics()), max_body_bytes=1_000_000)
        for path in ("/ping", "/api/2.0/endpoints", "/v1/models", "/v1/models/credit:explain", "/v2/repository/index"):
            protocol = protocols.find(path)
            assert protocol is not None
            assert protocol.find_rows(Request("POST", path, b"", {}, b"{}")) is None
