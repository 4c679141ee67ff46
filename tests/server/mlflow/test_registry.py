"""Registered models and versions over the MLflow protocol."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flyball.workspace.home import Home
from tests.server.mlflow.calls import A, Calls, Reply

MISSING = (404, "RESOURCE_DOES_NOT_EXIST")
INVALID = (400, "INVALID_PARAMETER_VALUE")
EXISTS = (400, "RESOURCE_ALREADY_EXISTS")


def send(calls: Calls, method: str, path: str, **fields: Any) -> Reply:
    return calls.send(method, A + path, json.dumps(fields).encode())


def register(calls: Calls, name: str = "m", **fields: Any) -> Any:
    """Register a version of a model whose files are elsewhere, and return it."""
    calls.refused("registered-models/create", name=name)
    return calls.post("model-versions/create", name=name, **{"source": "s3://bucket/model"} | fields)["model_version"]


def test_a_model_is_made_found_described_renamed_and_deleted(calls: Calls, home: Home) -> None:
    tags = [{"key": "team", "value": "risk"}]
    made = calls.post("registered-models/create", name="a b", description="first", tags=tags)["registered_model"]
    assert (made["name"], made["description"], made["tags"]) == ("a b", "first", tags)
    assert made["creation_timestamp"] == made["last_updated_timestamp"]
    assert calls.refused("registered-models/create", name="a b").error == EXISTS
    send(calls, "PATCH", "registered-models/update", name="a b", description="second")
    assert calls.post("registered-models/rename", name="a b", new_name="c")["registered_model"]["name"] == "c"
    assert calls.send("GET", A + "registered-models/get", name="a b").error == MISSING
    assert calls.get("registered-models/get", name="c")["registered_model"]["description"] == "second"
    assert send(calls, "DELETE", "registered-models/delete", name="c").status == 200
    assert send(calls, "DELETE", "registered-models/delete", name="c").error == MISSING
    kinds = [event.kind for event in home.journal.list_events(kinds=[])]
    assert kinds == [f"registry.model.{verb}" for verb in ("created", "renamed", "deleted")]


def test_versions_count_up_and_a_number_is_never_given_twice(calls: Calls) -> None:
    assert [register(calls)["version"] for _ in range(3)] == ["1", "2", "3"]
    assert send(calls, "DELETE", "model-versions/delete", name="m", version="3").status == 200
    assert calls.send("GET", A + "model-versions/get", name="m", version="3").error == MISSING
    assert register(calls)["version"] == "4"
    send(calls, "DELETE", "registered-models/delete", name="m")
    assert calls.send("GET", A + "model-versions/get", name="m", version="1").error == MISSING
    assert register(calls)["version"] == "5"


def test_clients_that_register_one_name_at_once_make_it_once(calls: Calls) -> None:
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda _: calls.refused("registered-models/create", name="one"), range(16)))
    assert sorted(reply.status for reply in replies) == [200] + [400] * 15
    assert all(reply.error == EXISTS for reply in replies if reply.status == 400)


def test_aliases_move_and_their_history_stays(calls: Calls, home: Home) -> None:
    register(calls)
    register(calls)
    for version in ("1", "2", 2):
        calls.post("registered-models/alias", name="m", alias="champion", version=version)
    found = calls.get("registered-models/alias", name="m", alias="champion")["model_version"]
    assert (found["version"], found["aliases"]) == ("2", ["champion"])
    assert [(move.previous, move.number, move.actor) for move in home.registry.history("m", alias="champion")] == [
        (None, 1, "mlflow"),
        (1, 2, "mlflow"),
    ]
    send(calls, "DELETE", "registered-models/alias", name="m", alias="champion")
    assert send(calls, "DELETE", "registered-models/alias", name="m", alias="champion").status == 200
    assert calls.send("GET", A + "registered-models/alias", name="m", alias="champion").error == MISSING
    assert home.registry.find_alias("m", "champion", at=home.registry.history("m")[1].event_time) is not None


def test_an_alias_goes_with_its_version(calls: Calls, home: Home) -> None:
    register(calls)
    calls.post("registered-models/alias", name="m", alias="best", version="1")
    send(calls, "DELETE", "model-versions/delete", name="m", version="1")
    assert "aliases" not in calls.get("registered-models/get", name="m")["registered_model"]
    assert home.registry.history("m", alias="best")[-1].number is None


@pytest.mark.parametrize("alias", ["", "latest", "V2", "a b", "x" * 256, "a/b"])
def test_names_that_no_alias_can_have(calls: Calls, alias: str) -> None:
    register(calls)
    assert calls.refused("registered-models/alias", name="m", alias=alias, version="1").error == INVALID


@pytest.mark.parametrize("name", ["", " ", "a/b", "a:b", "x" * 257, "..", "a\0b", "\ud800"])
def test_names_that_no_model_can_have(calls: Calls, name: str) -> None:
    assert calls.refused("registered-models/create", name=name).error == INVALID


@pytest.mark.parametrize("version", ["0", "-1", "one", "1.5", "9" * 30, ""])
def test_versions_that_no_model_has(calls: Calls, version: str) -> None:
    register(calls)
    assert calls.send("GET", A + "model-versions/get", name="m", version=version).error == INVALID


def test_stages_are_kept_and_the_newest_of_each_is_found(calls: Calls) -> None:
    for _ in range(4):
        register(calls)
    path = "model-versions/transition-stage"
    calls.post(path, name="m", version="1", stage="production")
    calls.post(path, name="m", version="2", stage="Staging")
    moved = calls.post(path, name="m", version="3", stage="Production", archive_existing_versions=True)
    assert moved["model_version"]["current_stage"] == "Production"
    latest = calls.post("registered-models/get-latest-versions", name="m")["model_versions"]
    assert {found["current_stage"]: found["version"] for found in latest} == {
        "Archived": "1",
        "Staging": "2",
        "Production": "3",
        "None": "4",
    }
    only = calls.post("registered-models/get-latest-versions", name="m", stages=["Staging"])["model_versions"]
    assert [found["version"] for found in only] == ["2"]
    assert calls.refused(path, name="m", version="1", stage="Live").error == INVALID


def test_tags_and_descriptions_of_versions(calls: Calls) -> None:
    register(calls, tags=[{"key": "a", "value": "1"}], description="first")
    calls.post("model-versions/set-tag", name="m", version="1", key="b", value="2")
    send(calls, "DELETE", "model-versions/delete-tag", name="m", version="1", key="a")
    assert send(calls, "DELETE", "model-versions/delete-tag", name="m", version="1", key="a").status == 200
    send(calls, "PATCH", "model-versions/update", name="m", version="1", description="second")
    found = calls.get("model-versions/get", name="m", version="1")["model_version"]
    assert (found["tags"], found["description"]) == ([{"key": "b", "value": "2"}], "second")
    assert calls.refused("model-versions/set-tag", name="m", version="7", key="b", value="2").error == MISSING


def test_ten_thousand_tags(calls: Calls) -> None:
    tags = [{"key": f"t{number}", "value": "v"} for number in range(10_001)]
    assert calls.refused("registered-models/create", name="m", tags=tags).error == INVALID
    made = calls.post("registered-models/create", name="m", tags=tags[:10_000])["registered_model"]
    assert len(made["tags"]) == 10_000


def test_a_version_is_searched_by_name_run_source_number_and_tag(calls: Calls) -> None:
    run_id = calls.post("runs/create", experiment_id="0")["run"]["info"]["run_id"]
    for name, source in (("a", "s3://x/1"), ("a", "s3://x/2"), ("b", "s3://x/3")):
        register(calls, name, source=source, run_id=run_id if source.endswith("2") else "", tags=[
            {"key": "odd", "value": "yes" if source[-1] in "13" else "no"}
        ])  # fmt: skip

    def found(text: str, **fields: Any) -> list[str]:
        versions = calls.get("model-versions/search", filter=text, **fields).get("model_versions", [])
        return [f"{version['name']}/{version['version']}" for version in versions]

    assert found("") == ["b/1", "a/2", "a/1"]
    assert found("name = 'a'", order_by=["version_number ASC"]) == ["a/1", "a/2"]
    assert found("name LIKE '%'", order_by=["name DESC", "version_number"]) == ["b/1", "a/1", "a/2"]
    assert found("name IN ('b', 'c')") == ["b/1"]
    assert found(f"run_id = '{run_id}'") == ["a/2"]
    assert found("source_path = 's3://x/3'") == ["b/1"]
    assert found("version_number > 1") == ["a/2"]
    assert found("tags.odd = 'yes' and name != 'b'") == ["a/1"]
    assert found("tag.`mlflow.prompt.is_prompt` != 'true'", order_by=["name", "version_number"]) == [
        "a/1",
        "a/2",
        "b/1",
    ]
    for text in ("colour = 'red'", "name = 3", "name = 'a' AND", "version_number LIKE '1'", "1 = 1", "name = 'a' OR 1"):
        assert calls.send("GET", A + "model-versions/search", filter=text).error == INVALID


def test_searches_go_on_where_their_token_says(calls: Calls) -> None:
    for number in range(5):
        register(calls, f"m{number % 2}")
    seen: list[str] = []
    token = ""
    while True:
        page = calls.get("model-versions/search", max_results=2, page_token=token)
        seen += [f"{version['name']}/{version['version']}" for version in page["model_versions"]]
        if not (token := page.get("next_page_token", "")):
            break
        assert calls.send("GET", A + "registered-models/search", max_results=2, page_token=token).error == INVALID
    assert seen == ["m0/3", "m1/2", "m0/2", "m1/1", "m0/1"]
    page = calls.get("registered-models/search", max_results=1, order_by=["name DESC"])
    rest = calls.get("registered-models/search", order_by=["name DESC"], page_token=page["next_page_token"])
    assert [page["registered_models"][0]["name"], rest["registered_models"][0]["name"]] == ["m1", "m0"]
    for token in ("x", "AAAA", page["next_page_token"][:-4]):
        reply = calls.send("GET", A + "registered-models/search", order_by=["name DESC"], page_token=token)
        assert reply.error == INVALID
    assert calls.send("GET", A + "model-versions/search", max_results=200_001).error == INVALID


def test_prompts_are_told_from_models(calls: Calls) -> None:
    prompt = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
    calls.post("registered-models/create", name="p", tags=prompt)
    calls.post("model-versions/create", name="p", source="dummy-source", tags=prompt)
    register(calls, "m")

    def names(text: str) -> list[str]:
        return [one["name"] for one in calls.get("registered-models/search", filter=text).get("registered_models", [])]

    assert names("tags.`mlflow.prompt.is_prompt` = 'true'") == ["p"]
    assert names("tag.`mlflow.prompt.is_prompt` != 'true'") == ["m"]
    assert names("tags.`mlflow.prompt.is_prompt` = 'false'") == ["m"]


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("runs:/nothing/model", MISSING),
        ("models:/nothing/1", MISSING),
        ("models:/nothing@champion", MISSING),
        ("models:/m-0123", MISSING),
        ("models:/a/b/c", INVALID),
        ("/etc/passwd", INVALID),
        ("file:///etc", INVALID),
        ("relative", INVALID),
        ("C:\\models", INVALID),
        ("mlflow-artifacts:/0/../../x", INVALID),
        ("s3://bucket/%2e%2e/x", INVALID),
        ("s3://" + "x" * 3_000, INVALID),
        ("", INVALID),
    ],
)
def test_a_version_of_what_is_not_there_is_refused(calls: Calls, source: str, error: tuple[int, str]) -> None:
    calls.post("registered-models/create", name="m")
    assert calls.refused("model-versions/create", name="m", source=source).error == error
    assert calls.get("model-versions/search").get("model_versions", []) == []
    assert calls.refused("model-versions/create", name="none", source="s3://x/y").error == MISSING


def test_a_version_is_copied_under_another_name(calls: Calls) -> None:
    register(calls, "a", source="s3://x/1")
    calls.post("registered-models/alias", name="a", alias="best", version="1")
    assert register(calls, "b", source="models:/a/1")["source"] == "models:/a/1"
    register(calls, "b", source="models:/a@best")
    for version in "12":
        found = calls.get("model-versions/get-download-uri", name="b", version=version)
        assert found == {"artifact_uri": "s3://x/1"}
