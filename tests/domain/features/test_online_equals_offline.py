"""The law of the online store: what is looked up right after a materialisation is the point-in-time join at that time.

For views over tables, over views, of composite entities, aggregated over windows, in two versions at once, and with
pushed rows; on every store.
"""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.servers import redis

from flyball.core.clock import SimulatedClock
from flyball.core.durations import to_us
from flyball.core.settings import Settings
from flyball.domain.features.views import FeatureView
from flyball.workspace.workspace import Workspace

_PROJECT = """
import flyball as fb
import polars as pl

customer = fb.Entity("customer_id")
at_shop = fb.Entity("customer_id", "shop")
payments = fb.Table("payments.parquet", entity=customer, time="paid_at", known="seen_at")
visits = fb.Table("visits.parquet", entity=at_shop, time="at")


@fb.features(payments, ttl="3d")
def recent(rows: pl.LazyFrame) -> pl.LazyFrame:
    mean = pl.col("amount").rolling_mean_by("paid_at", window_size="2d", closed="both").over("customer_id")
    return rows.select("customer_id", "paid_at", recent_amount="amount", recent_mean=mean)


@fb.features(payments)
def scaled(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select("customer_id", "paid_at", scaled=pl.col("amount") * FACTOR)


@fb.features(recent)
def trend(rows: pl.LazyFrame) -> pl.LazyFrame:
    before = pl.col("recent_mean").shift(1).over("customer_id")
    return rows.select("customer_id", "paid_at", change=pl.col("recent_mean") - before)


@fb.features(visits, ttl="6d")
def last_visit(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select("customer_id", "shop", "at", visit_length="length")


spending = fb.aggregate(payments, {"amount": ["sum", "max", "count"]}, over=["1d", "4d"], name="spending", every="6h")


@fb.features(payments, ttl="5d")
def streamed(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select("customer_id", "paid_at", streamed="amount", held_us=pl.col("paid_at").dt.epoch("us"))
"""
_START = datetime(2026, 1, 1, tzinfo=UTC)
_LIFE = timedelta(days=100)
_CUSTOMERS, _SHOPS = (1, 2, 3), ("a", "b")
_HOUR = timedelta(hours=1)
_amounts = st.one_of(st.none(), st.floats(-100, 100, width=32), st.just(math.nan))
_payments = st.lists(
    st.tuples(st.sampled_from(_CUSTOMERS[:2]), st.integers(0, 240), st.integers(0, 60), _amounts),
    min_size=1,
    max_size=12,
)
_visits = st.lists(
    st.tuples(st.sampled_from(_CUSTOMERS[:2]), st.sampled_from(_SHOPS), st.integers(0, 240), _amounts),
    min_size=1,
    max_size=6,
)
_pushed = st.lists(st.tuples(st.sampled_from(_CUSTOMERS[:2]), st.integers(0, 240), st.integers(-100, 100)), max_size=3)


class Shop:
    """A project in two versions on one store; each example happens a hundred days after the one before."""

    def __init__(self, root: Path, online: str) -> None:
        self.root = root
        self.begin = _START
        self.pushed: dict[int, tuple[int, float]] = {}
        self._write([(1, 0, 0, 1.0)], [(1, "a", 0, 1.0)])
        self.clock = SimulatedClock(_START)
        self.versions = [self._open(factor, online) for factor in (2, 3)]

    def _open(self, factor: int, online: str) -> Workspace:
        (self.root / "project.py").write_text(_PROJECT.replace("FACTOR", str(factor)))
        chosen = Settings(online=online, online_timeout_seconds=5.0)
        return Workspace(self.root, self.root / ".flyball", clock=self.clock, settings=chosen)

    def begin_again(self, payments: list[Any], visits: list[Any]) -> None:
        self.begin += _LIFE
        self._write(payments, visits)

    def move_to(self, hour: float) -> None:
        self.clock.advance(self.begin + hour * _HOUR - self.clock.now())

    def push(self, customer: int, hour: int, amount: float) -> None:
        """Push a row of an hour that has been, and note the newest of each customer; of ties the last."""
        at = min(self.begin + hour * _HOUR, self.clock.now())
        self.clock.advance(timedelta(microseconds=1))  # a row that became known in the same microsecond would stay
        rows = {"customer_id": [customer], "paid_at": [at], "streamed": [amount], "held_us": [to_us(at)]}
        workspace = self.versions[0]
        workspace.features.push(workspace.project.view("streamed"), rows)
        if customer not in self.pushed or to_us(at) >= self.pushed[customer][0]:
            self.pushed[customer] = (to_us(at), amount)

    def _write(self, payments: list[Any], visits: list[Any]) -> None:
        self._put(
            "payments",
            pl.DataFrame(
                {
                    "customer_id": [row[0] for row in payments],
                    "paid_at": [self.begin + row[1] * _HOUR for row in payments],
                    "seen_at": [self.begin + (row[1] + row[2]) * _HOUR for row in payments],
                    "amount": pl.Series([row[3] for row in payments], dtype=pl.Float64),
                }
            ),
        )
        self._put(
            "visits",
            pl.DataFrame(
                {
                    "customer_id": [row[0] for row in visits],
                    "shop": [row[1] for row in visits],
                    "at": [self.begin + row[2] * _HOUR for row in visits],
                    "length": pl.Series([row[3] for row in visits], dtype=pl.Float64),
                }
            ),
        )

    def _put(self, name: str, frame: pl.DataFrame) -> None:
        frame.write_parquet(self.root / "unfinished")
        (self.root / "unfinished").replace(self.root / f"{name}.parquet")


@pytest.fixture(scope="module", params=["lmdb", "redis"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    root = tmp_path_factory.mktemp("law")
    if request.param == "lmdb":
        yield Shop(root, "lmdb")
        return
    with redis(tmp_path_factory.mktemp("redis")) as server:
        yield Shop(root, server.url)


def offline(workspace: Workspace, view: FeatureView) -> list[tuple[Any, ...]]:
    """Return the point-in-time join at the present, for every entity that may be there."""
    now = workspace.clock.now()
    entities = [(customer, shop) for customer in _CUSTOMERS for shop in _SHOPS]
    spine = pl.DataFrame(entities, ["customer_id", "shop"], orient="row")
    spine = spine.with_columns(now=pl.lit(now).cast(pl.Datetime("us", "UTC")))
    return workspace.features.join(view, spine, time="now", ttl=view.ttl).rows()


def online(workspace: Workspace, view: FeatureView) -> list[tuple[Any, ...]]:
    entities = {
        "customer_id": [customer for customer in _CUSTOMERS for _ in _SHOPS],
        "shop": [shop for _ in _CUSTOMERS for shop in _SHOPS],
    }
    found = workspace.get_online_features([view], {key: entities[key] for key in view.keys})
    return list(zip(*found.columns[len(view.keys) :], strict=True))


def same(one: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> bool:
    return repr(one) == repr(other)  # NaN is NaN, and not null


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payments=_payments, visits=_visits, hours=st.lists(st.integers(0, 300), min_size=1, max_size=3).map(sorted))
def test_what_is_looked_up_is_the_join_at_that_instant(
    shop: Shop, payments: list[Any], visits: list[Any], hours: list[int]
) -> None:
    shop.begin_again(payments, visits)
    for hour in hours:
        shop.move_to(hour)
        for workspace in shop.versions:
            for name in ("recent", "scaled", "trend", "last_visit", "spending"):
                view = workspace.project.view(name)
                workspace.features.materialise(view)
                assert same(online(workspace, view), offline(workspace, view)), name
        for workspace in shop.versions:  # one version's materialisation leaves the other's rows alone
            view = workspace.project.view("scaled")
            assert same(online(workspace, view), offline(workspace, view))


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payments=_payments, pushed=_pushed, hours=st.lists(st.integers(0, 300), min_size=2, max_size=3).map(sorted))
def test_with_pushed_rows_the_newest_of_both_counts(
    shop: Shop, payments: list[Any], pushed: list[tuple[int, int, int]], hours: list[int]
) -> None:
    shop.begin_again(payments, [(1, "a", 0, 1.0)])
    workspace = shop.versions[0]
    view = workspace.project.view("streamed")
    for round_, hour in enumerate(hours):
        shop.move_to(hour + round_)
        workspace.features.materialise(view)
        for customer, at, amount in pushed:
            shop.push(customer, at, float(amount))
        joined = dict(zip(_CUSTOMERS, offline(workspace, view)[:: len(_SHOPS)], strict=True))
        found = dict(zip(_CUSTOMERS, online(workspace, view)[:: len(_SHOPS)], strict=True))
        for customer in _CUSTOMERS:
            assert same([found[customer]], [newest(shop, customer, joined[customer])])


def newest(shop: Shop, customer: int, joined: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the newer of a joined row and the customer's pushed one, if that is within the view's five days."""
    if customer not in shop.pushed:
        return joined
    at_us, amount = shop.pushed[customer]
    if to_us(shop.clock.now()) - at_us > timedelta(days=5) // timedelta(microseconds=1):
        return joined
    return joined if joined[1] is not None and joined[1] > at_us else (amount, at_us)
