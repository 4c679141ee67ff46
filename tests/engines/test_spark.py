"""Views computed on a real Spark of this machine say what they say without it, value by value."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from flyball.domain.data.tables import Entity, Table
from flyball.domain.features.histories import FeatureFunctionError, compute_history
from flyball.domain.features.views import FeatureView
from flyball.workspace.workspace import Workspace
from tests.peers import needs_spark

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
START = datetime(2026, 1, 1, tzinfo=UTC)
GRADES = ["low", "high"]
LATER = START + timedelta(days=400)


@pytest.fixture(scope="module")
def histories() -> Iterator[Any]:
    needs_spark()
    from flyball.engines.spark import SparkHistories

    made = SparkHistories({"spark.master": "local[2]", "spark.driver.memory": "1g"}, parts=3)
    yield made
    made.session().stop()


@pytest.fixture
def scratch(tmp_path: Path) -> Any:
    @contextmanager
    def give() -> Iterator[Path]:
        folder = tmp_path / "scratch"
        folder.mkdir()
        yield folder
        shutil.rmtree(folder)

    return give


def amount_of(number: int) -> float | None:
    if number % 13 == 0:
        return None
    return float("nan") if number % 17 == 0 else number / 7


def make_rows() -> pl.DataFrame:
    """Every type a table may have, nulls, rows that became known late, and several rows at one time."""
    count = 400
    numbers = pl.int_range(count, eager=True)
    return pl.DataFrame(
        {
            "customer": numbers * 7 % 23,
            "shop": pl.Series([None if number % 11 == 0 else f"é{number % 3}" for number in range(count)]),
            "at": [START + timedelta(hours=number // 2 * 5) for number in range(count)],
            "known": [START + timedelta(hours=number // 2 * 5 + number % 5 * 40) for number in range(count)],
            "amount": [
                None if number % 13 == 0 else float("nan") if number % 17 == 0 else number / 7
                for number in range(count)
            ],
            "count": (numbers % 200).cast(pl.UInt8),
            "big": numbers.cast(pl.UInt64) + 2**63,
            "grade": pl.Series(
                [("low", "high")[number % 2] for number in range(count)], dtype=pl.Enum(["low", "high"])
            ),
            "day": [date(2026, 1, 1 + number % 28) for number in range(count)],
            "flag": numbers % 2 == 0,
        }
    )


def make_view(*keys: str) -> FeatureView:
    table = Table("rows.parquet", entity=Entity(*keys), time="at", known="known", name="payments")

    def spending(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.select(
            *keys,
            "at",
            total=pl.col("amount").fill_nan(0).cum_sum().over(keys),
            last=pl.col("amount"),
            count=pl.col("count"),
            big=(pl.col("big") - 2**63).cast(pl.Int64),
            grade=pl.col("grade"),
            day=pl.col("day"),
            flag=pl.col("flag"),
        )

    return FeatureView("spending", table, spending, timedelta(days=30))


@pytest.mark.parametrize("keys", [("customer",), ("customer", "shop")])
def test_spark_says_what_this_process_says(histories: Any, scratch: Any, keys: tuple[str, ...]) -> None:
    rows, view = make_rows(), make_view(*keys)
    asked = rows.select(
        (pl.col("customer") + pl.int_range(pl.len()) % 2).alias("customer"),
        "shop",
        (pl.col("at") + pl.duration(hours=7)).alias("asked"),
    ).select(*keys, "asked")
    options: dict[str, Any] = {"time": "asked", "as_of": LATER, "ttl": timedelta(days=30)}
    here = compute_history(view, rows.lazy()).join(asked, **options)
    there = histories.open(view, rows.lazy(), scratch).join(asked, **options)
    assert here["last"].null_count() < here.height
    assert_frame_equal(there, here, check_exact=True)


def test_questions_about_nobody_are_answered_with_nulls(histories: Any, scratch: Any) -> None:
    asked = pl.DataFrame({"customer": [10_000], "asked": [LATER]})
    found = histories.open(make_view("customer"), make_rows().lazy(), scratch)
    assert found.join(asked, time="asked", as_of=LATER).row(0) == (None,) * 7


def test_a_function_over_several_entities_is_refused(histories: Any, scratch: Any) -> None:
    view = make_view("customer")
    view.function = lambda rows: rows.select("customer", "at", share=pl.col("count").cum_sum())
    with pytest.raises(FeatureFunctionError, match="rows of other entities"):
        histories.open(view, make_rows().lazy(), scratch)


def test_the_views_of_credit_are_equal(tmp_path: Path) -> None:
    needs_spark()
    project = tmp_path / "credit"
    shutil.copytree(
        ROOT / "examples" / "credit", project, ignore=shutil.ignore_patterns("data", ".flyball", "__pycache__")
    )
    subprocess.run([sys.executable, "simulate.py"], cwd=project, check=True, capture_output=True, timeout=300)
    found = {}
    for engine in ("local", "spark"):
        (project / "flyball.toml").write_text(f'engine = "{engine}"\n[spark]\n"spark.sql.shuffle.partitions" = "4"\n')
        workspace = Workspace(project, project / engine)
        plan = workspace.packages.plan(workspace.project.endpoint("credit"))
        assert plan is not None
        as_of = datetime(2025, 3, 1, tzinfo=UTC)
        found[engine] = workspace.features.build_training_set(plan, as_of=as_of).frame
    assert found["local"].height > 1_000
    assert found["local"]["late_share"].null_count() < found["local"].height
    assert_frame_equal(found["spark"], found["local"], check_exact=True)
