"""The service on real files: training sets from snapshots, online rows that say the same as history."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyball.core.clock import SimulatedClock
from flyball.domain.data.expectations import column
from flyball.domain.data.reports import ExpectationsFailedError
from flyball.domain.data.service import DataService
from flyball.domain.data.tables import Entity, Table
from flyball.domain.features.aggregates import AggregatedView, aggregate
from flyball.domain.features.histories import FeatureFunctionError
from flyball.domain.features.online import NotMaterialisedError
from flyball.domain.features.plans import plan_training_set
from flyball.domain.features.point_in_time import USABLE, join_point_in_time
from flyball.domain.features.service import FeatureService
from flyball.domain.features.tiles import tiles_of
from flyball.domain.features.training_sets import TrainingSet, TrainingSetOperation
from flyball.domain.features.views import FeatureView, features, request_features
from flyball.domain.journal.service import Journal
from flyball.storage.blobs import LocalBlobStore
from flyball.storage.db import Database
from flyball.storage.online.lmdb import LmdbOnlineStore
from flyball.storage.online.memory import MemoryOnlineStore
from flyball.storage.online.port import OnlineRow

_START = datetime(2026, 1, 1, tzinfo=UTC)
customer = Entity("customer_id")


def _day(number: float) -> datetime:
    return _START + timedelta(days=number)


class Home(NamedTuple):
    """A project's folder with the services that work on it."""

    root: Path
    clock: SimulatedClock
    journal: Journal
    online: LmdbOnlineStore | MemoryOnlineStore
    service: FeatureService

    def write(self, name: str, rows: Mapping[str, Any]) -> None:
        unfinished = self.root / f".{name}.tmp"
        pl.DataFrame(rows).write_parquet(unfinished)
        unfinished.replace(self.root / f"{name}.parquet")

    def events(self) -> list[dict[str, Any]]:
        return [event.data for event in self.journal.list_events(kinds=["features.view.materialised"])]


def _open(root: Path, *, online: LmdbOnlineStore | MemoryOnlineStore | None = None) -> Home:
    clock = SimulatedClock(_day(100))
    db = Database(f"sqlite:///{root}/home/flyball.db")
    journal = Journal(db, clock)
    data = DataService(db, journal, clock, LocalBlobStore(root / "home/blobs"), root)
    online = online or LmdbOnlineStore(root / "home/online")
    return Home(root, clock, journal, online, FeatureService(db, journal, clock, data, online, root))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = _open(tmp_path)
    made.write(
        "payments",
        {
            "customer_id": [1, 1, 2, 1],
            "paid_at": [_day(1), _day(4), _day(5), _day(9)],
            "days": [10, 40, 50, 90],
        },
    )
    return made


def _table(name: str, **declared: Any) -> Table:
    return Table(f"{name}.parquet", name=name, **declared)


def _view(function: Callable[[pl.LazyFrame], pl.LazyFrame] | None = None, **declared: Any) -> FeatureView:
    table = _table("payments", entity=customer, time="paid_at", **declared)

    def behaviour(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.select("customer_id", "paid_at", total=pl.col("days").cum_sum().over("customer_id"))

    return FeatureView("behaviour", table, function or behaviour, timedelta(days=30))


def _read(home: Home, view: FeatureView, at: datetime, *keys: int) -> list[Any]:
    found = home.service.read_online(view.name, home.service.view_version(view), view.ttl, [(key,) for key in keys], at)
    return [None if row is None else (row.event_time, row.values) for row in found]


def test_online_rows_follow_time_without_running_the_function_again(home: Home) -> None:
    calls = []

    def behaviour(rows: pl.LazyFrame) -> pl.LazyFrame:
        calls.append(1)
        return rows.select("customer_id", "paid_at", last="days")

    view = _view(behaviour)
    first = home.service.materialise(view, _day(4))
    assert (first.written, first.reason) == (1, "first")
    assert _read(home, view, _day(4), 1, 2) == [(_day(4), {"last": 40}), None]
    ran = len(calls)
    assert home.service.materialise(view, _day(4.5)).reason == ""
    assert (home.service.materialise(view, _day(9)).written, len(calls)) == (2, ran)
    assert _read(home, view, _day(9), 1, 2) == [(_day(9), {"last": 90}), (_day(5), {"last": 50})]
    assert [event["reason"] for event in home.events()] == ["first", "time"]


def test_materialising_again_or_for_the_past_changes_nothing(home: Home) -> None:
    view = _view()
    home.service.materialise(view, _day(9))
    again, past = home.service.materialise(view, _day(9)), home.service.materialise(view, _day(2))
    assert (again.written, again.reason, past.written, past.reason) == (0, "", 0, "")
    assert _read(home, view, _day(9), 1) == [(_day(9), {"total": 140})]
    assert len(home.events()) == 1


def test_another_process_goes_on_where_the_first_one_stopped(home: Home, tmp_path: Path) -> None:
    view = _view()
    home.service.materialise(view, _day(4))
    other = _open(tmp_path)
    assert other.service.materialise(view, _day(9)).reason == "time"
    assert _read(other, view, _day(9), 1, 2) == [(_day(9), {"total": 140}), (_day(5), {"total": 50})]
    assert home.service.materialise(view, _day(9)).written == 0


def test_a_change_of_the_table_makes_the_online_rows_what_the_new_history_says(home: Home) -> None:
    view = _view()
    home.service.materialise(view, _day(9))
    home.write("payments", {"customer_id": [1, 3], "paid_at": [_day(1), _day(8)], "days": [11, 33]})
    changed = home.service.materialise(view, _day(9))
    assert (changed.written, changed.reason) == (3, "source")  # 1 and 3 have other rows, 2 has none
    assert _read(home, view, _day(9), 1, 2, 3) == [(_day(1), {"total": 11}), None, (_day(8), {"total": 33})]


def test_a_write_that_failed_is_made_up_for(tmp_path: Path) -> None:
    class Breaking(MemoryOnlineStore):
        fails = True

        def replace(self, view: str, rows: Any) -> int:
            if self.fails:
                super().write(view, rows[:1])
                raise OSError("unplugged")
            return super().replace(view, rows)

    online = Breaking()
    home = _open(tmp_path, online=online)
    home.write("payments", {"customer_id": [1, 2], "paid_at": [_day(1), _day(2)], "days": [1, 2]})
    view = _view()
    with pytest.raises(OSError, match="unplugged"):
        home.service.materialise(view, _day(9))
    assert home.events() == []
    online.fails = False
    home.service.materialise(view, _day(9))
    assert _read(home, view, _day(9), 1, 2) == [(_day(1), {"total": 1}), (_day(2), {"total": 2})]


def test_a_view_that_fails_leaves_the_online_rows_as_they_were(home: Home) -> None:
    view = _view(lambda rows: rows.select("customer_id", "paid_at", last=pl.col("days").cast(pl.Int64, strict=True)))
    home.service.materialise(view, _day(9))
    home.write("payments", {"customer_id": [1], "paid_at": [_day(20)], "days": [5]})
    broken = _view(lambda rows: rows.select("customer_id", "paid_at", last="minutes"))
    with pytest.raises(FeatureFunctionError, match="'behaviour' failed: ColumnNotFoundError"):
        home.service.materialise(broken, _day(21))
    assert _read(home, view, _day(9), 1) == [(_day(9), {"last": 90})]


def test_the_version_follows_code_and_declaration(home: Home) -> None:
    def other(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.select("customer_id", "paid_at", total=pl.col("days").cum_max().over("customer_id"))

    versions = {home.service.view_version(view) for view in (_view(), _view(other), _view(known="seen_at"))}
    assert len(versions) == 3
    assert home.service.view_version(_view()) in versions
    adopted = _view(other)
    home.service.adopt_version(adopted, "recorded")
    assert home.service.view_version(adopted) == "recorded"


def test_requests_are_completed_in_their_order(home: Home) -> None:
    view = _view()
    home.service.materialise(view, _day(9))
    requests: list[dict[str, Any]] = [{"customer_id": 2}, {"customer_id": 7}, {"customer_id": None}, {"customer_id": 1}]
    done = home.service.complete(requests, [home.service.view_ref(view)], _day(36))
    assert done.frame.schema == pl.Schema({"total": pl.Int64})
    assert done.frame["total"].to_list() == [None, None, None, 140]
    assert done.event_times == [{}, {}, {}, {"behaviour": _day(9)}]
    assert done.missing == {"behaviour": 3}
    assert home.service.complete(requests, [], _day(36)).frame.shape == (4, 0)


def test_the_ttl_counts_at_the_time_of_the_request_and_the_future_is_unknown(home: Home) -> None:
    view = _view()
    home.service.materialise(view, _day(9))
    assert _read(home, view, _day(39), 1) == [(_day(9), {"total": 140})]
    assert _read(home, view, _day(39) + timedelta(microseconds=1), 1) == [None]
    assert _read(home, view, _day(8.9), 1) == [None]


def test_each_request_may_be_about_its_own_time(home: Home) -> None:
    view = _view()
    home.service.materialise(view, _day(9))
    done = home.service.complete([{"customer_id": 1}] * 2, [home.service.view_ref(view)], [_day(39), _day(40)])
    assert done.frame["total"].to_list() == [140, None]


def test_a_view_that_was_never_materialised_is_named(home: Home) -> None:
    with pytest.raises(NotMaterialisedError, match="version 0 of feature view 'behaviour' has no online rows"):
        home.service.complete([{"customer_id": 1}], [("behaviour", "0", None, ("customer_id",))], _day(9))


_rows = st.lists(
    st.tuples(st.integers(1, 2), st.integers(0, 9), st.integers(0, 9), st.floats(-1, 1, width=32)),
    min_size=1,
    max_size=10,
)


@settings(deadline=None, max_examples=40)
@given(rows=_rows, has_known=st.booleans(), instants=st.lists(st.integers(0, 14), min_size=1, max_size=4).map(sorted))
def test_offline_and_online_say_the_same_for_the_same_instant(
    rows: list[tuple[int, int, int, float]], has_known: bool, instants: list[int]
) -> None:
    def behaviour(rows: pl.LazyFrame) -> pl.LazyFrame:
        mean = pl.col("amount").rolling_mean_by("paid_at", window_size="3d", closed="both").over("customer_id")
        return rows.select("customer_id", "paid_at", "amount", mean=mean)

    table = _table("payments", entity=customer, time="paid_at", known="seen_at" if has_known else None)
    view = FeatureView("behaviour", table, behaviour, timedelta(days=4))
    spine = pl.DataFrame({"customer_id": [1, 2, 3]})
    with TemporaryDirectory() as folder:
        home = _open(Path(folder), online=MemoryOnlineStore())
        names = ("customer_id", "paid_at", "seen_at", "amount")
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        home.write("payments", columns | {name: [_day(day) for day in columns[name]] for name in names[1:3]})
        for instant in map(_day, instants):
            home.service.materialise(view, instant)
            online = home.service.complete(
                [{"customer_id": key} for key in (1, 2, 3)], [home.service.view_ref(view)], instant
            )
            history = home.service.history(view, _day(99)).collect()
            offline = join_point_in_time(
                spine.with_columns(at=pl.lit(instant).cast(pl.Datetime("us", "UTC"))),
                history,
                by=["customer_id"],
                time="at",
                feature_time="paid_at",
                known=USABLE,
                columns=["amount", "mean"],
                ttl=view.ttl,
            )
            assert online.frame.equals(offline.select("amount", "mean"))


class Context:
    """What a run gives to operations."""

    run_id = "run-1"
    actor = "user/ana"

    def __init__(self, service: FeatureService, as_of: datetime) -> None:
        self._service = service
        self.as_of = as_of
        self.notes: list[tuple[str, Any]] = []

    def service(self, type_: type[Any]) -> Any:
        assert type_ is FeatureService
        return self._service

    def note(self, kind: str, value: Any) -> None:
        self.notes.append((kind, value))


applications = _table("applications", entity=customer, time="applied_at")
applications.expect(column("amount").at_most(100), column("amount").at_least(0).or_quarantine())
payments = _table("payments", entity=customer, time="paid_at")
outcomes = _table("outcomes", entity=customer, time="observed_at")


@features(payments, ttl="30d")
def last_payment(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select("customer_id", "paid_at", last_days="days")


@request_features(applications)
def doubled(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(twice=pl.col("amount") * 2)


_PLAN = plan_training_set(applications, label=outcomes["defaulted"], features=[last_payment, doubled])


def _write_history(home: Home, amounts: list[float]) -> None:
    days = [2, 5, 6, 20]
    home.write(
        "applications", {"customer_id": [1, 1, 2, 2], "applied_at": [_day(day) for day in days], "amount": amounts}
    )
    home.write(
        "outcomes",
        {"customer_id": [1, 1, 2, 2], "observed_at": [_day(day) for day in (3, 7, 8, 30)], "defaulted": [0, 1, 0, 1]},
    )


def _train(home: Home, as_of: datetime) -> TrainingSet:
    return home.service.build_training_set(_PLAN, as_of=as_of)


def test_a_training_set_comes_from_snapshots_and_says_which(home: Home) -> None:
    _write_history(home, [10.0, 20.0, 30.0, 40.0])
    context = Context(home.service, _day(25))
    data = TrainingSetOperation(_PLAN).run(context, {})
    assert data.frame.rows() == [
        (1, _day(2), 10.0, 10, 20.0, 0),
        (1, _day(5), 20.0, 40, 40.0, 1),
        (2, _day(6), 30.0, 50, 60.0, 0),
    ]
    assert set(data.lineage.snapshots) == {"applications", "payments", "outcomes"}
    assert data.lineage.views == {"last_payment": home.service.view_version(last_payment)}
    assert data.lineage.ttls == {"last_payment": timedelta(days=30)}
    assert [kind for kind, _ in context.notes] == ["snapshot", "snapshot", "snapshot", "view", "training_set"]


def test_quarantined_rows_are_left_out_and_counted(home: Home) -> None:
    _write_history(home, [10.0, -1.0, 30.0, 40.0])
    data = _train(home, _day(50))
    assert data.frame["amount"].to_list() == [10.0, 30.0, 40.0]
    assert data.lineage.quarantined == {"applications": 1}


def test_a_broken_expectation_stops_with_its_rule_and_value(home: Home) -> None:
    _write_history(home, [10.0, 20.0, 30.0, 4000.0])
    assert len(_train(home, _day(10))) == 3  # the broken row is not known yet
    with pytest.raises(ExpectationsFailedError, match="amount must be at most 100, but 4000 was given"):
        _train(home, _day(50))


def test_the_identity_changes_exactly_with_the_content(home: Home) -> None:
    _write_history(home, [10.0, 20.0, 30.0, 40.0])
    operation = TrainingSetOperation(_PLAN)

    def identity(day: float) -> str:
        return operation.identity(Context(home.service, _day(day)))

    assert identity(25) == identity(29)
    assert identity(25) != identity(31)
    assert identity(31) == identity(90)
    before = identity(90)
    home.write("payments", {"customer_id": [1], "paid_at": [_day(1)], "days": [11]})
    assert identity(90) != before


def test_a_since_given_to_the_run_replaces_the_declared_one(home: Home) -> None:
    _write_history(home, [10.0, 20.0, 30.0, 40.0])
    data = TrainingSetOperation(_PLAN).run(Context(home.service, _day(50)), {"since": "15d", "drop": []})
    assert data.frame["amount"].to_list() == [30.0, 40.0]


def test_training_never_sees_a_payment_that_was_recorded_later(home: Home) -> None:
    _write_history(home, [10.0, 20.0, 30.0, 40.0])
    home.write(
        "payments",
        {"customer_id": [1, 1], "paid_at": [_day(1), _day(4)], "seen_at": [_day(1), _day(40)], "days": [10, 40]},
    )
    late = features(_table("payments", entity=customer, time="paid_at", known="seen_at"), name="late")(
        lambda rows: rows.select("customer_id", "paid_at", last_days="days")
    )
    plan = plan_training_set(applications, label=outcomes["defaulted"], features=[late])
    data = home.service.build_training_set(plan, as_of=_day(90))
    assert data.frame["last_days"].to_list() == [10, 10, None, None]


def test_online_rows_are_plain_messagepack(home: Home) -> None:
    view = _view()
    home.service.materialise(view, _day(9))
    rows = home.online.read(f"behaviour@{home.service.view_version(view)}", [b"\x91\x01"])
    assert rows[0] is not None
    assert isinstance(rows[0], OnlineRow)
    assert rows[0].payload[5:] == b"\x91\xcc\x8c"


def test_the_version_of_a_view_over_a_view_changes_with_the_other(home: Home) -> None:
    payments = Table("payments.parquet", entity=customer, time="paid_at", name="payments")

    def change(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.with_columns(change=pl.col("value").diff().over("customer_id"))

    def derived(ttl: str) -> FeatureView:
        @features(payments, ttl=ttl)
        def value(rows: pl.LazyFrame) -> pl.LazyFrame:
            return rows.select("customer_id", "paid_at", value="days")

        return features(value)(change)

    versions = [home.service.view_version(derived(ttl)) for ttl in ("5d", "5d", "6d")]
    assert versions[0] == versions[1] != versions[2]


def test_lists_of_features_may_stand_among_the_features_of_a_training_set() -> None:
    payments = Table("payments.parquet", entity=customer, time="paid_at", name="payments")
    one, two, three = (features(payments, name=name)(lambda rows: rows) for name in ("one", "two", "three"))
    plan = plan_training_set(payments, label=payments["days"], features=[one, [two, three]])
    assert plan.views == (one, two, three)


def test_an_aggregated_view_of_a_table_that_grows_says_what_it_would_say_from_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = _open(tmp_path)
    table = Table("payments", entity=customer, time="paid_at", known="seen_at", name="payments")
    view = aggregate(table, {"days": ["sum", "mean", "count_distinct"]}, over=["2d", "9d"], name="spending")
    (tmp_path / "payments").mkdir()
    read: list[int] = []

    def counting(view: AggregatedView, rows: pl.LazyFrame) -> pl.DataFrame:
        read.append(rows.select(pl.len()).collect().item())
        return tiles_of(view, rows)

    monkeypatch.setattr("flyball.domain.features.service.tiles_of", counting)
    for file in range(4):
        days = [file * 3 + number / 4 for number in range(10)]
        rows = {
            "customer_id": [(file + number) % 5 for number in range(10)],
            "paid_at": [_day(day) for day in days],
            "seen_at": [_day(day + 5 * (number % 3)) for number, day in enumerate(days)],
            "days": [number * file for number in range(10)],
        }
        pl.DataFrame(rows).write_parquet(tmp_path / "payments" / f"{file}.parquet")
        grown = home.service.history(view).collect()
        again = _open(tmp_path, online=MemoryOnlineStore()).service.history(view).collect()
        at = ["paid_at", "customer_id"]
        assert grown.sort(at).equals(again.sort(at))
    assert read == [10, 10, 10, 20, 10, 30, 10, 40]
    (tmp_path / "payments" / "0.parquet").unlink()
    home.service.history(view)
    assert read[-1] == 30
