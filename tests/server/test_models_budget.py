"""A gateway of three models with room for one: they leave and come back, and every request is answered as ever."""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flyball.workspace.workspace import Workspace
from tests.stories.system import find_free_ports, wait_for
from tests.stories.tiny import make_request, write_tiny

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


class Running:
    def __init__(self, folder: Path) -> None:
        self.project = write_tiny(folder / "tiny", endpoint=PROJECT)
        self.home = self.project / ".flyball"
        self.workspace = Workspace(self.project, self.home)
        for pipeline in ("training", "second_training", "third_training"):
            assert not self.workspace.run(pipeline, is_inline=True).error
        self.workspace.loop.tick()
        self.port = find_free_ports()
        command = [sys.executable, "-m", "flyball.server.gateway", str(self.project), str(self.home)]
        # Each model's file is about a kilobyte.
        settings = {"FLYBALL_GRPC_PORT": "-1", "FLYBALL_GATEWAY_MODELS_MB": "0.0001"}
        self.process = subprocess.Popen([*command, "127.0.0.1", str(self.port - 1)], env=os.environ | settings)
        wait_for(self._is_ready, "the gateway is ready", 60)

    def _is_ready(self) -> bool:
        try:
            return self.send("GET", "/health")[0] == 200
        except OSError:
            return False

    def send(self, method: str, path: str, content: Any = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, None if content is None else json.dumps(content))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    yield made
    made.process.terminate()
    made.process.wait(20)


def test_all_are_answered_as_if_there_were_room(running: Running) -> None:
    expected = {
        (name, number): running.workspace.data_plane.predict_one(name, make_request(number)).prediction
        for name in ENDPOINTS
        for number in range(20)
    }

    def ask(place: tuple[str, int]) -> Any:
        status, text = running.send("POST", f"/predict/{place[0]}", make_request(place[1]))
        assert status == 200, text
        return json.loads(text)["prediction"]

    places = sorted(expected, key=lambda place: place[1])
    with ThreadPoolExecutor(6) as pool:
        found = dict(zip(places, pool.map(ask, places), strict=True))
    assert found == pytest.approx(expected)
    _, text = running.send("GET", "/metrics")
    loads = [line for line in text.decode().splitlines() if line.startswith("flyball_model_loads_total{")]
    assert {line.split('"')[1] for line in loads} == {"lateness/1", "second/1", "third/1"}
    assert sum(float(line.rpartition(" ")[2]) for line in loads) > 6, "they came back"
