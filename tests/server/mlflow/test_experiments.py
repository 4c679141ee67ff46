"""Experiments over the MLflow protocol."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from flyball.workspace.home import Home
from tests.server.mlflow.calls import Calls

MISSING = (404, "RESOURCE_DOES_NOT_EXIST")
INVALID = (400, "INVALID_PARAMETER_VALUE")


def test_the_default_experiment_is_always_there(calls: Calls) -> None:
    found = calls.get("experiments/get", experiment_id="0")["experiment"]
    assert (found["name"], found["artifact_location"], found["lifecycle_stage"]) == (
        "Default",
        "mlflow-artifacts:/0",
        "active",
    )


def test_an_experiment_is_made_found_renamed_deleted_and_restored(calls: Calls, home: Home) -> None:
    assert calls.send("GET", "/api/2.0/mlflow/experiments/get-by-name", experiment_name="a b").error == MISSING
    number = calls.post("experiments/create", name="a b", tags=[{"key": "team", "value": "risk"}])["experiment_id"]
    found = calls.get("experiments/get-by-name", experiment_name="a b")["experiment"]
    assert (found["experiment_id"], found["tags"]) == (number, [{"key": "team", "value": "risk"}])
    calls.post("experiments/update", experiment_id=number, new_name="c")
    calls.post("experiments/delete", experiment_id=number)
    assert calls.refused("experiments/delete", experiment_id=number).error == MISSING
    assert calls.refused("experiments/update", experiment_id=number, new_name="d").error == INVALID
    assert calls.refused("runs/create", experiment_id=number).error == INVALID
    assert calls.refused("experiments/create", name="c").error == (400, "RESOURCE_ALREADY_EXISTS")
    calls.post("experiments/restore", experiment_id=number)
    assert calls.get("experiments/get", experiment_id=number)["experiment"]["name"] == "c"
    kinds = [event.kind for event in home.journal.list_events(subject=f"experiment/{number}")]
    assert kinds == [f"tracking.experiment.{verb}" for verb in ("created", "renamed", "deleted", "restored")]


def test_the_runs_of_an_experiment_are_deleted_and_restored_with_it(calls: Calls) -> None:
    number = calls.post("experiments/create", name="x")["experiment_id"]
    run_id = calls.post("runs/create", experiment_id=number)["run"]["info"]["run_id"]
    calls.post("experiments/delete", experiment_id=number)
    assert calls.get("runs/get", run_id=run_id)["run"]["info"]["lifecycle_stage"] == "deleted"
    assert calls.refused("runs/restore", run_id=run_id).error == INVALID
    calls.post("experiments/restore", experiment_id=number)
    assert calls.get("runs/get", run_id=run_id)["run"]["info"]["lifecycle_stage"] == "active"


def test_tags_are_set_replaced_and_removed(calls: Calls) -> None:
    for value in ("1", "2"):
        calls.post("experiments/set-experiment-tag", experiment_id="0", key="k", value=value)
    assert calls.get("experiments/get", experiment_id="0")["experiment"]["tags"] == [{"key": "k", "value": "2"}]
    calls.post("experiments/delete-experiment-tag", experiment_id="0", key="k")
    assert calls.refused("experiments/delete-experiment-tag", experiment_id="0", key="k").error == MISSING


def test_clients_that_make_one_experiment_at_once_make_it_once(calls: Calls) -> None:
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda _: calls.refused("experiments/create", name="one"), range(16)))
    assert sorted(reply.status for reply in replies) == [200] + [400] * 15
    assert {reply.json()["error_code"] for reply in replies if reply.status == 400} == {"RESOURCE_ALREADY_EXISTS"}


def test_pages_of_a_search_show_each_experiment_once(calls: Calls) -> None:
    for place in range(25):
        tags = [{"key": "odd", "value": str(place % 2)}]
        calls.post("experiments/create", name=f"e{place:02d}", tags=tags)
    for order in ([], ["name DESC"], ["experiment_id ASC"], ["last_update_time", "name"]):
        names: list[str] = []
        token = None
        while token != "":
            more = {"page_token": token} if token else {}
            page = calls.post("experiments/search", filter="tags.odd = '1'", max_results=5, order_by=order, **more)
            names += [found["name"] for found in page["experiments"]]
            token = page.get("next_page_token", "")
        assert len(names) == len(set(names)) == 12
        if order == ["name DESC"]:
            assert names == sorted(names, reverse=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name = 'Alpha'", ["Alpha"]),
        ("name != 'Alpha' AND name LIKE '%a%'", ["Default", "beta"]),
        ("name ILIKE 'a%'", ["Alpha"]),
        ("name LIKE 'a%'", []),
        ("attribute.name IN ('Alpha', 'beta')", ["Alpha", "beta"]),
        ("tags.team IS NULL", ["Default", "beta"]),
        ("tags.`team` = 'risk' AND creation_time > 1000", ["Alpha"]),
        ("creation_time > 99999999999999999999", []),
    ],
)
def test_experiments_are_found_by_filters(calls: Calls, text: str, expected: list[str]) -> None:
    calls.post("experiments/create", name="Alpha", tags=[{"key": "team", "value": "risk"}])
    calls.post("experiments/create", name="beta")
    found = calls.post("experiments/search", filter=text, max_results=10)["experiments"]
    assert sorted(one["name"] for one in found) == expected


@pytest.mark.parametrize(
    ("path", "fields", "words"),
    [
        ("create", {}, "name"),
        ("create", {"name": ""}, "name"),
        ("create", {"name": 3}, "name"),
        ("create", {"name": "x" * 501}, "500"),
        ("create", {"name": "a\0b"}, "NUL"),
        ("create", {"name": "x", "artifact_location": "runs:/1"}, "artifact_location"),
        ("create", {"name": "x", "tags": [{"key": "a/../b", "value": ""}]}, "tags[0].key"),
        ("delete", {"experiment_id": "one"}, "valid integer"),
        ("update", {"experiment_id": "0"}, "new_name"),
        ("set-experiment-tag", {"experiment_id": "0", "key": "", "value": "x"}, "key"),
        ("set-experiment-tag", {"experiment_id": "0", "key": "k", "value": "x" * 20_001}, "value"),
        ("search", {"max_results": 0}, "max_results"),
        ("search", {"max_results": 50_001}, "max_results"),
        ("search", {"max_results": 10, "page_token": "bm90IG91cnM="}, "page_token"),
        ("search", {"max_results": 10, "filter": "name = 'a' OR 1 = 1"}, "AND is expected"),
        ("search", {"max_results": 10, "filter": "metrics.a > 1"}, "Invalid entity type"),
        ("search", {"max_results": 10, "order_by": ["lifecycle_stage"]}, "lifecycle_stage"),
        ("search", {"max_results": 10, "view_type": "SOME"}, "view_type"),
    ],
)
def test_what_does_not_fit_is_refused(calls: Calls, path: str, fields: dict[str, object], words: str) -> None:
    reply = calls.refused(f"experiments/{path}", **fields)
    assert reply.error == INVALID
    assert words in reply.json()["message"]
