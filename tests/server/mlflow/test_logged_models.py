"""Logged models over the MLflow protocol."""

import json
from typing import Any

import pytest

from flyball.workspace.home import Home
from tests.server.mlflow.calls import A, Calls, Reply

MISSING = (404, "RESOURCE_DOES_NOT_EXIST")
INVALID = (400, "INVALID_PARAMETER_VALUE")


def send(calls: Calls, method: str, path: str, **fields: Any) -> Reply:
    return calls.send(method, f"{A}logged-models{path}", json.dumps(fields).encode())


def create(calls: Calls, name: str = "model", **fields: Any) -> str:
    """Log a model and return its id."""
    reply = send(calls, "POST", "", experiment_id="0", name=name, **fields)
    assert reply.status == 200, reply.body
    found: str = reply.json()["model"]["info"]["model_id"]
    return found


def search(calls: Calls, **fields: Any) -> list[str]:
    """Return the names of the models that a search finds."""
    reply = send(calls, "POST", "/search", experiment_ids=["0"], **fields)
    assert reply.status == 200, reply.body
    return [model["info"]["name"] for model in reply.json()["models"]]


def test_a_model_is_logged_finalised_and_deleted(calls: Calls, home: Home) -> None:
    run_id = calls.post("runs/create", experiment_id="0")["run"]["info"]["run_id"]
    params, tags = [{"key": "depth", "value": "3"}], [{"key": "team", "value": "risk"}]
    model_id = create(calls, model_type="agent", source_run_id=run_id, params=params, tags=tags)
    info = calls.get(f"logged-models/{model_id}")["model"]["info"]
    assert model_id.startswith("m-")
    assert info["artifact_uri"] == f"mlflow-artifacts:/0/models/{model_id}/artifacts"
    assert (info["status"], info["source_run_id"], info["tags"]) == ("LOGGED_MODEL_PENDING", run_id, tags)
    ready = send(calls, "PATCH", f"/{model_id}", model_id=model_id, status="LOGGED_MODEL_READY").json()["model"]
    assert (ready["info"]["status"], ready["data"]["params"]) == ("LOGGED_MODEL_READY", params)
    assert send(calls, "DELETE", f"/{model_id}").status == 200
    assert send(calls, "DELETE", f"/{model_id}").error == MISSING
    assert calls.send("GET", f"{A}logged-models/{model_id}").error == MISSING
    assert calls.get(f"logged-models/{model_id}", allow_deleted="true")["model"]["info"]["model_id"] == model_id
    assert search(calls) == []
    kinds = [event.kind for event in home.journal.list_events(subject=f"logged-model/{model_id}")]
    assert kinds == [f"registry.logged-model.{verb}" for verb in ("created", "finalized", "deleted")]


def test_params_and_tags_are_added_and_removed(calls: Calls) -> None:
    model_id = create(calls)
    many = [{"key": f"k{number}", "value": "v"} for number in range(250)]
    for params in (many, many[:1]):
        assert send(calls, "POST", f"/{model_id}/params", params=params).status == 200
    changed = [{"key": "new", "value": "v"}, {"key": "k0", "value": "other"}]
    assert send(calls, "POST", f"/{model_id}/params", params=changed).error == INVALID
    assert len(calls.get(f"logged-models/{model_id}")["model"]["data"]["params"]) == 250
    for value in "12":
        send(calls, "PATCH", f"/{model_id}/tags", tags=[{"key": "a b", "value": value}])
    assert calls.get(f"logged-models/{model_id}")["model"]["info"]["tags"] == [{"key": "a b", "value": "2"}]
    assert send(calls, "DELETE", f"/{model_id}/tags/a%20b").status == 200
    assert send(calls, "DELETE", f"/{model_id}/tags/a%20b").error == MISSING


def log(calls: Calls, run_id: str, model_id: str, value: float, at: int, dataset: str = "", digest: str = "") -> None:
    """Log one value of the metric ``auc`` to a run and a model."""
    fields = {"dataset_name": dataset, "dataset_digest": digest} if dataset else {}
    calls.post(
        "runs/log-metric", run_id=run_id, model_id=model_id, key="auc", value=value, timestamp=at, step=0, **fields
    )


def test_models_are_searched_by_attributes_metrics_params_and_tags(calls: Calls) -> None:
    run_id = calls.post("runs/create", experiment_id="0")["run"]["info"]["run_id"]
    a = create(calls, "a", params=[{"key": "depth", "value": "3"}], source_run_id=run_id)
    b = create(calls, "b", tags=[{"key": "team", "value": "Risk"}], model_type="agent")
    create(calls, "c")
    send(calls, "PATCH", f"/{b}", status=2)
    log(calls, run_id, a, 0.9, 1)
    log(calls, run_id, a, 0.6, 2)
    log(calls, run_id, b, 0.8, 1, "test", "d1")
    assert search(calls) == ["c", "b", "a"]
    assert search(calls, order_by=[{"field_name": "name", "ascending": True}]) == ["a", "b", "c"]
    assert search(calls, filter="name = 'a'") == ["a"]
    assert search(calls, filter="attributes.name LIKE '%' AND model_type = 'agent'") == ["b"]
    assert search(calls, filter=f"source_run_id = '{run_id}'") == ["a"]
    assert search(calls, filter="status = 'READY'") == ["b"]
    assert search(calls, filter="status != 'LOGGED_MODEL_READY'") == ["c", "a"]
    assert search(calls, filter="creation_timestamp > 0 AND params.depth = '3'") == ["a"]
    assert search(calls, filter="tags.team ILIKE 'risk'") == ["b"]
    assert search(calls, filter="metrics.auc > 0.7") == ["b"]  # of a's values, the last one counts
    assert search(calls, filter="metrics.auc < 0.7") == ["a"]
    for dataset in ({"dataset_name": "test"}, {"dataset_name": "test", "dataset_digest": "d1"}):
        assert search(calls, filter="metrics.auc > 0.1", datasets=[dataset]) == ["b"]
        assert search(calls, datasets=[dataset]) == ["b"]
    assert search(calls, datasets=[{"dataset_name": "test", "dataset_digest": "d2"}]) == []
    assert search(calls, order_by=[{"field_name": "metrics.auc", "ascending": True}]) == ["a", "b", "c"]
    by_metric = {"field_name": "metrics.auc", "ascending": False, "dataset_name": "test"}
    assert search(calls, order_by=[by_metric]) == ["b", "c", "a"]
    (metric,) = calls.get(f"logged-models/{a}")["model"]["data"]["metrics"]
    assert (metric["value"], metric["model_id"], metric["run_id"]) == (0.6, a, run_id)


def test_a_search_goes_on_where_its_token_says(calls: Calls) -> None:
    for name in "abcde":
        create(calls, name)
    order = [{"field_name": "metrics.auc", "ascending": False}]
    seen: list[str] = []
    token = ""
    while True:
        fields = {"experiment_ids": ["0"], "max_results": 2, "order_by": order, "page_token": token}
        page = send(calls, "POST", "/search", **fields).json()
        seen += [model["info"]["name"] for model in page["models"]]
        if not (token := page.get("next_page_token", "")):
            break
        assert send(calls, "POST", "/search", experiment_ids=["0"], page_token=token).error == INVALID
    assert seen == ["e", "d", "c", "b", "a"]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"experiment_id": "77"}, MISSING),
        ({"experiment_id": "x"}, INVALID),
        ({}, INVALID),
        ({"experiment_id": "0", "name": "a/b"}, INVALID),
        ({"experiment_id": "0", "name": "x" * 501}, INVALID),
        ({"experiment_id": "0", "source_run_id": "none"}, MISSING),
        ({"experiment_id": "0", "params": [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]}, INVALID),
        ({"experiment_id": "0", "params": [{"key": "", "value": "1"}]}, INVALID),
        ({"experiment_id": "0", "tags": [{"key": "a", "value": "x" * 8_001}]}, INVALID),
        ({"experiment_id": "0", "tags": {"a": "b"}}, INVALID),
    ],
)
def test_what_cannot_be_logged(calls: Calls, fields: dict[str, Any], error: tuple[int, str]) -> None:
    assert send(calls, "POST", "", **fields).error == error
    assert search(calls) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"filter": "colour = 'red'"},
        {"filter": "name ="},
        {"order_by": [{"field_name": "params.x"}]},
        {"order_by": [{"field_name": "colour"}]},
        {"datasets": [{"dataset_name": ""}]},
        {"datasets": [{}]},
        {"experiment_ids": ["x"]},
        {"max_results": 0},
        {"page_token": "x"},
    ],
)
def test_searches_that_cannot_be_read(calls: Calls, fields: dict[str, Any]) -> None:
    assert send(calls, "POST", "/search", **({"experiment_ids": ["0"]} | fields)).error == INVALID


def test_a_model_that_is_not_there(calls: Calls) -> None:
    assert calls.send("GET", f"{A}logged-models/m-1").error == MISSING
    assert send(calls, "PATCH", "/m-1", status="LOGGED_MODEL_READY").error == MISSING
    assert send(calls, "PATCH", f"/{create(calls)}", status="DONE").error == INVALID


def test_a_version_of_a_logged_model_tells_where_it_comes_from(calls: Calls) -> None:
    run_id = calls.post("runs/create", experiment_id="0")["run"]["info"]["run_id"]
    model_id = create(calls, source_run_id=run_id, params=[{"key": "depth", "value": "3"}])
    log(calls, run_id, model_id, 0.7, 1)
    file = f"/api/2.0/mlflow-artifacts/artifacts/0/models/{model_id}/artifacts/MLmodel"
    assert calls.send("PUT", file, b"flavors", "text/plain").status == 200
    calls.post("registered-models/create", name="m")
    made = calls.post("model-versions/create", name="m", source=f"models:/{model_id}", model_id=model_id)
    version = made["model_version"]
    assert (version["run_id"], version["model_id"]) == (run_id, model_id)
    assert version["model_params"] == [{"name": "depth", "value": "3"}]
    assert [(metric["key"], metric["value"]) for metric in version["model_metrics"]] == [("auc", 0.7)]
    registered = calls.get(f"logged-models/{model_id}")["model"]["info"]["registrations"]
    assert registered == [{"name": "m", "version": "1"}]
