"""Leaks: each seeded kind is found by its name; clean data raises next to no suspicion."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from flyball.domain.data.tables import Table
from flyball.domain.features.labels import LabelRule
from flyball.domain.features.leaks import Leak, SplitData, find_leaks, find_table_leaks

START = datetime(2025, 1, 1, tzinfo=UTC)
ROWS = 2000


def clean(seed: int, *, is_binary: bool = True, rows: int = ROWS, customers: int = 250) -> pl.DataFrame:
    """Return honest data: a few features that say something, some noise, an entity, gaps, a harmless id."""
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "customer": rng.integers(0, customers, rows),
            "at": [START + timedelta(minutes=37 * number) for number in range(rows)],
            "age": rng.integers(18, 80, rows),
            "income": rng.lognormal(10, 0.5, rows).round(2),
            "ratio": rng.uniform(0, 1, rows),
            "score": rng.normal(size=rows),
            "region": rng.choice(["north", "south", "east", "west"], rows, p=[0.4, 0.3, 0.2, 0.1]),
            "product": rng.choice([f"p{number}" for number in range(30)], rows),
            "balance": np.where(rng.random(rows) < 0.15, np.nan, rng.normal(500, 80, rows)),
            "order_id": rng.permutation(rows) + 10_000,
            "due_at": [START + timedelta(minutes=37 * number, days=14) for number in range(rows)],
            "note": rng.choice(["call back", "sent by post", "asked for a discount", "", "came to the shop"], rows),
        }
    ).with_columns(pl.col("balance").fill_nan(None))
    signal = (
        1.2 * frame["score"].to_numpy()
        + 0.02 * (frame["age"].to_numpy() - 50)
        + (frame["region"] == "north").to_numpy()
    )
    noise = rng.normal(size=rows)
    if is_binary:
        return frame.with_columns(y=pl.Series((signal + 1.5 * noise > 0.4).astype(int)))
    return frame.with_columns(y=pl.Series(100 + 20 * signal + 25 * noise))


def split(frame: pl.DataFrame, *, at_random: bool = False, time: str | None = "at", test: float = 0.25) -> SplitData:
    held = np.zeros(frame.height, dtype=bool)
    count = int(frame.height * test)
    if at_random:
        held[np.random.default_rng(5).permutation(frame.height)[:count]] = True
    else:
        held[-count:] = True
    features = [name for name in frame.columns if name not in ("customer", "at", "y")]
    return SplitData(
        fit=frame.filter(~held),
        held_out=frame.filter(held),
        features=features,
        label="y",
        keys=["customer"],
        time=time if time in frame.columns else None,
        is_by_time=not at_random,
    )


def _scale(frame: pl.DataFrame) -> SplitData:
    return split(frame.with_columns((pl.col("income") - pl.col("income").mean()) / pl.col("income").std()))


def _unit(frame: pl.DataFrame) -> SplitData:
    column = pl.col("income")
    last = frame.height - 1
    frame = frame.with_columns(income=pl.when(pl.int_range(pl.len()) == last).then(10**6).otherwise(column))
    return split(frame.with_columns((column - column.min()) / (column.max() - column.min())))


def _fill(frame: pl.DataFrame) -> SplitData:
    return split(frame.with_columns(pl.col("balance").fill_null(pl.col("balance").mean())))


def _encode(frame: pl.DataFrame) -> SplitData:
    return split(frame.with_columns(product_mean=pl.col("y").mean().over("product")))


def _running(frame: pl.DataFrame) -> SplitData:
    total = pl.col("y").cum_sum() / pl.int_range(1, pl.len() + 1)
    return split(frame.with_columns(rate=total.over("customer")))


def _proxy(frame: pl.DataFrame) -> SplitData:
    rng = np.random.default_rng(9)
    paid = pl.Series(np.where(frame["y"].to_numpy() == 1, rng.uniform(10, 500, frame.height), 0.0))
    return split(frame.with_columns(collection_fee=paid))


def _copy(frame: pl.DataFrame) -> SplitData:
    return split(clean(3, is_binary=False).with_columns(log_price=(pl.col("y") + 1000).log()))


def _category(frame: pl.DataFrame) -> SplitData:
    status = pl.when(pl.col("y") == 1).then(pl.lit("closed")).otherwise(pl.lit("open"))
    return split(frame.with_columns(status=status))


def _gaps(frame: pl.DataFrame) -> SplitData:
    cancelled = pl.when((pl.col("y") == 1) | (pl.col("ratio") < 0.03)).then(pl.col("income"))
    return split(frame.with_columns(refund=cancelled))


def _identifier(frame: pl.DataFrame) -> SplitData:
    rng = np.random.default_rng(4)
    order = np.argsort(frame["y"].to_numpy() + rng.normal(scale=0.8, size=frame.height))
    ids = np.empty(frame.height, dtype=int)
    ids[order] = np.arange(frame.height)
    return split(frame.with_columns(case_id=pl.Series(ids)))


def _text(frame: pl.DataFrame) -> SplitData:
    words = pl.when(pl.col("y") == 1).then(pl.lit(" sent to lawyer ")).otherwise(pl.lit(" all fine "))
    return split(frame.with_columns(comment=pl.col("note") + words + pl.col("order_id").cast(pl.String)))


def _duplicates(frame: pl.DataFrame) -> SplitData:
    data = split(frame)
    return data._replace(held_out=pl.concat([data.held_out, data.fit.head(60)]))


def _groups(frame: pl.DataFrame) -> SplitData:
    rng = np.random.default_rng(2)
    habit = rng.random(250)
    chosen = (rng.random(frame.height) < habit[frame["customer"].to_numpy()] ** 3).astype(int)
    return split(frame.with_columns(y=pl.Series(chosen)), at_random=True)


def _future_rows(frame: pl.DataFrame) -> SplitData:
    wave = np.sin(np.arange(frame.height) / 60) * 60 + np.random.default_rng(1).normal(scale=20, size=frame.height)
    return split(frame.with_columns(y=pl.Series(wave)), at_random=True)


def _newer(frame: pl.DataFrame) -> SplitData:
    return split(frame.with_columns(closed_at=pl.col("at") + pl.duration(hours=30)))


def _next(frame: pl.DataFrame) -> SplitData:
    return split(frame.with_columns(other_income=pl.col("income").shift(-1).over("customer")))


def _sorted(frame: pl.DataFrame) -> SplitData:
    return split(frame.sort("y").drop("at"), at_random=True, time=None)


SEEDED: list[tuple[Callable[[pl.DataFrame], SplitData], str, tuple[str, ...]]] = [
    (_scale, "fitted-before-split", ("income",)),
    (_unit, "fitted-before-split", ("income",)),
    (_fill, "fitted-before-split", ("balance",)),
    (_encode, "target-encoding", ("product_mean",)),
    (_running, "target-encoding", ("rate",)),
    (_proxy, "proxy", ("collection_fee",)),
    (_copy, "proxy", ("log_price",)),
    (_category, "proxy", ("status",)),
    (_gaps, "missing-tells", ("refund",)),
    (_identifier, "identifier", ("case_id",)),
    (_text, "text-tells", ("comment",)),
    (_duplicates, "duplicates", ()),
    (_groups, "groups", ("customer",)),
    (_future_rows, "future-rows", ()),
    (_newer, "newer-than-asked", ("closed_at",)),
    (_next, "future-value", ("other_income",)),
    (_sorted, "row-order", ()),
]


@pytest.mark.parametrize(("seed_leak", "kind", "columns"), SEEDED, ids=lambda value: getattr(value, "__name__", None))
def test_a_seeded_leak_is_found_by_its_kind(
    seed_leak: Callable[[pl.DataFrame], SplitData], kind: str, columns: tuple[str, ...]
) -> None:
    found = find_leaks(seed_leak(clean(7)))
    assert (kind, columns) in [(leak.kind, leak.columns) for leak in found], found
    assert len(found) <= 2, found


def test_clean_sets_raise_at_most_one_suspicion_in_twenty() -> None:
    suspicions: list[tuple[int, Leak]] = []
    for seed in range(20):
        frame = clean(seed + 100, is_binary=seed % 2 == 0, rows=[400, 2000, 5000][seed % 3])
        data = split(frame, at_random=seed % 4 == 3, time="at" if seed % 5 else None)
        suspicions.extend((seed, leak) for leak in find_leaks(data))
    assert len(suspicions) <= 1, suspicions


def test_scaling_by_the_rows_to_fit_is_no_leak() -> None:
    data = split(clean(1))
    mean, std = data.fit["income"].mean(), data.fit["income"].std()
    scaled = [frame.with_columns((pl.col("income") - mean) / std) for frame in (data.fit, data.held_out)]
    assert find_leaks(data._replace(fit=scaled[0], held_out=scaled[1])) == []


@pytest.mark.parametrize("renamed", ["customer", "at", "region", "product", "note", "balance", "order_id", "y"])
def test_columns_may_have_the_names_that_are_used_on_the_way(renamed: str) -> None:
    for name in ("count", "value", "g", "f", "y", "word", "rows"):
        if name == "y" or renamed == name:
            continue
        data = split(clean(1, rows=400))
        other = {renamed: name}
        data = data._replace(
            fit=data.fit.rename(other),
            held_out=data.held_out.rename(other),
            features=[other.get(feature, feature) for feature in data.features],
            label=other.get(data.label, data.label),
            keys=[other.get(key, key) for key in data.keys],
            time=None if data.time is None else other.get(data.time, data.time),
        )
        assert find_leaks(data) == []


def test_few_rows_prove_nothing() -> None:
    assert find_leaks(split(clean(1, rows=40))) == []


def test_rows_that_were_recorded_later_than_they_count_are_found() -> None:
    payments = pl.DataFrame(
        {
            "paid_at": [START + timedelta(days=n) for n in range(100)],
            "updated_at": [str((START + timedelta(days=n + n % 9)).replace(tzinfo=None)) for n in range(100)],
            "created_at": [START + timedelta(days=n - 1) for n in range(100)],
        }
    )
    table = Table("p.parquet", time="paid_at", name="payments")
    [leak] = find_table_leaks([table], {"payments": payments.lazy()})
    assert (leak.kind, leak.columns) == ("known-later", ("payments.updated_at",))
    assert "by up to 8" in leak.message
    declared = Table("p.parquet", time="paid_at", known="updated_at", name="payments")
    assert find_table_leaks([declared], {"payments": payments.lazy()}) == []


def test_labels_that_are_older_than_what_was_asked_are_found() -> None:
    asked = pl.DataFrame({"id": range(100), "at": [START] * 100})
    told = pl.DataFrame({"id": range(100), "seen": [START + timedelta(days=n - 5) for n in range(100)], "y": 1})
    rule = LabelRule(
        spine="asked", table="told", column="y", match="key", keys=("id",), spine_time="at", label_time="seen"
    )
    [leak] = find_table_leaks([], {"asked": asked.lazy(), "told": told.lazy()}, rule)
    assert leak.kind == "label-before"
    assert leak.message.startswith("5 of 100 labels")
