"""Versions that clients register for a model that an endpoint serves: packaged, judged, taken to live."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from flyball.cli.pictures import draw_status
from flyball.domain.registry.versions import ModelVersion, NotApprovedError, Status
from flyball.domain.tracking.artifacts import parse_place
from flyball.domain.tracking.points import Point
from flyball.workspace.status import read_status
from flyball.workspace.workspace import Workspace
from tests.stories.tiny import write_tiny

ENDPOINT = """parcel = fb.Endpoint(model="lateness", gates=[fb.metric("auc") >= 0.55], approval="{approval}")"""
COLUMNS = ("weight_kg", "rush")


def open_workspace(folder: Path, approval: str = "auto") -> Workspace:
    return Workspace(write_tiny(folder, endpoint=ENDPOINT.format(approval=approval)), folder / "home", is_durable=False)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    workspace = open_workspace(tmp_path)
    workspace.registry.declare(workspace.gate_plan())
    yield workspace
    workspace.db.close()


def fit(classes: bool = True) -> Any:
    random = np.random.default_rng(1)
    rows = pl.DataFrame({name: random.uniform(0, 20, 300) for name in COLUMNS})
    target = rows["weight_kg"] - rows["rush"]
    model = LogisticRegression() if classes else LinearRegression()
    return model.fit(rows.to_numpy(), (target > 0).to_numpy().astype(int))


def model_files(model: Any = None, *, types: Mapping[str, str] | None = None, **changes: Any) -> dict[str, bytes]:
    """Return the files of a model as a client of MLflow logs it."""
    types = types or dict.fromkeys(COLUMNS, "double")
    inputs = [{"name": name, "type": kind, "required": True} for name, kind in types.items()]
    described = {
        "flavors": {"sklearn": {"pickled_model": "model.pkl", "serialization_format": "cloudpickle"}},
        "signature": {"inputs": json.dumps(inputs), "outputs": "[]"},
        "saved_input_example_info": {"artifact_path": "input_example.json", "type": "dataframe"},
    } | changes
    example = {"columns": list(types), "data": [[1.5, 0], [12, 1], [3, 1]]}
    return {
        "MLmodel": json.dumps(described).encode(),
        "model.pkl": cloudpickle.dumps(model or fit()),
        "input_example.json": json.dumps(example).encode(),
    }


def register(
    workspace: Workspace, files: Mapping[str, bytes], name: str = "lateness", **metrics: float
) -> ModelVersion:
    """Log a model's files and register them as a client does."""
    with workspace.db.begin() as tx:
        if not workspace.client_registry.search_models(filter_text=f"name = '{name}'")[0]:
            workspace.client_registry.create_model(tx, name)
        run = workspace.client_runs.create(tx, 0).run
        workspace.client_runs.log(tx, run.id, points=[Point(key, value, 0, 0) for key, value in metrics.items()])
        logged = workspace.logged_models.create(tx, 0, name="model", run_id=run.id)
        for path, data in files.items():
            workspace.artifacts.put_bytes(tx, parse_place(logged.root).below(path), data)
        return workspace.client_registry.create_version(tx, name, f"models:/{logged.id}").version


def adopt(workspace: Workspace, version: ModelVersion) -> ModelVersion:
    workspace.adopter.adopt_all()
    return workspace.registry.get(version.ref)


def why(workspace: Workspace, version: ModelVersion) -> str:
    evidence = workspace.registry.evidence(version.ref)
    assert evidence is not None
    return "; ".join(result.reason for result in evidence.results if not result.passed)


def test_a_first_version_is_packaged_approved_and_answers(workspace: Workspace) -> None:
    model = fit()
    version = register(workspace, model_files(model), auc=0.8)
    assert version.status is Status.CANDIDATE
    adopted = adopt(workspace, version)
    assert (adopted.status, adopted.metrics) == (Status.APPROVED, {"auc": 0.8})
    workspace.deployer.take_up(workspace.endpoints)
    champion = workspace.registry.champion("lateness")
    assert champion is not None
    assert champion.ref == version.ref
    (answer,) = workspace.predict("parcel", [{"weight_kg": 12.0, "rush": 1.0}])
    assert answer.prediction == pytest.approx(model.predict_proba([[12.0, 1.0]])[0, 1])


def test_a_version_that_does_not_pass_its_gates_takes_no_alias(workspace: Workspace) -> None:
    version = register(workspace, model_files(), auc=0.4)
    adopted = adopt(workspace, version)
    assert adopted.status is Status.REJECTED
    with workspace.db.begin() as tx, pytest.raises(NotApprovedError, match="auc"):
        workspace.client_registry.set_alias(tx, "lateness", "champion", version.number)
    with workspace.db.begin() as tx:
        workspace.client_registry.set_alias(tx, "lateness", "looked-at", version.number)


def test_before_its_gates_are_judged_a_version_takes_no_alias(workspace: Workspace) -> None:
    version = register(workspace, model_files(), auc=0.8)
    with workspace.db.begin() as tx, pytest.raises(NotApprovedError, match="candidate"):
        workspace.client_registry.set_alias(tx, "lateness", "champion", version.number)


def test_a_role_must_approve_clients_versions_too(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path, approval="risk-officer")
    workspace.registry.declare(workspace.gate_plan())
    version = register(workspace, model_files(), auc=0.8)
    assert adopt(workspace, version).status is Status.AWAITING_APPROVAL
    with workspace.db.begin() as tx, pytest.raises(NotApprovedError, match="awaiting"):
        workspace.client_registry.set_alias(tx, "lateness", "champion", version.number)
    workspace.db.close()


def test_a_version_is_put_in_the_place_of_the_live_one(workspace: Workspace) -> None:
    """It gets the live version's features, so requests stay what they are."""
    workspace.run("training", is_inline=True)
    workspace.deployer.take_up(workspace.endpoints)
    request = {"parcel_id": 900_001, "shop_id": 3, "weight_kg": 7.5, "rush": 1}
    workspace.predict("parcel", [request])
    model = LogisticRegression().fit(np.array([[0.0, 0.1], [10.0, 0.5], [20.0, 0.9]]), [0, 1, 1])
    types = {"weight_kg": "double", "late_share": "double"}
    adopted = adopt(workspace, register(workspace, model_files(model, types=types), auc=0.9))
    assert adopted.status is Status.APPROVED, why(workspace, adopted)
    workspace.deployer.take_up(workspace.endpoints)
    plan = workspace.registry.open(adopted.ref).features
    assert (plan.features, plan.spine, plan.keys) == (("weight_kg", "late_share"), "parcels", ("parcel_id", "shop_id"))
    workspace.fleet.refresh()
    (answer,) = workspace.predict("parcel", [request])
    assert answer.model_version == adopted.ref
    assert 0 < answer.prediction < 1


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"MLmodel": b"{"}, "MLmodel cannot be read"),
        ({"MLmodel": b"[]"}, "MLmodel cannot be read"),
        (model_files(flavors={"pytorch": {}}), "pytorch"),
        (model_files(signature=None), "no signature"),
        (model_files(signature={"inputs": '[{"type": "tensor"}]'}), "no names"),
        (model_files(types=dict.fromkeys(COLUMNS, "binary")), "types that requests cannot have"),
        (model_files(saved_input_example_info=None), "no input example"),
        (model_files(flavors={"sklearn": {"pickled_model": "../../x"}}), "missing"),
        (model_files() | {"model.pkl": b"no pickle"}, "cannot be loaded"),
        (model_files(types={"a": "double"}), "input example"),
        (model_files() | {"input_example.json": b"{}"}, "input example"),
        (model_files(LinearRegression()), "cannot predict"),
    ],
)
def test_a_version_that_cannot_be_served_is_rejected_and_says_why(
    workspace: Workspace, files: dict[str, bytes], reason: str
) -> None:
    version = register(workspace, files, auc=0.9)
    assert adopt(workspace, version).status is Status.REJECTED
    assert reason in why(workspace, version)
    assert workspace.registry.list_unpackaged("lateness") == []


def test_a_metric_that_a_gate_needs_and_nobody_logged(workspace: Workspace) -> None:
    version = register(workspace, model_files(), other=0.9)
    assert adopt(workspace, version).status is Status.REJECTED
    assert "auc" in why(workspace, version)


def test_files_that_are_not_those_that_were_registered_are_not_loaded(workspace: Workspace) -> None:
    version = register(workspace, model_files(), auc=0.9)
    digest = workspace.blobs.put_bytes(b"another model")
    with workspace.db.begin() as tx:
        sql = "UPDATE tracking_artifact SET digest = ? WHERE owner = ? AND name = 'model.pkl'"
        assert tx.execute(sql, (digest, parse_place(version.location).owner)) == 1
    assert adopt(workspace, version).status is Status.REJECTED
    assert "not those that were registered" in why(workspace, version)


def test_a_model_that_no_endpoint_names_is_approved_as_it_comes(workspace: Workspace) -> None:
    version = register(workspace, {"MLmodel": b"whatever"}, "other")
    assert workspace.registry.get(version.ref).status is Status.APPROVED
    with workspace.db.begin() as tx:
        workspace.client_registry.set_alias(tx, "other", "champion", 1)


def test_what_was_champion_before_an_endpoint_named_the_model_has_to_pass_too(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    version = register(workspace, model_files(), auc=0.2)
    with workspace.db.begin() as tx:
        workspace.client_registry.set_alias(tx, "lateness", "champion", 1)
    assert adopt(workspace, version).status is Status.REJECTED
    assert workspace.registry.champion("lateness") is None
    assert workspace.registry.history("lateness", alias="champion")[-1].reason == "its gates say no"
    workspace.db.close()


def test_status_says_why_the_newest_version_is_rejected(workspace: Workspace) -> None:
    good = adopt(workspace, register(workspace, model_files(fit()), auc=0.8))
    assert read_status(workspace).endpoints[0].rejected == {}
    bad = adopt(workspace, register(workspace, model_files(fit()), auc=0.1))
    assert (good.status, bad.status) == (Status.APPROVED, Status.REJECTED)
    status = read_status(workspace)
    assert "; ".join(status.endpoints[0].rejected[bad.ref]) == why(workspace, bad)
    assert f"{bad.ref} is rejected: auc is 0.1" in draw_status(status)
    adopt(workspace, register(workspace, model_files(fit()), auc=0.9))
    assert read_status(workspace).endpoints[0].rejected == {}
