"""A view over a table that is taken in parts says the same as over the table as a whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flyball.domain.data.tables import Entity, Table
from flyball.domain.features.histories import FeatureFunctionError, compute_history
from flyball.domain.features.parts import PartedHistory
from flyball.domain.features.views import FeatureView

_START = datetime(2026, 1, 1, tzinfo=UTC)
_END = _START + timedelta(days=99)


def _times(rng: np.random.Generator, rows: int) -> pl.Expr:
    return pl.lit(_START).dt.cast_time_unit("us") + pl.duration(hours=pl.Series(rng.integers(0, 24 * 60, rows)))


@pytest.fixture
def rows() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "customer": rng.integers(0, 300, 6_000),
            "shop": rng.choice(["a", "b", None], 6_000).tolist(),
            "amount": rng.normal(size=6_000),
        }
    )
    frame = frame.with_columns(at=_times(rng, 6_000)).with_columns(
        known=pl.col("at") + pl.duration(hours=pl.Series(rng.integers(0, 90, 6_000)))
    )
    return frame.sort("at")


@pytest.fixture
def spine() -> pl.DataFrame:
    rng = np.random.default_rng(1)
    frame = pl.DataFrame({"customer": rng.integers(0, 400, 900), "shop": rng.choice(["a", "b", None], 900).tolist()})
    return frame.with_columns(asked=_times(rng, 900))


class Scratch:
    """Gives folders and counts those that are left."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def __call__(self) -> Iterator[Path]:
        folder = self.root / "parts"
        folder.mkdir()
        yield folder
        assert not list(folder.rglob("*.parquet"))


def _view(*keys: str) -> FeatureView:
    table = Table("rows.parquet", entity=Entity(*keys), time="at", known="known", name="payments")

    def spending(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.select(*keys, "at", "known", total=pl.col("amount").cum_sum().over(keys))

    return FeatureView("spending", table, spending, None)


@pytest.mark.parametrize("keys", [("customer",), ("customer", "shop")])
def test_parts_say_what_the_whole_says(
    rows: pl.DataFrame, spine: pl.DataFrame, keys: tuple[str, ...], tmp_path: Path
) -> None:
    view, asked = _view(*keys), spine.select(*keys, "asked")
    whole = compute_history(view, rows.lazy()).join(asked, time="asked", as_of=_END, ttl=timedelta(days=9))
    parts = PartedHistory(view, rows.lazy(), 7, Scratch(tmp_path))
    found = parts.join(asked, time="asked", as_of=_END, ttl=timedelta(days=9))
    assert whole["total"].null_count() < whole.height / 2 + 300
    assert found.columns == whole.columns == parts.columns.names
    assert (found["total"] - whole["total"]).abs().max() < 1e-9  # type: ignore[operator]
    assert (found["total"].is_null() == whole["total"].is_null()).all()


def test_entities_that_no_row_is_about_have_nulls(rows: pl.DataFrame, tmp_path: Path) -> None:
    parts = PartedHistory(_view("customer"), rows.lazy(), 3, Scratch(tmp_path))
    asked = pl.DataFrame({"customer": [1_000, 1_001], "asked": [_END, _END]}).cast({"asked": rows.schema["at"]})
    assert parts.join(asked, time="asked", as_of=_END).rows() == [(None,)] * 2


def test_a_function_over_several_entities_is_refused_where_parts_would_change_it(
    rows: pl.DataFrame, tmp_path: Path
) -> None:
    view = _view("customer")
    view.function = lambda rows: rows.select("customer", "at", share=pl.col("amount") / pl.col("amount").cum_sum())
    with pytest.raises(FeatureFunctionError, match="'spending' makes an entity's features from rows of other entities"):
        PartedHistory(view, rows.lazy(), 3, Scratch(tmp_path))
