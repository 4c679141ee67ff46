"""Without its extras the gateway runs, and says what is missing."""

import asyncio
import logging
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from flyball.core.clock import SystemClock
from flyball.core.errors import ConflictError
from flyball.domain.serving.on_demand import VersionsOnDemand
from flyball.server.inference.asking import Asker
from flyball.server.inference.metrics import GatewayMetrics
from flyball.server.inference.protocols import Protocols
from flyball.server.inference.telemetry import Telemetry
from flyball.server.inference.tracing import TracingMissingError, open_tracer
from flyball.server.ports import find_grpc_port
from tests.domain.serving.conftest import House
from tests.stories.system import find_free_ports


def make_protocols(house: House, grpc_address: str) -> Protocols:
    metrics = GatewayMetrics()
    asker = Asker(house.plane, metrics, VersionsOnDemand(house.fleet, house, house))
    return Protocols(asker, ThreadPoolExecutor(1), Telemetry(metrics), max_body_bytes=1_000, grpc_address=grpc_address)


def test_without_grpcio_the_gateway_starts_and_says_so(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(sys.modules, "flyball.server.inference.oip.grpc", raising=False)
    monkeypatch.setitem(sys.modules, "grpc", None)
    protocols = make_protocols(house, "127.0.0.1:1")
    with caplog.at_level(logging.INFO):
        asyncio.run(protocols.start())
    assert "pip install 'flyball[grpc]'" in caplog.text
    asyncio.run(protocols.stop())


def test_an_address_that_cannot_be_listened_on_is_told(house: House) -> None:
    async def start() -> None:
        protocols = make_protocols(house, "192.0.2.1:1")
        with pytest.raises(ConflictError, match=r"cannot listen at 192\.0\.2\.1:1"):
            await protocols.start()
        await protocols.stop()

    asyncio.run(start())


def test_the_port_of_grpc_follows_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    port = find_free_ports()
    assert find_grpc_port(port, 0) == port + 2
    assert find_grpc_port(port, 5) == 5
    assert find_grpc_port(port, -1) is None
    monkeypatch.setattr("flyball.server.ports.find_spec", lambda _name: None)
    assert find_grpc_port(port, 0) is None


def test_traces_without_their_extra_are_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(TracingMissingError) as refused:
        open_tracer("http://localhost:4318", SystemClock())
    assert "pip install 'flyball[otel]'" in refused.value.hint
