"""The simulated year of credit holds the surprises that its description promises."""

import importlib.util
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

EXAMPLE = Path(__file__).parents[2] / "examples" / "credit"
LIMIT_S = 3.0
"""What writing a year and a half may take."""


@pytest.fixture(scope="module")
def simulate() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("simulate_credit", EXAMPLE / "simulate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def folder(simulate: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("credit")
    simulate.write(made)
    return made


@pytest.fixture(scope="module")
def applications(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "applications.parquet")


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "outcomes.parquet")


def test_the_same_seed_writes_the_same_rows_and_another_seed_others(simulate: ModuleType, tmp_path: Path) -> None:
    begin = time.process_time()
    simulate.write(tmp_path / "a", seed=11)
    assert time.process_time() - begin < LIMIT_S
    simulate.write(tmp_path / "b", seed=11)
    simulate.write(tmp_path / "c", seed=12)
    first, same, other = (pl.read_parquet(tmp_path / name / "applications.parquet") for name in "abc")
    assert first.equals(same)
    assert not first.equals(other)
    assert pl.read_delta(str(tmp_path / "a" / "payments")).equals(pl.read_delta(str(tmp_path / "b" / "payments")))


def test_incomes_shift_in_may(applications: pl.DataFrame) -> None:
    april, may = (_month(applications, number)["income"].median() for number in (4, 5))
    assert isinstance(april, float)
    assert isinstance(may, float)
    assert may < 0.9 * april


def test_ten_days_of_august_are_broken_inside_and_outside_the_expectation(applications: pl.DataFrame) -> None:
    outside = applications.filter(~pl.col("income").is_between(1_000, 1_000_000))
    assert outside.height > 200
    assert outside["applied_at"].min() >= datetime(2025, 8, 4, tzinfo=UTC)  # type: ignore[operator]
    assert outside["applied_at"].max() < datetime(2025, 8, 14, tzinfo=UTC)  # type: ignore[operator]
    days = pl.col("applied_at").is_between(datetime(2025, 8, 4, tzinfo=UTC), datetime(2025, 8, 14, tzinfo=UTC))
    broken = applications.filter(days, pl.col("income") < 1_000_000)
    assert broken["income"].median() < 6_000  # type: ignore[operator]


def test_outcomes_come_late_and_are_corrected(applications: pl.DataFrame, outcomes: pl.DataFrame) -> None:
    first = outcomes.group_by("application_id").first()
    both = applications.join(first, on="application_id")
    delay = (both["observed_at"] - both["applied_at"]).dt.total_days()
    assert delay.min() == 30
    assert delay.max() <= 60  # type: ignore[operator]
    swapped = outcomes.filter(pl.col("observed_at").dt.date() == datetime(2025, 6, 18).date())
    assert swapped["defaulted"].mean() > 0.7  # type: ignore[operator]
    assert _latest(outcomes)["defaulted"].mean() < 0.2  # type: ignore[operator]


def test_some_payments_become_known_long_after_they_were_made(folder: Path) -> None:
    payments = pl.read_delta(str(folder / "payments"))
    lag = payments["recorded_at"] - payments["paid_at"]
    assert lag.min() >= timedelta(0)  # type: ignore[operator]
    assert 0.03 < (lag > timedelta(days=3)).mean() < 0.2  # type: ignore[operator]


@pytest.mark.slow
def test_a_model_that_is_never_retrained_decays_in_october_and_a_new_one_recovers(
    folder: Path, applications: pl.DataFrame, outcomes: pl.DataFrame
) -> None:
    rows = _with_features(applications, pl.read_delta(str(folder / "payments"))).join(
        _latest(outcomes), on="application_id", maintain_order="left"
    )
    rows = rows.filter(pl.col("income").is_between(1_000, 1_000_000))
    old = _fit(rows.filter(pl.col("applied_at") < datetime(2024, 12, 1, tzinfo=UTC)))
    new = _fit(_months_between(rows, 10, 10))
    assert _auc(old, _months_between(rows, 1, 6)) > 0.78
    assert _auc(old, _months_between(rows, 11, 12)) < 0.60
    assert _auc(new, _months_between(rows, 11, 12)) > 0.78


def _month(rows: pl.DataFrame, number: int) -> pl.DataFrame:
    return _months_between(rows, number, number)


def _months_between(rows: pl.DataFrame, first: int, last: int) -> pl.DataFrame:
    at = pl.col("applied_at").dt
    return rows.filter(at.year() == 2025, at.month().is_between(first, last))


def _latest(outcomes: pl.DataFrame) -> pl.DataFrame:
    return outcomes.sort("observed_at").group_by("application_id").last()


def _with_features(applications: pl.DataFrame, payments: pl.DataFrame) -> pl.DataFrame:
    recent = payments.sort("paid_at").rolling("paid_at", period="180d", group_by="customer_id")
    view = recent.agg((pl.col("days_late") > 2).mean().alias("late_share")).sort("paid_at")
    joined = applications.sort("applied_at").join_asof(
        view,
        left_on="applied_at",
        right_on="paid_at",
        by="customer_id",
        tolerance="180d",
        check_sortedness=False,
    )
    burden = pl.col("amount") / pl.col("term_months") * 12 / pl.col("income")
    return joined.with_columns(burden.alias("burden"), (pl.col("channel") == "web").cast(pl.Int8).alias("web"))


_FEATURES = ["income", "amount", "term_months", "age", "burden", "late_share", "web"]


def _fit(rows: pl.DataFrame) -> HistGradientBoostingClassifier:
    model = HistGradientBoostingClassifier(max_iter=100, max_leaf_nodes=15, learning_rate=0.06, random_state=0)
    return model.fit(rows.select(_FEATURES).to_numpy(), rows["defaulted"].to_numpy())


def _auc(model: HistGradientBoostingClassifier, rows: pl.DataFrame) -> float:
    chance = model.predict_proba(rows.select(_FEATURES).to_numpy())[:, 1]
    return float(roc_auc_score(np.asarray(rows["defaulted"]), chance))
