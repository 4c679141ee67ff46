"""Tables are scored once, part by part, and taken up where a run stopped."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.domain.serving.conftest import START, FakeLookup, fixed, make_version

from flyball.core.clock import SimulatedClock
from flyball.core.errors import ConflictError, InvalidInputError
from flyball.core.files import DiskFullError
from flyball.core.ids import ID_LENGTH, IdSource
from flyball.domain.data.service import DataService
from flyball.domain.data.tables import Entity, Table
from flyball.domain.journal.service import Journal
from flyball.domain.serving.loaded import LoadedVersion
from flyball.domain.serving.score_jobs import ScoreJob, TableRewrittenError, number_predictions
from flyball.domain.serving.score_requests import OutputTakenError, ScoreRequest, ScoreResult, ScoreUnfinishedError
from flyball.domain.serving.table_requests import TableRequests, TableUnfitError
from flyball.domain.serving.table_scores import TableScoreService
from flyball.domain.serving.table_scoring import TableScorer
from flyball.storage.blobs import LocalBlobStore
from flyball.storage.db import Database
from flyball.storage.tables import outputs

CUSTOMER = Entity("customer_id")


class Killed(BaseException):
    """Stands for the end of the process."""


class Bench:
    """A project's folder with one table, and what scores it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.out = root / "scores"
        self.clock = SimulatedClock(START)
        self.db = db = Database(f"sqlite:///{root / 'home' / 'flyball.db'}")
        self.journal = Journal(db, self.clock)
        self.versions: dict[str, LoadedVersion] = {
            f"credit-risk/{number}": make_version(f"credit-risk/{number}", fixed(number / 10)) for number in (1, 2)
        }
        self.table = Table("rows.parquet", name="applications", entity=CUSTOMER, key="number")
        self.data = DataService(db, self.journal, self.clock, LocalBlobStore(root / "home" / "blobs"), root)
        self.dies_after: int | None = None
        self.service = TableScoreService(
            db, self.journal, self.clock, IdSource(self.clock), self.data, root / "locks", self.load, self.open
        )

    def load(self, ref: str) -> LoadedVersion:
        return self.versions[ref]

    def open(self, loaded: LoadedVersion, requests: TableRequests, job: ScoreJob) -> TableScorer:
        return TableScorer(loaded, requests, FakeLookup())

    def write(self, numbers: range, path: str = "rows.parquet", **columns: Any) -> None:
        target = self.root / path
        target.parent.mkdir(exist_ok=True)
        frame = pl.DataFrame(
            {
                "number": list(numbers),
                "customer_id": [number % 7 for number in numbers],
                # Every tenth row breaks an expectation.
                "income": [-1.0 if number % 10 == 0 else 100.0 for number in numbers],
                "term": [12] * len(numbers),
            },
            schema_overrides={"number": pl.Int64, "customer_id": pl.Int64, "income": pl.Float64, "term": pl.Int64},
        )
        frame.with_columns(**columns).write_parquet(target)

    def score(self, version: int = 1, **request: Any) -> ScoreResult:
        def listen(done: int, of: int) -> None:
            if self.dies_after is not None and done >= self.dies_after:
                raise Killed

        asked = ScoreRequest(
            endpoint="credit",
            table=self.table,
            version=f"credit-risk/{version}",
            **{"out": self.out, "part_rows": 30, **request},
        )
        return self.service.score(asked, listen)

    def scored(self, out: Path | None = None) -> pl.DataFrame:
        return pl.read_parquet(out or self.out).sort("number")

    def rejected(self) -> pl.DataFrame:
        return pl.read_parquet(self.out.with_name("scores.rejects")).sort("number")


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.db.close()


@pytest.fixture
def bench(empty: Bench) -> Bench:
    empty.write(range(100))
    return empty


def test_every_row_is_answered_or_rejected_with_its_reason(bench: Bench) -> None:
    result = bench.score()
    assert (result.rows, result.answered, result.rejected) == (100, 90, 10)
    assert result.reasons == {"income: between": 10}
    rows = bench.scored()
    assert rows.columns == ["number", "customer_id", "prediction_id", "model_version", "prediction", "scored_at"]
    assert rows["model_version"].unique().to_list() == ["credit-risk/1"]
    assert rows["prediction_id"].n_unique() == 90
    assert set(rows["prediction_id"].str.len_chars()) == {ID_LENGTH}
    rejected = bench.rejected()
    assert rejected["number"].to_list() == list(range(0, 100, 10))
    [reason] = rejected["reasons"][0].to_list()
    assert reason["message"] == "income must be between 0 and 1000000, but -1 was given"
    assert bench.service.find_job_of(rows["prediction_id"][5]) is not None
    kinds = [event.kind for event in bench.journal.list_events()]
    assert kinds[-2:] == ["serving.score.started", "serving.score.finished"]


def test_scoring_again_does_nothing_until_rows_are_added(bench: Bench) -> None:
    bench.score()
    before = bench.scored()
    assert bench.score().rows == 0
    bench.write(range(130))
    result = bench.score(version=2)
    assert (result.rows, result.rejected) == (30, 3)
    rows = bench.scored()
    assert rows.filter(pl.col("number") < 100).equals(before)
    assert rows.filter(pl.col("number") >= 100)["model_version"].unique().to_list() == ["credit-risk/2"]
    assert rows["prediction_id"].n_unique() == 117


def test_new_files_of_a_folder_are_what_is_new_wherever_they_sort(empty: Bench) -> None:
    bench = empty
    bench.table = Table("many", name="applications", entity=CUSTOMER, key="number")
    bench.write(range(50), "many/b.parquet")
    bench.score()
    bench.write(range(50, 80), "many/a.parquet")
    assert bench.score().rows == 30
    assert bench.scored()["number"].to_list() == [number for number in range(80) if number % 10]


def test_changed_rows_are_refused_unless_known_tells_or_all_are_asked_for(bench: Bench) -> None:
    bench.score()
    bench.write(range(1, 120))
    with pytest.raises(TableRewrittenError, match="have changed or are gone"):
        bench.score()
    result = bench.score(version=2, all_rows=True)
    assert result.rows == 119
    assert bench.scored()["model_version"].unique().to_list() == ["credit-risk/2"]
    assert bench.scored()["number"].to_list() == [number for number in range(120) if number % 10]
    assert bench.rejected().height == 11
    assert not [path for path in bench.root.iterdir() if "unfinished" in path.name]


def test_rows_that_became_known_later_are_new_where_the_table_says_when(empty: Bench) -> None:
    bench = empty
    bench.table = Table("rows.parquet", name="applications", entity=CUSTOMER, key="number", time="at", known="known_at")

    def times(numbers: range) -> dict[str, Any]:
        at = [START - timedelta(days=200 - number) for number in numbers]
        return {"at": pl.Series(at), "known_at": pl.Series(at)}

    bench.write(range(100), **times(range(100)))
    bench.score()
    bench.write(range(40, 125), **times(range(40, 125)))
    assert bench.score().rows == 25
    assert bench.scored()["number"].to_list() == [number for number in range(125) if number % 10]


@pytest.mark.parametrize("format_", ["parquet", "delta"])
def test_a_killed_run_is_brought_to_its_end_by_the_version_it_began_with(bench: Bench, format_: Any) -> None:
    bench.dies_after = 60
    with pytest.raises(Killed):
        bench.score(format=format_)
    bench.dies_after = None
    bench.write(range(150))
    with pytest.raises(ScoreUnfinishedError, match="credit-risk/2 is asked for now"):
        bench.score(version=2, is_pinned=True, format=format_)
    result = bench.score(version=2, format=format_)
    assert (result.taken_up, result.version, result.rows) == (True, "credit-risk/1", 100)
    assert "credit-risk/2 scores what is new next" in result.note
    read = (lambda: pl.read_delta(str(bench.out)).sort("number")) if format_ == "delta" else bench.scored
    assert read()["number"].to_list() == [number for number in range(100) if number % 10]
    assert bench.score(version=2, format=format_).rows == 50
    assert read()["number"].to_list() == [number for number in range(150) if number % 10]


@pytest.mark.parametrize("format_", ["parquet", "delta"])
def test_a_part_written_before_the_kill_but_not_noted_is_there_once(
    bench: Bench, format_: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = outputs.DeltaFolder if format_ == "delta" else outputs.ParquetFolder
    write = kind.write

    def write_and_die(self: Any, number: int, rows: pl.DataFrame) -> None:
        write(self, number, rows)
        if number == 1:
            raise Killed

    monkeypatch.setattr(kind, "write", write_and_die)
    with pytest.raises(Killed):
        bench.score(format=format_)
    monkeypatch.setattr(kind, "write", write)
    read = (lambda: pl.read_delta(str(bench.out)).sort("number")) if format_ == "delta" else bench.scored
    first = read()["prediction_id"].to_list()
    bench.score(format=format_)
    rows = read()
    assert rows["number"].to_list() == [number for number in range(100) if number % 10]
    assert rows["prediction_id"].to_list()[: len(first)] == first


def test_all_rows_of_a_delta_table_are_replaced(bench: Bench) -> None:
    bench.score(format="delta")
    assert bench.score(version=2, format="delta", all_rows=True).rows == 100
    rows = pl.read_delta(str(bench.out))
    assert (rows.height, rows["model_version"].unique().to_list()) == (90, ["credit-risk/2"])


def test_all_gives_an_unfinished_run_up(bench: Bench) -> None:
    bench.dies_after = 60
    with pytest.raises(Killed):
        bench.score()
    bench.dies_after = None
    assert bench.score(version=2, all_rows=True).version == "credit-risk/2"
    assert bench.scored()["model_version"].unique().to_list() == ["credit-risk/2"]
    assert bench.scored().height == 90


def test_a_folder_that_holds_something_else_is_not_touched(bench: Bench) -> None:
    bench.out.mkdir()
    (bench.out / "mine.txt").write_text("keep")
    with pytest.raises(OutputTakenError, match="holds something already"):
        bench.score()
    with pytest.raises(OutputTakenError, match="it is a file"):
        bench.score(out=bench.out / "mine.txt")
    other = bench.root / "other"
    bench.score(out=other)
    with pytest.raises(OutputTakenError, match="a parquet folder, not delta"):
        bench.score(out=other, format="delta")
    bench.table = Table("rows.parquet", name="payments", entity=CUSTOMER, key="number")
    with pytest.raises(OutputTakenError, match="predictions of 'credit' for the table 'applications'"):
        bench.score(out=other, all_rows=True)


def test_predictions_that_are_gone_are_told_of(bench: Bench) -> None:
    bench.score()
    bench.out.rename(bench.root / "moved")
    with pytest.raises(OutputTakenError, match="are gone"):
        bench.score()
    assert bench.score(all_rows=True).rows == 100


def test_a_table_without_the_columns_leaves_nothing_behind(bench: Bench) -> None:
    pl.DataFrame({"number": [1], "customer_id": [2], "income": ["much"]}).write_parquet(bench.root / "rows.parquet")
    with pytest.raises(TableUnfitError, match="'income' is string, not float; it has no column 'term'"):
        bench.score()
    assert not bench.out.exists()
    bench.write(range(10))
    bench.table = Table("rows.parquet", name="other", entity=CUSTOMER, key="number")
    assert bench.score().rows == 10


def test_columns_to_keep_are_checked(bench: Bench) -> None:
    with pytest.raises(InvalidInputError, match="no column 'colour' to keep"):
        bench.score(keep=("colour",))
    bench.table = Table("rows.parquet", name="forecasts", entity=CUSTOMER, key="number")
    bench.write(range(10), prediction=pl.lit(1))
    with pytest.raises(InvalidInputError, match="'prediction' of 'forecasts' cannot stand beside"):
        bench.score(keep=("number", "prediction"))
    bench.score(keep=("number", "term"))
    assert bench.scored().columns[:2] == ["number", "term"]
    with pytest.raises(InvalidInputError, match="keeps the columns number, term"):
        bench.score(keep=("number",))
    bench.write(range(20), prediction=pl.lit(1))
    with pytest.raises(InvalidInputError, match="keeps the columns number, term"):
        bench.score(keep=("number",))


def test_rejected_rows_do_not_tell_sensitive_fields(bench: Bench) -> None:
    bench.score(sensitive=frozenset(["income"]))
    rejected = bench.rejected()
    assert "income" not in rejected.columns and "term" in rejected.columns
    [reason] = rejected["reasons"][0].to_list()
    assert reason["message"] == "income must be between 0 and 1000000"


def test_one_run_at_a_time_writes_into_a_folder(bench: Bench) -> None:
    with bench.service._holding(bench.out), pytest.raises(ConflictError, match="another process scores into"):
        bench.score()


def test_a_full_disk_is_told_of_and_the_next_run_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pl.DataFrame.write_parquet
    calls = []

    def fill_up(self: pl.DataFrame, *arguments: Any, **named: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        real(self, *arguments, **named)

    monkeypatch.setattr(pl.DataFrame, "write_parquet", fill_up)
    with pytest.raises(DiskFullError):
        bench.score()
    result = bench.score()
    assert (result.taken_up, result.rows) == (True, 100)
    assert bench.scored().height == 90


def test_prediction_ids_number_rows_in_order() -> None:
    rows = pl.Series([0, 1, 31, 32, 1024, 32**8 - 1])
    ids = number_predictions("p" * 18, rows).to_list()
    assert [one[18:] for one in ids] == ["00000000", "00000001", "0000000z", "00000010", "00000100", "zzzzzzzz"]
    assert datetime(2026, 3, 1, 12, tzinfo=UTC) == START
