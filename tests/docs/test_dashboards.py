"""The dashboards ask only for what the gateway tells."""

import json
import re
from typing import Any

import pytest

from flyball.server.inference.metrics import GatewayMetrics
from tests.docs.snippets import ROOT

DASHBOARD = ROOT / "docs" / "dashboards" / "gateway.json"
_METRIC = re.compile(r"\b((?:flyball|process)_[a-z_]+)")
_LABELS = re.compile(r"by \(([a-z_, ]+)\)|[{,] ?([a-z_]+)(?==|!)")
# Added by Prometheus itself when it reads.
_OF_PROMETHEUS = {"job", "instance"}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return found


@pytest.fixture(scope="module")
def families() -> dict[str, set[str]]:
    """The names of all samples with their labels."""
    found: dict[str, set[str]] = {}
    for family in GatewayMetrics().families:
        names = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
        found |= {family.name + name: {*family.labels, "le"} for name in names}
    return found


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: str(panel["title"]))
def test_a_panel_shows_what_there_is(panel: dict[str, Any], families: dict[str, set[str]]) -> None:
    assert panel["targets"]
    for target in panel["targets"]:
        metrics = _METRIC.findall(target["expr"])
        assert metrics
        for metric in metrics:
            assert metric in families
        told = {
            name for group in _LABELS.findall(target["expr"]) for part in group for name in part.split(", ") if name
        }
        assert told - _OF_PROMETHEUS <= families[metrics[0]], target["expr"]
        shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert shown <= families[metrics[0]]


def test_panels_do_not_overlap() -> None:
    places: dict[tuple[int, int], int] = {}
    for panel in panels():
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert x < 24
                assert places.setdefault((x, y), panel["id"]) == panel["id"]


def test_every_metric_is_explained() -> None:
    page = (ROOT / "docs" / "how-to" / "observability.md").read_text(encoding="utf-8")
    assert [family.name for family in GatewayMetrics().families if f"`{family.name}`" not in page] == []
