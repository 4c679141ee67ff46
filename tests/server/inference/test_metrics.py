"""What the gateway counts, and what of it Prometheus is told."""

import re
import time
from pathlib import Path
from typing import Any

import pytest

from flyball.domain.serving.loads import LoadRecord
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.families import MOST_SERIES, Family
from flyball.server.inference.metrics import GatewayMetrics
from tests.server.inference.conftest import REQUEST, Gateway, StartGateway

_SAMPLE = re.compile(r'^[a-z_]+(\{[a-z_]+="([^"\\\n]|\\.)*"(,[a-z_]+="([^"\\\n]|\\.)*")*\})? -?[0-9.e+-]+$')


def exchange(endpoint: str = "credit", rows: int = 1) -> Exchange:
    made = Exchange("open_inference")
    made.endpoint, made.rows, made.version = endpoint, rows, "credit-risk/3"
    return made


def read(text: bytes) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in text.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def count(metrics: GatewayMetrics, *exchanges: Exchange, code: str = "200") -> None:
    for found in exchanges:
        metrics.count_begin()
        metrics.count_end(found, code, 0.003)


def test_requests_are_counted_by_endpoint_protocol_and_outcome() -> None:
    metrics = GatewayMetrics()
    count(metrics, exchange(rows=3), exchange())
    count(metrics, exchange(), code="400")
    found = read(metrics.write())
    labels = 'endpoint="credit",protocol="open_inference"'
    assert found[f'flyball_requests_total{{{labels},code="200"}}'] == 2
    assert found[f'flyball_requests_total{{{labels},code="400"}}'] == 1
    labels += ',version="credit-risk/3"'
    assert found[f'flyball_request_duration_seconds_bucket{{{labels},le="0.0025"}}'] == 0
    assert found[f'flyball_request_duration_seconds_bucket{{{labels},le="0.005"}}'] == 3
    assert found[f"flyball_request_duration_seconds_count{{{labels}}}"] == 3
    assert found[f"flyball_request_duration_seconds_sum{{{labels}}}"] == pytest.approx(0.009)
    assert found['flyball_request_rows_bucket{endpoint="credit",le="2"}'] == 2
    assert found['flyball_request_rows_sum{endpoint="credit"}'] == 5
    assert found['flyball_requests_in_progress{worker="0"}'] == 0


def test_every_line_has_the_form_that_prometheus_reads() -> None:
    metrics = GatewayMetrics()
    count(metrics, exchange('a "name"\nwith \\ signs'))
    for line in metrics.write().decode().splitlines():
        assert line.startswith("# ") or _SAMPLE.match(line), line


def test_an_endpoint_that_does_not_exist_is_no_label() -> None:
    metrics = GatewayMetrics()
    for number in range(100):
        count(metrics, Exchange("flyball"), code="404")
        del number
    assert read(metrics.write())['flyball_requests_total{endpoint="",protocol="flyball",code="404"}'] == 100


def test_series_are_bounded_and_the_oldest_leave() -> None:
    family = Family("f", "counter", "", ("version",))
    for number in range(MOST_SERIES + 10):
        family.add((str(number),))
    assert len(family.series) == MOST_SERIES
    assert ("0",) not in family.series
    assert (str(MOST_SERIES + 9),) in family.series


def test_any_process_tells_the_sum_of_all(tmp_path: Path) -> None:
    first, second = GatewayMetrics(tmp_path, "0"), GatewayMetrics(tmp_path, "1")
    count(first, exchange(rows=3), exchange())
    count(second, exchange())
    second.set_lag(0.5)
    second.publish()
    found = read(first.write())
    assert found['flyball_requests_total{endpoint="credit",protocol="open_inference",code="200"}'] == 3
    assert found['flyball_request_rows_sum{endpoint="credit"}'] == 5
    assert found['flyball_event_loop_lag_seconds{worker="1"}'] == 0.5
    assert 'process_resident_memory_bytes{worker="1"}' in found
    again = read(first.write())
    assert {name: value for name, value in again.items() if name.startswith("flyball")} == {
        name: value for name, value in found.items() if name.startswith("flyball")
    }


def test_who_takes_a_place_goes_on_from_its_counts(tmp_path: Path) -> None:
    killed = GatewayMetrics(tmp_path, "0")
    count(killed, exchange())
    killed.set_lag(5.0)
    killed.publish()
    successor = GatewayMetrics(tmp_path, "0")
    count(successor, exchange())
    found = read(successor.write())
    assert found['flyball_requests_total{endpoint="credit",protocol="open_inference",code="200"}'] == 2
    assert 'flyball_event_loop_lag_seconds{worker="0"}' not in found


def test_a_process_that_is_gone_leaves_its_counts_but_not_its_gauges(tmp_path: Path) -> None:
    import os

    gone, alive = GatewayMetrics(tmp_path, "1"), GatewayMetrics(tmp_path, "0")
    count(gone, exchange())
    gone.set_lag(5.0)
    gone.publish()
    os.utime(tmp_path / "1.json", (time.time() - 60, time.time() - 60))
    found = read(alive.write())
    assert found['flyball_requests_total{endpoint="credit",protocol="open_inference",code="200"}'] == 1
    assert 'flyball_event_loop_lag_seconds{worker="1"}' not in found
    assert 'process_resident_memory_bytes{worker="1"}' not in found


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"flyball_requests_total": 5}'])
def test_a_damaged_file_is_passed_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0.json").write_bytes(content)
    (tmp_path / "1.json").write_bytes(content)
    metrics = GatewayMetrics(tmp_path, "0")
    count(metrics, exchange())
    assert read(metrics.write())['flyball_request_rows_sum{endpoint="credit"}'] == 1


def test_loads_are_counted() -> None:
    metrics = GatewayMetrics()
    metrics.count_loads([LoadRecord(version="m/1", duration_s=0.2, has_failed=False)])
    metrics.count_loads([LoadRecord(version="m/2", duration_s=0.2, has_failed=True)])
    found = read(metrics.write())
    assert found['flyball_model_loads_total{version="m/1",outcome="loaded"}'] == 1
    assert found['flyball_model_loads_total{version="m/2",outcome="failed"}'] == 1
    assert found["flyball_model_load_duration_seconds_count"] == 2


def test_the_gateway_counts_every_protocol(gateway: Gateway) -> None:
    def post(path: str, content: bytes) -> None:
        assert gateway.send("POST", path, content).status == 200

    def counted() -> dict[str, float]:
        found = read(gateway.get("/metrics").body)
        return {
            protocol: found.get(f'flyball_requests_total{{endpoint="credit",protocol="{protocol}",code="200"}}', 0)
            for protocol in ("flyball", "open_inference", "mlflow", "kserve_v1", "seldon_v1")
        }

    before = counted()
    assert gateway.predict(REQUEST).status == 200
    tensor = b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 1000, 12]}]}'
    post("/v2/models/credit/infer", tensor)
    post("/invocations", b'{"instances": [[1, 1000, 12]]}')
    post("/v1/models/credit:predict", b'{"instances": [[1, 1000, 12]]}')
    post("/api/v1.0/predictions", b'{"data": {"ndarray": [[1, 1000, 12]]}}')
    assert counted() == {protocol: number + 1 for protocol, number in before.items()}
    found = read(gateway.get("/metrics").body)
    assert found['flyball_endpoint_ready{endpoint="credit"}'] == 1
    assert found['flyball_model_info{endpoint="credit",version="m/1",role="live",stage=""}'] == 1


def test_counts_survive_a_kill(start: StartGateway) -> None:
    gateway = start()
    gateway.predict()
    deadline = time.monotonic() + 10
    while not published(gateway):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    gateway.stop(9)
    again = GatewayMetrics(gateway.root / "metrics")
    assert read(again.write())['flyball_requests_total{endpoint="credit",protocol="flyball",code="200"}'] == 1


def published(gateway: Gateway) -> Any:
    file = gateway.root / "metrics" / "0.json"
    return file.exists() and b'"flyball"' in file.read_bytes()
