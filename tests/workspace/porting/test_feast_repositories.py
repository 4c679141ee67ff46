"""A Feast repository becomes a project that loads, materialises and answers; what is lost is said line by line."""

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from flyball.cli.main import cli
from flyball.core.errors import ConflictError, NotFoundError
from flyball.workspace.porting.feast_definitions import FeastUnreadableError, import_repository
from flyball.workspace.workspace import Workspace
from tests.peers import peer_python

_DEFINITIONS = Path(__file__).with_name("feast_repository.py")
_DAY = datetime(2026, 1, 2, tzinfo=UTC)


def _make_repository(root: Path) -> Path:
    (root / "data").mkdir(parents=True)
    (root / "features.py").write_text(_DEFINITIONS.read_text())
    (root / "feature_store.yaml").write_text(
        "project: retail\nprovider: local\nregistry: data/registry.db\n"
        'online_store: {type: redis, connection_string: "cache:6379,password=secret"}\n'
        "entity_key_serialization_version: 3\n"
    )
    pl.DataFrame(
        {"customer_id": [1], "days": [10], "share": [0.5], "paid_at": [_DAY], "booked_at": [_DAY], "embedding": [[1.0]]}
    ).write_parquet(root / "data/payments.parquet")
    pl.DataFrame({"customer_id": [1], "shop": ["a"], "at": [_DAY], "count": [7]}).write_parquet(
        root / "data/visits.parquet"
    )
    return root


@pytest.mark.slow
def test_a_repository_becomes_a_project(tmp_path: Path) -> None:
    python = peer_python("feast")
    root, target = _make_repository(tmp_path / "repo"), tmp_path / "project"
    target.mkdir()
    command = ["import", "feast", str(root), "--python", python, "--project", str(target), "--json"]
    done = CliRunner().invoke(cli, command, catch_exceptions=False)
    told = json.loads(done.stdout)
    assert (told["views"], told["services"]) == (3, 2)
    assert told["left_out"] == [
        "feature behaviour:embedding: values of the type Array(Float32) are not served",
        "feature view everybody: has no entity; features are looked up by one",
        "on-demand feature view weighted: write it as @fb.request_features",
        "feature service every-thing: without weighted, which is left out",
        "feature service some: without everybody, which is left out",
    ]
    assert told["notes"] == [
        "source payments_file: a row counts from its 'booked_at' on; "
        "Feast took that column only to choose between rows of one time",
        "feature view from: was not online and now is",
        "feature view from: is read from its batch source; nothing reads its KafkaSource",
        "feature service every-thing: clients must ask for it as every_thing",
        'online store: to keep to that Redis, set in flyball.toml online = "redis://cache:6379/0?prefix=retail"; '
        "its rows are written anew",
    ]
    workspace = Workspace(target, target / ".flyball")
    assert sorted(workspace.project.views) == ["behaviour", "from", "loyalty"]
    assert workspace.project.feature_list("every_thing") == ["behaviour", "loyalty"]
    assert workspace.project.feature_list("some") == ["behaviour:days"]
    ttl = workspace.project.view("behaviour").ttl
    assert ttl is not None
    assert ttl.days == 30
    assert workspace.project.view("loyalty").ttl is None
    workspace.materialise()
    vectors = workspace.get_online_features(
        ["loyalty", "from"], {"customer_id": [1], "shop_id": ["a"]}, has_full_names=True
    )
    assert vectors.to_dict() == {"customer_id": [1], "shop_id": ["a"], "loyalty__count": [7], "from__count": [7]}
    assert "# def weighted(inputs: pd.DataFrame)" in (target / "project.py").read_text()
    with pytest.raises(ConflictError, match="exists already"):
        import_repository(root, target, python)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no feature_store\.yaml"):
        import_repository(tmp_path, tmp_path, "python3")
    root = _make_repository(tmp_path / "repo")
    with pytest.raises(FeastUnreadableError, match="No module named 'feast'"):
        import_repository(root, tmp_path, "python3")
    with pytest.raises(FeastUnreadableError, match="no-such-python"):
        import_repository(root, tmp_path, "no-such-python")
