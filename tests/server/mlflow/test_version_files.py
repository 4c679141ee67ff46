"""The files of versions: those that clients register, and the packages of Flyball's own."""

import json
from datetime import timedelta
from typing import Any

import pytest

from flyball.core.encoding import to_json
from flyball.core.hashing import digest_bytes
from flyball.domain.registry.ledger import NewVersion
from flyball.domain.registry.packages import MANIFEST, FileEntry, Manifest, OnnxState
from flyball.workspace.home import Home
from tests.server.mlflow.calls import A, Calls, Reply

FILES = "/api/2.0/mlflow-artifacts/artifacts"
MISSING = (404, "RESOURCE_DOES_NOT_EXIST")
INVALID = (400, "INVALID_PARAMETER_VALUE")


def put(calls: Calls, address: str, name: str, data: bytes) -> None:
    """Upload a file below an address."""
    reply = calls.send("PUT", f"{FILES}/{address.removeprefix('mlflow-artifacts:/')}/{name}", data, "text/plain")
    assert reply.status == 200, reply.body


def log_model(calls: Calls, **files: bytes) -> tuple[str, str]:
    """Log a model with files and return its id and its address."""
    made = calls.post("logged-models", experiment_id="0", name="model")["model"]["info"]
    for name, data in files.items():
        put(calls, made["artifact_uri"], name, data)
    return made["model_id"], made["artifact_uri"]


def register(calls: Calls, source: str, name: str = "m", **fields: Any) -> dict[str, Any]:
    """Register a version and return its files by name, with its address as ``""``."""
    calls.refused("registered-models/create", name=name)
    version = calls.post("model-versions/create", name=name, source=source, **fields)["model_version"]["version"]
    return read_files(calls, name, version)


def read_files(calls: Calls, name: str, version: str) -> dict[str, Any]:
    uri = calls.get("model-versions/get-download-uri", name=name, version=version)["artifact_uri"]
    path = uri.removeprefix("mlflow-artifacts:/")
    listed = calls.send("GET", f"{FILES}?path={path}").json()["files"]
    return {"": uri} | {file["path"]: calls.send("GET", f"{FILES}/{path}/{file['path']}").body for file in listed}


def delete_version(calls: Calls, name: str, version: str) -> Reply:
    body = json.dumps({"name": name, "version": version}).encode()
    return calls.send("DELETE", f"{A}model-versions/delete", body)


def test_what_was_registered_stays_whatever_becomes_of_its_source(calls: Calls) -> None:
    model_id, address = log_model(calls, MLmodel=b"flavors", model=b"weights")
    files = register(calls, f"models:/{model_id}", model_id=model_id)
    assert (files["MLmodel"], files["model"]) == (b"flavors", b"weights")
    put(calls, address, "model", b"other weights")
    calls.send("DELETE", f"{A}logged-models/{model_id}")
    assert read_files(calls, "m", "1") == files
    assert register(calls, "models:/m/1", "copy")["model"] == b"weights"
    assert delete_version(calls, "m", "1").status == 200
    assert read_files(calls, "copy", "1")["model"] == b"weights"


def test_nobody_changes_the_files_of_a_version(calls: Calls) -> None:
    model_id, _ = log_model(calls, model=b"weights")
    files = register(calls, f"models:/{model_id}")
    path = files[""].removeprefix("mlflow-artifacts:/")
    for method, name in (("PUT", "model"), ("PUT", "new"), ("DELETE", "model")):
        assert calls.send(method, f"{FILES}/{path}/{name}", b"", "text/plain").error == INVALID
    assert calls.send("DELETE", f"{FILES}/{path}").error == INVALID
    assert read_files(calls, "m", "1") == files


def test_the_files_go_with_the_version_or_the_model(calls: Calls) -> None:
    model_id, _ = log_model(calls, model=b"weights")
    paths = [register(calls, f"models:/{model_id}")[""].removeprefix("mlflow-artifacts:/") for _ in range(2)]
    delete_version(calls, "m", "1")
    assert calls.send("GET", f"{FILES}/{paths[0]}/model").error == MISSING
    assert calls.send("GET", f"{FILES}/{paths[1]}/model").status == 200
    calls.send("DELETE", f"{A}registered-models/delete", b'{"name": "m"}')
    assert calls.send("GET", f"{FILES}/{paths[1]}/model").error == MISSING


def test_every_way_to_name_a_source(calls: Calls) -> None:
    run_id = calls.post("runs/create", experiment_id="0")["run"]["info"]["run_id"]
    put(calls, f"0/{run_id}/artifacts/old", "model", b"in the run")
    made = calls.post("logged-models", experiment_id="0", name="new", source_run_id=run_id)["model"]["info"]
    put(calls, made["artifact_uri"], "model", b"logged")
    for source, expected in (
        (f"runs:/{run_id}/old", b"in the run"),
        (f"runs:/{run_id}/new", b"logged"),
        (f"mlflow-artifacts:/0/{run_id}/artifacts/old", b"in the run"),
        (f"mlflow-artifacts://localhost:5000/0/{run_id}/artifacts/old", b"in the run"),
        (f"models:/{made['model_id']}", b"logged"),
        (made["artifact_uri"], b"logged"),
        ("models:/m/1", b"in the run"),
    ):
        assert register(calls, source)["model"] == expected, source
    for source in (f"runs:/{run_id}/none", f"mlflow-artifacts:/0/{run_id}/artifacts/none"):
        assert calls.refused("model-versions/create", name="m", source=source).error == MISSING, source


def test_a_logged_model_without_files_is_no_source(calls: Calls) -> None:
    model_id, _ = log_model(calls)
    calls.post("registered-models/create", name="m")
    assert calls.refused("model-versions/create", name="m", source=f"models:/{model_id}").error == MISSING


@pytest.fixture
def package(home: Home) -> str:
    """The digest of a package that Flyball made, of the version own/1."""
    files = {"MLmodel": b"{}", "model/model.pkl": b"weights", "source/project.py": b"pass"}
    manifest = to_json(
        Manifest(
            model="own",
            runtime="sklearn",
            kind="Model",
            onnx=OnnxState(is_proven=False, reason=""),
            python="3",
            flyball="0",
            files={path: FileEntry(size_bytes=len(data), sha256=digest_bytes(data)) for path, data in files.items()},
        )
    )
    digest = digest_bytes(manifest)
    for path, data in {**files, MANIFEST: manifest}.items():
        target = home.registry.packages_root / digest / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    (home.registry.packages_root / digest / "stranger").write_bytes(b"not in the manifest")
    home.registry.create_version(NewVersion(model="own", package_digest=digest, metrics={"auc": 0.9}))
    return digest


def test_a_version_that_flyball_trained_is_seen_and_read_by_clients(calls: Calls, package: str) -> None:
    version = calls.get("model-versions/get", name="own", version="1")["model_version"]
    assert version["source"] == f"mlflow-artifacts:/packages/{package}"
    assert [metric["key"] for metric in version["model_metrics"]] == ["auc"]
    files = read_files(calls, "own", "1")
    assert files["MLmodel"] == b"{}"
    assert {name for name in files if name} == {"MLmodel", "model", "source", "manifest.json"}
    assert calls.send("GET", f"{FILES}/packages/{package}/model/model.pkl").body == b"weights"
    assert calls.send("GET", f"{FILES}?path=packages/{package}/model").json()["files"] == [
        {"path": "model.pkl", "is_dir": False, "file_size": 7}
    ]
    copied = register(calls, "models:/own/1", "copied")
    assert copied == files


def test_what_is_no_file_of_a_package(calls: Calls, package: str) -> None:
    for path in ("stranger", "model", "none", "%2e%2e/x", "source/%2e%2e/MLmodel"):
        assert calls.send("GET", f"{FILES}/packages/{package}/{path}").status in (400, 404), path
    assert calls.send("GET", f"{FILES}/packages/{'0' * 64}/MLmodel").error == MISSING
    assert calls.send("GET", f"{FILES}?path=packages/{'0' * 64}").json()["files"] == []


def test_packages_are_not_changed_by_clients(calls: Calls, package: str) -> None:
    for method in ("PUT", "DELETE"):
        assert calls.send(method, f"{FILES}/packages/{package}/MLmodel", b"", "text/plain").status == 400
    assert read_files(calls, "own", "1")["MLmodel"] == b"{}"


def test_what_an_alias_meant_is_told_of_versions_that_are_gone(calls: Calls, home: Home, package: str) -> None:
    calls.post("registered-models/alias", name="own", alias="best", version="1")
    at = home.registry.history("own", alias="best")[0].event_time
    assert delete_version(calls, "own", "1").status == 200
    assert home.registry.find_alias("own", "best") is None
    found = home.registry.find_alias("own", "best", at=at + timedelta(microseconds=1))
    assert found is None or found.is_deleted
    past = home.registry.find_alias("own", "best", at=at)
    assert past is not None
    assert past.package_digest == package
    assert past.is_deleted
