"""Runs over the MLflow protocol: made, changed, logged to, read."""

import math
from typing import Any

import pytest

from flyball.domain.data.tables import Table
from flyball.domain.tracking.runs import MetricPoint, RunStatus
from flyball.workspace.home import Home
from tests.server.mlflow.calls import Calls

INVALID = (400, "INVALID_PARAMETER_VALUE")
MISSING = (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.fixture
def run_id(calls: Calls) -> str:
    run_id: str = calls.post("runs/create", experiment_id="0", start_time=1_000)["run"]["info"]["run_id"]
    return run_id


def read(calls: Calls, run_id: str) -> dict[str, Any]:
    data = calls.get("runs/get", run_id=run_id)["run"]["data"]
    return {
        "metrics": {metric["key"]: metric["value"] for metric in data["metrics"]},
        "params": {param["key"]: param["value"] for param in data["params"]},
        "tags": {tag["key"]: tag["value"] for tag in data["tags"]},
    }


def test_a_run_begins_ends_and_begins_again(calls: Calls, home: Home) -> None:
    made = calls.post(
        "runs/create",
        experiment_id="0",
        user_id="ada",
        start_time="1700000000123",
        run_name="first",
        tags=[{"key": "a", "value": "b"}],
    )["run"]
    info = made["info"]
    run_id = info["run_id"]
    assert (info["status"], info["start_time"], info["run_name"]) == ("RUNNING", 1_700_000_000_123, "first")
    assert info["artifact_uri"] == f"mlflow-artifacts:/0/{run_id}/artifacts"
    assert {tag["key"]: tag["value"] for tag in made["data"]["tags"]} == {"a": "b", "mlflow.runName": "first"}
    ended = calls.post("runs/update", run_id=run_id, status="FINISHED", end_time=1_700_000_001_000, run_name="last")
    assert (ended["run_info"]["status"], ended["run_info"]["run_name"]) == ("FINISHED", "last")
    run = home.tracking.describe_run(run_id)
    assert (run.run.status, run.run.pipeline, run.tags["mlflow.runName"]) == (RunStatus.SUCCEEDED, "Default", "last")
    calls.post("runs/log-metric", run_id=run_id, key="late", value=1, timestamp=5)
    calls.post("runs/update", run_id=run_id, status="RUNNING")
    kinds = [event.kind for event in home.journal.list_events(subject=f"run/{run_id}")]
    assert kinds == ["tracking.run.started", "tracking.run.finished"]


def test_a_run_without_a_name_gets_one(calls: Calls) -> None:
    info = calls.post("runs/create", experiment_id="0")["run"]["info"]
    assert info["run_name"].count("-") == 2
    assert info["start_time"] > 1_600_000_000_000


def test_numbers_that_are_none_are_kept_truly(calls: Calls, run_id: str) -> None:
    for step, value in enumerate(("NaN", "Infinity", "-Infinity", 1e308, 5e-324)):
        calls.post("runs/log-metric", run_id=run_id, key="m", value=value, timestamp=step, step=step)
    found = calls.get("metrics/get-history", run_id=run_id, metric_key="m")["metrics"]
    assert [point["value"] for point in found] == ["NaN", "Infinity", "-Infinity", 1e308, 5e-324]


def test_the_last_value_is_that_of_the_highest_step_then_time_then_value(calls: Calls, run_id: str) -> None:
    for step, timestamp, value in ((1, 9, 1.0), (3, 1, 2.0), (3, 2, 3.0), (3, 2, 2.5), (2, 99, 9.0), (3, 2, "NaN")):
        calls.post("runs/log-metric", run_id=run_id, key="m", value=value, timestamp=timestamp, step=step)
    metric = calls.get("runs/get", run_id=run_id)["run"]["data"]["metrics"][0]
    assert (metric["value"], metric["step"], metric["timestamp"]) == (3.0, 3, 2)


def test_a_point_that_is_sent_twice_is_kept_once(calls: Calls, run_id: str) -> None:
    for _ in range(2):
        calls.post("runs/log-metric", run_id=run_id, key="m", value=1, timestamp=1, step=1)
    assert len(calls.get("metrics/get-history", run_id=run_id, metric_key="m")["metrics"]) == 1


def test_a_history_comes_in_pages_in_the_order_of_time(calls: Calls, run_id: str) -> None:
    points = [{"key": "m", "value": place % 7, "timestamp": place // 3, "step": place} for place in range(300)]
    calls.post("runs/log-batch", run_id=run_id, metrics=points)
    found, token = [], ""
    while True:
        query = {"page_token": token} if token else {}
        page = calls.get("metrics/get-history", run_id=run_id, metric_key="m", max_results=70, **query)
        found += [(point["timestamp"], point["step"], point["value"]) for point in page["metrics"]]
        token = page.get("next_page_token", "")
        if not token:
            break
    assert found == sorted((place // 3, place, place % 7) for place in range(300))


def test_a_token_of_another_history_is_refused(calls: Calls, run_id: str) -> None:
    calls.post("runs/log-batch", run_id=run_id, metrics=[{"key": "m", "value": 1, "timestamp": t} for t in range(9)])
    token = calls.get("metrics/get-history", run_id=run_id, metric_key="m", max_results=2)["next_page_token"]
    for query in ({"metric_key": "n", "page_token": token}, {"metric_key": "m", "page_token": "AAAA" + token[4:]}):
        assert calls.send("GET", "/api/2.0/mlflow/metrics/get-history", run_id=run_id, **query).error == INVALID


def test_a_chart_shows_steps_evenly_and_the_ends(calls: Calls) -> None:
    runs = [calls.post("runs/create", experiment_id="0")["run"]["info"]["run_id"] for _ in range(2)]
    for shift, run_id in enumerate(runs):
        points = [{"key": "m", "value": s, "timestamp": s, "step": s} for s in range(shift, 900)]
        calls.post("runs/log-batch", run_id=run_id, metrics=points)
    found = calls.get("metrics/get-history-bulk-interval", run_ids=runs, metric_key="m", max_results=10)["metrics"]
    steps = {run: [point["step"] for point in found if point["run_id"] == run] for run in runs}
    assert steps[runs[0]][0] == 0 and steps[runs[1]][0] == 1 and steps[runs[0]][-1] == steps[runs[1]][-1] == 899
    assert len(steps[runs[0]]) <= 12
    inside = calls.get(
        "metrics/get-history-bulk-interval", run_ids=runs, metric_key="m", start_step=5, end_step=7, max_results=10
    )
    assert sorted({point["step"] for point in inside["metrics"]}) == [5, 6, 7]
    bulk = calls.get("metrics/get-history-bulk", run_id=runs, metric_key="m")["metrics"]
    assert len(bulk) == 1_799


def test_a_batch_is_kept_together(calls: Calls, run_id: str) -> None:
    calls.post(
        "runs/log-batch",
        run_id=run_id,
        metrics=[{"key": "a", "value": 1, "timestamp": 1}, {"key": "b", "value": "2", "timestamp": "1", "step": "4"}],
        params=[{"key": "p", "value": "1"}, {"key": "empty"}],
        tags=[{"key": "t", "value": "x"}, {"key": "t", "value": "y"}],
    )
    found = read(calls, run_id)
    assert found["metrics"] == {"a": 1.0, "b": 2.0}
    assert found["params"] == {"p": "1", "empty": ""}
    assert found["tags"]["t"] == "y"


BAD_ITEMS: list[tuple[dict[str, Any], str]] = [
    ({"metrics": [{"key": "b", "value": "zz", "timestamp": 1}]}, "metrics[1].value"),
    ({"metrics": [{"key": "b", "timestamp": 1}]}, "metrics[1].value"),
    ({"metrics": [{"key": "b", "value": 1}]}, "metrics[1].timestamp"),
    ({"metrics": [{"key": "", "value": 1, "timestamp": 1}]}, "metrics[1].key"),
    ({"metrics": [{"key": "a/../b", "value": 1, "timestamp": 1}]}, "metrics[1].key"),
    ({"metrics": [{"key": "b" * 251, "value": 1, "timestamp": 1}]}, "metrics[1].key"),
    ({"metrics": [{"key": "b", "value": 1, "timestamp": "soon"}]}, "metrics[1].timestamp"),
    ({"metrics": [{"key": "b", "value": 1, "timestamp": -1}]}, "metrics[1].timestamp"),
    ({"metrics": [{"key": "b", "value": 1, "timestamp": 2**62}]}, "metrics[1].timestamp"),
    ({"metrics": [{"key": "b", "value": 1, "timestamp": 1, "step": 2**63}]}, "metrics[1].step"),
    ({"metrics": [{"key": "b", "value": 1, "timestamp": 1, "step": 1.5}]}, "metrics[1].step"),
    ({"metrics": [{"key": "b", "value": [1], "timestamp": 1}]}, "metrics[1].value"),
    ({"metrics": ["b"]}, "metrics[1]"),
    ({"metrics": [{"key": "b", "value": 1, "timestamp": 1}] * 1_000}, "at most 1000 metrics"),
    ({"params": [{"key": f"p{place}", "value": ""} for place in range(101)]}, "at most 100 params"),
    ({"tags": [{"key": f"t{place}", "value": ""} for place in range(101)]}, "at most 100 tags"),
    ({"tags": [{"key": f"t{place}", "value": ""} for place in range(10_000)]}, "at most 100 tags"),
    ({"params": [{"key": "p", "value": "1"}, {"key": "p", "value": "1"}]}, "Duplicate parameter keys"),
    ({"params": [{"key": "p", "value": "x" * 6_001}]}, "params[0].value"),
    ({"params": [{"key": "p", "value": 3}]}, "params[0].value"),
    ({"params": [{"key": "p\0", "value": ""}]}, "params[0].key"),
    ({"params": [{"key": "p", "value": "a\0b"}]}, "params[0].value"),
    ({"params": [{"key": "p", "value": "\ud800"}]}, ""),
    ({"params": [{"key": "old", "value": "2"}]}, "Changing param values is not allowed"),
    ({"tags": [{"key": "t", "value": "x" * 8_001}]}, "tags[0].value"),
    ({"tags": {"t": "x"}}, "tags"),
]


@pytest.mark.parametrize(("bad", "words"), BAD_ITEMS, ids=range(len(BAD_ITEMS)))
def test_a_batch_with_one_bad_item_is_not_kept_at_all(
    calls: Calls, run_id: str, bad: dict[str, Any], words: str
) -> None:
    calls.post("runs/log-parameter", run_id=run_id, key="old", value="1")
    before = read(calls, run_id)
    good = {
        "metrics": [{"key": "a", "value": 1, "timestamp": 1}],
        "params": [{"key": "good", "value": "1"}],
        "tags": [{"key": "good", "value": "1"}],
    }
    batch = {**good, **bad}
    if isinstance(bad.get("metrics"), list):
        batch["metrics"] = good["metrics"] + bad["metrics"]
    reply = calls.refused("runs/log-batch", run_id=run_id, **batch)
    assert reply.error == INVALID
    assert words in reply.json()["message"]
    assert read(calls, run_id) == before


def test_a_param_may_come_again_with_its_own_value_only(calls: Calls, run_id: str) -> None:
    for _ in range(2):
        calls.post("runs/log-parameter", run_id=run_id, key="p", value="1")
    reply = calls.refused("runs/log-parameter", run_id=run_id, key="p", value="2")
    assert reply.error == INVALID
    assert "'p'" in reply.json()["message"] and "value='1'" in reply.json()["message"]


def test_a_deleted_run_takes_nothing_until_it_is_restored(calls: Calls, run_id: str) -> None:
    calls.post("runs/delete", run_id=run_id)
    calls.post("runs/delete", run_id=run_id)
    for path, fields in (
        ("log-metric", {"key": "m", "value": 1, "timestamp": 1}),
        ("log-parameter", {"key": "p", "value": "1"}),
        ("set-tag", {"key": "t", "value": "1"}),
        ("update", {"status": "FINISHED"}),
        ("log-batch", {}),
        ("log-inputs", {}),
    ):
        reply = calls.refused(f"runs/{path}", run_id=run_id, **fields)
        assert reply.error == INVALID
        assert "must be in the 'active' state" in reply.json()["message"]
    calls.post("runs/restore", run_id=run_id)
    calls.post("runs/set-tag", run_id=run_id, key="t", value="1")


def test_a_run_that_is_not_there_is_named(calls: Calls) -> None:
    for path in ("update", "delete", "restore", "log-batch", "log-inputs", "outputs"):
        reply = calls.refused(f"runs/{path}", run_id="gone")
        assert reply.error == MISSING
        assert "'gone'" in reply.json()["message"]
    assert calls.send("GET", "/api/2.0/mlflow/runs/get", run_id="gone").error == MISSING
    assert calls.send("GET", "/api/2.0/mlflow/runs/get").error == INVALID


def test_an_unknown_status_is_refused(calls: Calls, run_id: str) -> None:
    assert calls.refused("runs/update", run_id=run_id, status="DONE").error == INVALID
    assert calls.post("runs/update", run_id=run_id, status=5)["run_info"]["status"] == "KILLED"


def test_tags_are_removed_once(calls: Calls, run_id: str) -> None:
    calls.post("runs/set-tag", run_id=run_id, key="t", value="ünï 🎯")
    assert read(calls, run_id)["tags"]["t"] == "ünï 🎯"
    calls.post("runs/delete-tag", run_id=run_id, key="t")
    assert calls.refused("runs/delete-tag", run_id=run_id, key="t").error == MISSING


def test_inputs_and_outputs_are_told_with_the_run(calls: Calls, run_id: str) -> None:
    dataset = {"name": "d", "digest": "abc", "source_type": "local", "source": "{}", "schema": "{}"}
    tags = [{"key": "mlflow.data.context", "value": "train"}]
    for _ in range(2):
        calls.post("runs/log-inputs", run_id=run_id, datasets=[{"dataset": dataset, "tags": tags}])
    calls.post("runs/log-inputs", run_id=run_id, models=[{"model_id": "m-1"}])
    calls.post("runs/outputs", run_id=run_id, models=[{"model_id": "m-2", "step": "3"}])
    run = calls.get("runs/get", run_id=run_id)["run"]
    assert run["inputs"]["dataset_inputs"] == [{"tags": tags, "dataset": dataset}]
    assert run["inputs"]["model_inputs"] == [{"model_id": "m-1"}]
    assert run["outputs"]["model_outputs"] == [{"model_id": "m-2", "step": 3}]
    listed = calls.post("experiments/search-datasets", experiment_ids=["0"])["dataset_summaries"]
    assert listed == [{"experiment_id": "0", "name": "d", "digest": "abc", "context": "train"}]
    for field in ("name", "digest"):
        reply = calls.refused("runs/log-inputs", run_id=run_id, datasets=[{"dataset": dataset | {field: ""}}])
        assert reply.error == INVALID
        assert field in reply.json()["message"]


def test_a_models_description_is_added_to_the_run_as_older_clients_do(calls: Calls, run_id: str) -> None:
    text = '{"artifact_path": "m", "flavors": {}, "utc_time_created": "x", "run_id": "r"}'
    for _ in range(2):
        calls.post("runs/log-model", run_id=run_id, model_json=text)
    assert read(calls, run_id)["tags"]["mlflow.log-model.history"].count("artifact_path") == 2
    for bad in ("{", "[]", "{}"):
        assert calls.refused("runs/log-model", run_id=run_id, model_json=bad).error == INVALID


def test_runs_that_flyball_makes_are_seen_and_kept_from_change(calls: Calls, home: Home) -> None:
    run = home.tracking.start_run("training", {"depth": 3, "name": "x", "odd": [1, 2]}, actor="user/ada")
    home.tracking.log_metrics(run.id, [MetricPoint(name="auc", value=0.7), MetricPoint(name="bad", value=math.nan)])
    calls.post("runs/log-metric", run_id=run.id, key="more", value=1, timestamp=1)
    home.tracking.finish_run(run.id, RunStatus.SUCCEEDED)
    experiment = calls.get("experiments/get-by-name", experiment_name="training")["experiment"]
    found = calls.post("runs/search", experiment_ids=[experiment["experiment_id"]], filter="params.depth = '3'")
    assert [one["info"]["run_id"] for one in found["runs"]] == [run.id]
    assert read(calls, run.id)["params"] == {"depth": "3", "name": "x", "odd": "[1, 2]"}
    assert read(calls, run.id)["metrics"] == {"auc": 0.7, "bad": "NaN", "more": 1.0}
    assert home.tracking.describe_run(run.id).params == {"depth": 3, "name": "x", "odd": [1, 2]}
    for path, fields in (
        ("log-metric", {"key": "m", "value": 1, "timestamp": 1}),
        ("log-parameter", {"key": "p", "value": "1"}),
        ("update", {"status": "RUNNING"}),
    ):
        assert calls.refused(f"runs/{path}", run_id=run.id, **fields).error == INVALID
    calls.post("runs/set-tag", run_id=run.id, key="reviewed", value="yes")
    assert home.tracking.describe_run(run.id).tags == {"reviewed": "yes"}


def test_a_dataset_whose_digest_is_a_snapshot_links_the_run_to_it(calls: Calls, home: Home, run_id: str) -> None:
    (home.project_dir / "rows.csv").write_text("x\n1\n2\n", encoding="utf-8")
    snapshot = home.data.snapshot(Table("rows.csv", name="rows"))
    for digest in (snapshot.id[:12], snapshot.id[:36], "0" * 36, snapshot.id[:8]):
        dataset = {"name": "d", "digest": digest, "source_type": "", "source": ""}
        calls.post("runs/log-inputs", run_id=run_id, datasets=[{"dataset": dataset}])
    assert home.tracking.list_runs_that_read("snapshot", snapshot.id) == [run_id]
    [event] = home.journal.list_events(kinds=["tracking.run.read"])
    assert (event.subject, event.data) == (f"run/{run_id}", {"snapshot": snapshot.id})
    assert home.lineage.find_impact(f"snapshot/{snapshot.id}").reached == [f"run/{run_id}"]
    ours = home.tracking.start_run("training")
    home.tracking.log_input(ours.id, "snapshot", snapshot.id)
    found = calls.get("runs/get", run_id=ours.id)["run"]["inputs"]["dataset_inputs"]
    assert [(one["dataset"]["name"], one["dataset"]["digest"]) for one in found] == [("rows", snapshot.id[:36])]
