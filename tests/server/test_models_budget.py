"""A gateway of three models with room for one: they leave and come back, and every request is answered as ever."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.server.gateways import GatewayProgram
from tests.stories.tiny import make_request

pytestmark = pytest.mark.slow
ENDPOINTS = ("parcel", "second", "third")
MORE = """
@fb.pipeline
def {name}_training():
    data = fb.training_set(parcels, label=arrivals["late"], features=[shop_record, haste])
    model = train(data, strength={strength})
    return fb.candidate("{name}", model, metrics=evaluate(model, data), data=data)


{name} = fb.Endpoint(model="{name}")
"""
PROJECT = 'parcel = fb.Endpoint(model="lateness")\n' + "".join(
    MORE.format(name=name, strength=strength) for name, strength in (("second", 0.1), ("third", 0.01))
)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProgram]:
    pipelines = ("training", "second_training", "third_training")
    # Each model's file is about a kilobyte.
    made = GatewayProgram(tmp_path, PROJECT, pipelines=pipelines, settings="gateway_models_mb = 0.0001\n")
    yield made
    made.stop()


def test_all_are_answered_as_if_there_were_room(gateway: GatewayProgram) -> None:
    expected = {
        (name, number): gateway.workspace.data_plane.predict_one(name, make_request(number)).prediction
        for name in ENDPOINTS
        for number in range(20)
    }

    def ask(place: tuple[str, int]) -> Any:
        reply = gateway.send("POST", f"/predict/{place[0]}", make_request(place[1]))
        assert reply.status == 200, reply.body
        return reply.body["prediction"]

    places = sorted(expected, key=lambda place: place[1])
    with ThreadPoolExecutor(6) as pool:
        found = dict(zip(places, pool.map(ask, places), strict=True))
    assert found == pytest.approx(expected)
    text = gateway.send("GET", "/metrics").body
    loads = [line for line in text.splitlines() if line.startswith("flyball_model_loads_total{")]
    assert {line.split('"')[1] for line in loads} == {"lateness/1", "second/1", "third/1"}
    assert sum(float(line.rpartition(" ")[2]) for line in loads) > 6, "they came back"
