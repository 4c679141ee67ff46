"""Logs and traces of a running gateway; the traces go to a collector that is started here."""

import gzip
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from flyball.core.clock import SystemClock
from flyball.server.inference.oip.wire import SERVICE
from flyball.server.inference.tracing import open_tracer
from tests.server.inference.conftest import REQUEST, StartGateway
from tests.server.inference.oip.test_grpc import make_request

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


class Collector:
    """Takes traces over OTLP's HTTP and protobuf form."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans.extend(scope.spans)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


def attributes(span: Any) -> dict[str, Any]:
    return {entry.key: entry.value.string_value or entry.value.int_value for entry in span.attributes}


def test_a_request_is_a_span_with_its_stages(start: StartGateway, collector: Collector) -> None:
    gateway = start(f"otlp={collector.address}")
    headers = {"content-type": "application/json", "traceparent": PARENT}
    answer = gateway.send("POST", "/predict/credit", json.dumps(REQUEST).encode(), headers).json
    with grpc.insecure_channel(f"127.0.0.1:{gateway.port + 1}") as channel:
        message = make_request(
            {"name": "x", "datatype": "FP64", "shape": [1, 3], "contents": {"fp64_contents": [1, 9, 3]}}
        )
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        call(message.SerializeToString(), timeout=10, metadata=[("traceparent", PARENT)])
    gateway.send("POST", "/v2/models/credit/infer", b"{", {})
    gateway.stop()
    by_name = {span.name: span for span in collector.spans}
    root = by_name["flyball credit"]
    found = attributes(root)
    assert root.trace_id.hex() == TRACE
    assert (found["flyball.prediction_id"], found["flyball.model_version"]) == (answer["prediction_id"], "m/1")
    assert (found["http.response.status_code"], found["flyball.rows"]) == (200, 1)
    stages = [span for span in collector.spans if span.parent_span_id == root.span_id]
    stages.sort(key=lambda span: span.start_time_unix_nano)
    assert [span.name for span in stages] == ["read", "decode", "score", "log", "encode"]
    for span in stages:
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= root.end_time_unix_nano
    assert abs(root.start_time_unix_nano / 1e9 - time.time()) < 60
    over_grpc = by_name["open_inference_grpc credit"]
    assert over_grpc.trace_id.hex() == TRACE
    assert attributes(over_grpc)["rpc.response.status"] == "OK"
    refused = by_name["POST open_inference"]
    assert attributes(refused)["http.response.status_code"] == 400


def test_a_collector_that_is_not_there_holds_nobody_up(start: StartGateway) -> None:
    gateway = start("otlp=http://127.0.0.1:9")
    assert gateway.predict().status == 200


def test_without_an_address_nothing_is_traced() -> None:
    assert open_tracer("", SystemClock()) is None


def test_logs_are_json_with_a_line_for_each_request(start: StartGateway) -> None:
    gateway = start("json")
    answer = gateway.predict().json
    gateway.predict({"income": "x"})
    lines = [json.loads(line) for line in gateway.stop().splitlines()]
    requests = [line for line in lines if line["logger"] == "flyball.requests" and line.get("protocol") == "flyball"]
    good, bad = requests
    assert (good["code"], good["endpoint"], good["rows"]) == ("200", "credit", 1)
    assert (good["prediction_id"], good["version"]) == (answer["prediction_id"], "m/1")
    assert 0 < good["duration_ms"] < 20_000
    assert (bad["code"], bad["level"]) == ("422", "info")
    assert {"at", "level", "logger", "message", "process"} <= set(good)


def test_an_exception_is_one_line_of_json(start: StartGateway) -> None:
    gateway = start("json", live="m/3")
    assert gateway.predict().status == 502
    lines = [json.loads(line) for line in gateway.stop().splitlines()]
    assert any("ValueError: it is broken" in line.get("exception", "") for line in lines)
