"""A real Prometheus reads the gateway, and every query of the dashboard finds something in it."""

import json
import re
import shutil
import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.test_dashboards import panels
from tests.server.inference.conftest import REQUEST, Gateway
from tests.stories.system import find_free_ports, send, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="Debian's package prometheus is not installed"),
]
CONFIGURATION = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: flyball
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""
VARIABLES = {"$__rate_interval": "10s", "$endpoint": ".*", "$job": ".*"}
# These made-up models are not loaded by anybody.
MAY_BE_EMPTY = {"Versions brought into memory"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = Gateway(tmp_path_factory.mktemp("home"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def prometheus(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "prometheus.yml").write_text(CONFIGURATION.format(port=gateway.port))
    port = find_free_ports()
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with Path(folder / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stderr=log)
    try:
        for number in range(1, 4):
            for content in (REQUEST, {"income": "much"}):
                gateway.predict(content)
            scraped = f'count_over_time(flyball_requests_total{{code="200"}}[1m]) > {2 * number}'
            wait_for(lambda query=scraped: ask(port, query), "it has read the gateway", 60)  # type: ignore[misc]
        yield port
    finally:
        process.terminate()
        process.wait(20)


def ask(port: int, query: str) -> list[Any]:
    try:
        reply = send(port, "GET", f"/api/v1/query?{urllib.parse.urlencode({'query': query})}")
    except OSError:
        return []
    if reply.status == 503:
        return []  # it listens before it can answer
    assert reply.status == 200, reply.body
    found: list[Any] = reply.body["data"]["result"]
    return found


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: str(panel["title"]))
def test_a_panel_is_filled(panel: dict[str, Any], prometheus: int) -> None:
    for target in panel["targets"]:
        query = target["expr"]
        for name, value in VARIABLES.items():
            query = query.replace(name, value)
        assert "$" not in query
        found = ask(prometheus, query)
        assert found or panel["title"] in MAY_BE_EMPTY, query
        for series in found:
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= {*series["metric"], "stage"}


def test_promtool_finds_nothing_to_criticise(gateway: Gateway) -> None:
    gateway.predict()
    text = gateway.get("/metrics").body
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(gateway.predict().body)["status"] == "ok"
