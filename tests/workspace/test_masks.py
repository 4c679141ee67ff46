"""What a project calls sensitive is in no file of the prediction log, and labels and monitors do without."""

import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import polars as pl
import pytest

from flyball.core.errors import InvalidInputError
from flyball.domain.data.tables import Table
from flyball.domain.loop.endpoints import Endpoint
from flyball.domain.predictions.masking import Mask, open_key
from flyball.domain.predictions.records import PredictionRecord, PredictionStatus, Reason
from flyball.workspace.tracing import trace_prediction
from flyball.workspace.traffic_replays import TrafficPlan, replay_traffic
from flyball.workspace.workspace import Workspace
from tests.stories.tiny import add_arrivals, make_request, write_tiny

ENDPOINT = (
    'parcel = fb.Endpoint(model="lateness", retrain=training, sensitive={"parcel_id": "leave out"}, '
    'monitors=[fb.drift(), fb.performance("auc", labels=arrivals["late"], at_least=0.3)])'
)
# So many digits that no time, id or digest holds them by chance.
KEYS = range(710_025_813_470_000, 710_025_813_470_060)
TOO_HEAVY = 51.2583190467


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose parcels' keys may not be logged, and in whose table weights are sensitive."""
    folder = write_tiny(tmp_path_factory.mktemp("masked") / "tiny", endpoint=ENDPOINT)
    file = folder / "project.py"
    text = file.read_text().replace(
        'time="sent_at", key="parcel_id")', 'time="sent_at", key="parcel_id", sensitive=["weight_kg"])'
    )
    file.write_text(text)
    workspace = open_workspace(folder)
    assert not workspace.run("training", is_inline=True).error
    workspace.deployer.take_up_first(workspace.endpoints)
    return folder


def open_workspace(folder: Path) -> Workspace:
    return Workspace(folder, folder / ".flyball")


@pytest.fixture
def workspace(project: Path) -> Iterator[Workspace]:
    yield open_workspace(project)


def test_no_file_holds_the_values_and_labels_still_find_their_predictions(workspace: Workspace, project: Path) -> None:
    workspace.packages.bring_online("lateness/1")
    dice = random.Random(5)
    requests = [make_request(0) | {"parcel_id": key, "weight_kg": 3.1377 + dice.random()} for key in KEYS]
    secrets = [str(TOO_HEAVY), *(str(request[name]) for request in requests for name in ("parcel_id", "weight_kg"))]
    too_heavy = requests[0] | {"weight_kg": TOO_HEAVY}
    answers = workspace.predict("parcel", [*requests, too_heavy, {"parcel_idd": KEYS[0]}])
    assert [answer.status for answer in answers[-2:]] == ["refused", "refused"]
    assert str(TOO_HEAVY) in answers[-2].errors[0].message  # who sent it may be told
    root = workspace.home / "predictions"
    workspace.predictions.log.rotate()
    files = list(root.rglob("*.jsonl"))
    assert files
    check_nothing_told((path.read_text() for path in files), secrets)
    record = workspace.predictions.get(answers[0].prediction_id)
    assert record.request_fields.keys() == {"shop_id", "weight_kg", "rush"}
    assert str(record.request_fields["weight_kg"]).startswith("hmac:")
    assert "weight_kg" not in record.feature_values and "rush" in record.feature_values
    assert str(record.key["parcel_id"]).startswith("hmac:")
    refused = workspace.predictions.get(answers[-2].prediction_id)
    assert (refused.request_fields, refused.reasons[0].message) == ({}, "weight_kg must be between 0 and 50")
    workspace.loop.tick()
    files = list(root.rglob("*.parquet"))
    assert files and not list(root.rglob("*.jsonl"))
    whole = pl.concat([pl.read_parquet(path, hive_partitioning=False) for path in files])
    for column in ("request", "features", "key", "entity", "reasons"):
        check_nothing_told(whole[column].drop_nulls(), secrets)
    add_arrivals(project, [(key, 0, key % 2) for key in KEYS])
    workspace.loop.tick()
    assert workspace.predictions.labelled("parcel").height == len(KEYS)
    assert trace_prediction(workspace, answers[0].prediction_id).labels[0].value == 0.0


def check_nothing_told(texts: Iterable[str], secrets: list[str]) -> None:
    for text in texts:
        assert not [secret for secret in secrets if secret in text]


def test_monitors_judge_only_what_the_log_holds(workspace: Workspace) -> None:
    baseline = workspace.packages.baseline("lateness/1")
    assert baseline.unlogged == {"weight_kg", "parcel_id"}
    workspace.loop.tick()
    judged = {name for finding in workspace.monitoring.series("parcel") for name in finding.scores}
    assert "weight_kg" not in judged


def test_a_replay_says_that_it_cannot_be_proven_without_the_values(workspace: Workspace) -> None:
    result = replay_traffic(workspace, TrafficPlan(candidate="1"))
    assert result.comparison is None
    assert "the log holds" in result.verdict and "weight_kg" in result.verdict


def test_equal_values_have_equal_digests_within_a_home_only(tmp_path: Path) -> None:
    key = open_key(tmp_path / "one")
    assert key == open_key(tmp_path / "one")
    assert (tmp_path / "one" / "predictions.key").stat().st_mode & 0o777 == 0o600
    mask, other = Mask({"id": "hash"}, key), Mask({"id": "hash"}, open_key(tmp_path / "two"))
    assert mask.keys({"id": 1, "day": 2}) == mask.keys({"id": 1.0, "day": 2})
    assert mask.keys({"id": 1}) != mask.keys({"id": "1"})
    assert mask.keys({"id": 1}) != other.keys({"id": 1})
    assert mask.keys({"id": None}) == {"id": None}


def test_reasons_lose_what_was_given(tmp_path: Path) -> None:
    mask = Mask({"income": "leave out"}, open_key(tmp_path))
    record = PredictionRecord(
        id="1",
        endpoint="credit",
        at_us=0,
        variant="live",
        version="credit/1",
        status=PredictionStatus.QUARANTINED,
        request=msgspec.Raw(b'{"income":17,"debt":99}'),
        reasons=[
            Reason(column="debt", rule="below", message="debt must be below income, but 99 was given and income is 17"),
            Reason(column="term", rule="is_in", message="term must be one of 12, 24, but 13 was given"),
        ],
    )
    masked = mask.record(record)
    assert masked.request_fields == {"debt": 99}
    assert [reason.message for reason in masked.reasons] == [
        "debt must be below income",
        "term must be one of 12, 24, but 13 was given",
    ]


def test_declarations_are_checked() -> None:
    assert Endpoint(model="m", sensitive=["a"]).sensitive == {"a": "hash"}
    with pytest.raises(InvalidInputError, match="says 'blur' of 'a'"):
        Endpoint(model="m", sensitive={"a": "blur"})
    with pytest.raises(InvalidInputError, match="not a list of names"):
        Endpoint(model="m", sensitive="a")
    with pytest.raises(InvalidInputError, match="sensitive of the endpoint for 'm' holds 7"):
        Endpoint(model="m", sensitive=[7])  # type: ignore[list-item]
    with pytest.raises(InvalidInputError, match=r"'a\.csv' holds 7"):
        Table("a.csv", sensitive=[7])  # type: ignore[list-item]
    with pytest.raises(InvalidInputError, match="keep of the endpoint for 'm'"):
        Endpoint(model="m", keep="soon")
