"""What the client for R sends: plain JSON, numbers as texts or as 1.7e12, ``run_uuid`` beside ``run_id``."""

import json
from typing import Any

from flyball.domain.tracking.artifacts import Place
from flyball.workspace.home import Home
from tests.server.mlflow.calls import A, Calls

BOTH = ("run_uuid", "run_id")


def send(calls: Calls, method: str, path: str, **fields: Any) -> Any:
    reply = calls.send(method, A + path, json.dumps(fields).encode())
    assert reply.status == 200, reply.body
    return reply.json()


def start_run(calls: Calls) -> tuple[str, dict[str, str]]:
    """``mlflow_start_run()``."""
    number = calls.post("experiments/create", name="from R", artifact_location=None, tags=[])["experiment_id"]
    tags = [
        {"key": "mlflow.source.name", "value": "script.R"},
        {"key": "mlflow.source.type", "value": "LOCAL"},
        {"key": "mlflow.user", "value": "ada"},
    ]
    run = calls.post("runs/create", experiment_id=number, user_id="ada", start_time="1700000000000", tags=tags)["run"]
    assert run["info"]["run_uuid"] == run["info"]["run_id"]
    return number, dict.fromkeys(BOTH, run["info"]["run_uuid"])


def test_experiments(calls: Calls) -> None:
    number = calls.post("experiments/create", name="from R")["experiment_id"]
    calls.post("experiments/set-experiment-tag", experiment_id=number, key="team", value="risk")
    calls.post("experiments/update", experiment_id=number, new_name="renamed")
    assert calls.get("experiments/get-by-name", experiment_name="renamed")["experiment"]["experiment_id"] == number
    found = calls.get("experiments/get", experiment_id=number)["experiment"]
    assert found["tags"] == [{"key": "team", "value": "risk"}] and found["lifecycle_stage"] == "active"
    calls.post("experiments/delete", experiment_id=number)
    page = calls.post("experiments/search", view_type="DELETED_ONLY", max_results=1000, order_by=["name ASC"])
    assert [one["name"] for one in page["experiments"]] == ["renamed"]
    calls.post("experiments/restore", experiment_id=number)


def test_a_run_is_logged_and_read(home: Home, calls: Calls) -> None:
    number, both = start_run(calls)
    calls.post("runs/log-parameter", **both, key="alpha", value="0.5")
    calls.post("runs/log-metric", **both, key="rmse", value=0.79, timestamp="1700000000100", step="0")
    calls.post("runs/log-metric", **both, key="rmse", value=0.7, timestamp=1.7000000002e12, step=1)
    calls.post("runs/log-metric", **both, key="nothing", value="NaN", timestamp="1700000000100", step=0)
    calls.post(
        "runs/log-batch",
        **both,
        metrics=[{"key": "r2", "value": 0.4, "timestamp": 1.7e12, "step": 0}],
        params=[{"key": "lambda", "value": "1"}],
        tags=[{"key": "k", "value": "v"}],
    )
    calls.post("runs/set-tag", **both, key="gone", value="v")
    calls.post("runs/delete-tag", **both, key="gone")
    model = {"artifact_path": "m", "flavors": {"crate": {}}, "utc_time_created": "now", "run_id": both["run_id"]}
    calls.post("runs/log-model", **both, model_json=json.dumps(model))
    calls.post("runs/update", **both, status="FINISHED", end_time="1700000000500")
    run = calls.get("runs/get", **both)["run"]
    assert (run["info"]["status"], run["info"]["end_time"]) == ("FINISHED", 1_700_000_000_500)
    assert {one["key"]: one["value"] for one in run["data"]["metrics"]} == {"rmse": 0.7, "nothing": "NaN", "r2": 0.4}
    assert {one["key"] for one in run["data"]["params"]} == {"alpha", "lambda"}
    points = calls.get("metrics/get-history", **both, metric_key="rmse")["metrics"]
    assert [(one["timestamp"], one["step"]) for one in points] == [(1_700_000_000_100, 0), (1_700_000_000_200, 1)]
    with home.db.begin() as tx:
        home.artifacts.put_bytes(tx, Place(both["run_id"], "model/crate.bin"), b"R")
    listed = calls.get("artifacts/list", **both, path="model")
    assert [(one["path"], one["is_dir"]) for one in listed["files"]] == [("model/crate.bin", False)]
    page = calls.post(
        "runs/search",
        experiment_ids=[number],
        filter="metrics.rmse < 0.75 and params.alpha = '0.5'",
        run_view_type="ACTIVE_ONLY",
        order_by=["metrics.rmse DESC"],
        max_results=10,
    )
    assert [one["info"]["run_id"] for one in page["runs"]] == [both["run_id"]]
    calls.post("runs/delete", **both)
    calls.post("runs/restore", **both)


def test_models_and_versions(home: Home, calls: Calls) -> None:
    _, both = start_run(calls)
    with home.db.begin() as tx:
        home.artifacts.put_bytes(tx, Place(both["run_id"], "model/MLmodel"), b"flavors: {}")
    tags = [{"key": "team", "value": "risk"}]
    calls.post("registered-models/create", name="risk", tags=tags, description="what it does")
    root = calls.get("runs/get", **both)["run"]["info"]["artifact_uri"]
    made = calls.post("model-versions/create", name="risk", source=f"{root}/model", run_id=both["run_id"])
    assert made["model_version"]["version"] == "1"
    send(calls, "PATCH", "model-versions/update", name="risk", version="1", description="first")
    moved = calls.post(
        "model-versions/transition-stage", name="risk", version="1", stage="Production", archive_existing_versions=True
    )
    assert moved["model_version"]["current_stage"] == "Production"
    latest = calls.get("registered-models/get-latest-versions", name="risk", stages="Production")
    assert [one["version"] for one in latest["model_versions"]] == ["1"]
    assert calls.get("model-versions/get", name="risk", version="1")["model_version"]["description"] == "first"
    assert calls.get("model-versions/get-download-uri", name="risk", version="1")["artifact_uri"]
    send(calls, "POST", "registered-models/rename", name="risk", new_name="risk of R")
    send(calls, "PATCH", "registered-models/update", name="risk of R", description="more")
    found = calls.get("registered-models/get", name="risk of R")["registered_model"]
    assert (found["description"], found["tags"]) == ("more", tags)
    assert [one["name"] for one in calls.get("registered-models/search")["registered_models"]] == ["risk of R"]
    send(calls, "DELETE", "model-versions/delete", name="risk of R", version="1")
    send(calls, "DELETE", "registered-models/delete", name="risk of R")
