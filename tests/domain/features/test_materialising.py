"""Materialisations that are killed, repeated, raced and robbed; on every online store."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.servers import RedisServer, redis

from flyball.core.clock import SimulatedClock
from flyball.core.errors import BackendUnavailableError, ConflictError
from flyball.core.files import holding_lock
from flyball.core.settings import Settings
from flyball.domain.features.histories import ViewHistory, compute_history
from flyball.domain.features.online import OnlineFeatures
from flyball.domain.features.views import FeatureView
from flyball.storage.online.lmdb import LmdbOnlineStore
from flyball.workspace.workspace import Workspace

_PROJECT = """
import flyball as fb
import polars as pl

customer = fb.Entity("customer_id")
payments = fb.Table("payments.parquet", entity=customer, time="paid_at")


@fb.features(payments, ttl="30d")
def behaviour(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.drop("extra", strict=False)
"""
_START = datetime(2026, 1, 1, tzinfo=UTC)
_numbers = count()


def _day(number: float) -> datetime:
    return _START + timedelta(days=number)


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["lmdb", "redis"])
def online(request: pytest.FixtureRequest) -> str:
    if request.param == "lmdb":
        return "lmdb"
    return f"{request.getfixturevalue('redis_server').url}?prefix={next(_numbers)}"


def _write(root: Path, **columns: list[Any]) -> None:
    unfinished = root / ".payments.tmp"
    pl.DataFrame(columns).write_parquet(unfinished)
    unfinished.replace(root / "payments.parquet")


def _open(root: Path, online: str, **settings: Any) -> Workspace:
    (root / "project.py").write_text(_PROJECT)
    if not (root / "payments.parquet").exists():
        _write(root, customer_id=[1, 2, 1], paid_at=[_day(1), _day(2), _day(5)], days=[10, 20, 50])
    clock = SimulatedClock(_day(9))
    return Workspace(
        root, root / ".flyball", clock=clock, settings=Settings(online=online, online_timeout_seconds=5.0, **settings)
    )


@pytest.fixture
def workspace(tmp_path: Path, online: str) -> Workspace:
    return _open(tmp_path, online)


def _materialise(workspace: Workspace) -> str:
    return workspace.features.materialise(workspace.project.views["behaviour"]).reason


def _read(workspace: Workspace, *keys: Any) -> list[dict[str, Any] | None]:
    view = workspace.project.views["behaviour"]
    version = workspace.features.view_version(view)
    found: list[OnlineFeatures | None] = workspace.features.read_online(
        view.name, version, view.ttl, [(key,) for key in keys], workspace.clock.now()
    )
    return [None if row is None else row.values for row in found]


def _forget(workspace: Workspace, *keys: bytes) -> None:
    """Make the store lose a view, as a server does that keeps nothing."""
    view = workspace.project.views["behaviour"]
    workspace.features._online.replace(f"behaviour@{workspace.features.view_version(view)}", [])


def test_rows_that_a_store_has_lost_are_written_again(workspace: Workspace) -> None:
    assert _materialise(workspace) == "first"
    assert _materialise(workspace) == ""
    _forget(workspace)
    assert _read(workspace, 1) == [None]
    assert _materialise(workspace) == "lost"
    assert _read(workspace, 1, 2, 3) == [{"days": 50}, {"days": 20}, None]
    assert _materialise(workspace) == ""


def test_another_process_computes_an_unchanged_view_only_when_rows_become_known_or_are_lost(
    workspace: Workspace, tmp_path: Path, online: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, customer_id=[1, 2], paid_at=[_day(1), _day(12)], days=[10, 20])  # one in the future
    computed: list[str] = []

    def count_computations(view: FeatureView, rows: pl.LazyFrame) -> ViewHistory:
        computed.append(view.name)
        return compute_history(view, rows)

    monkeypatch.setattr("flyball.domain.features.service.compute_history", count_computations)

    def materialise_elsewhere(day: float) -> tuple[str, int]:
        before = len(computed)
        other = _open(tmp_path, online)
        other.clock.advance_to(_day(day))  # type: ignore[attr-defined]
        reason = _materialise(other)
        assert _materialise(other) == ""
        return reason, len(computed) - before

    assert _materialise(workspace) == "first"
    assert materialise_elsewhere(10) == ("", 1)  # a row is to come, so one has to look
    assert materialise_elsewhere(13) == ("time", 1)
    assert materialise_elsewhere(14) == ("", 0)
    _forget(workspace)
    assert materialise_elsewhere(15) == ("lost", 1)
    _write(tmp_path, customer_id=[1], paid_at=[_day(1)], days=[11])
    assert materialise_elsewhere(16) == ("source", 1)
    assert materialise_elsewhere(17) == ("", 0)
    other = _open(tmp_path, online)
    assert _read(other, 1, 2) == [{"days": 11}, None]


def test_a_removed_folder_of_the_embedded_store_is_filled_again(tmp_path: Path) -> None:
    workspace = _open(tmp_path, "lmdb")
    _materialise(workspace)
    del workspace
    for file in (tmp_path / ".flyball/online").iterdir():
        file.unlink()
    workspace = _open(tmp_path, "lmdb")
    assert _materialise(workspace) == "lost"
    assert _read(workspace, 2) == [{"days": 20}]


def test_rows_of_a_process_that_died_before_it_recorded_them_are_recorded_by_the_next(
    workspace: Workspace, tmp_path: Path, online: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("flyball.domain.features.store.put_state", die)
        _materialise(workspace)
    assert workspace.journal.list_events(kinds=["features.view.materialised"]) == []
    assert _read(workspace, 1) == [{"days": 50}]  # readable at once
    other = _open(tmp_path, online)
    assert _materialise(other) == "first"
    assert len(other.journal.list_events(kinds=["features.view.materialised"])) == 1
    assert _materialise(other) == _materialise(workspace) == ""


def test_columns_may_come_go_and_change_while_readers_have_the_old_ones(workspace: Workspace, tmp_path: Path) -> None:
    _materialise(workspace)
    assert _read(workspace, 1) == [{"days": 50}]
    writer = _open(tmp_path, workspace.settings.online)
    _write(tmp_path, customer_id=[1], paid_at=[_day(6)], amount=[0.5], days=["late"])
    writer.snapshot("payments", accept_schema_change=True)
    assert _materialise(writer) == "source"
    assert _read(workspace, 1, 2) == [{"amount": 0.5, "days": "late"}, None]
    view = workspace.project.views["behaviour"]
    done = workspace.features.complete([{"customer_id": 1}], [workspace.features.view_ref(view)], _day(9))
    assert done.frame.to_dicts() == [{"amount": 0.5, "days": "late"}]


def test_a_key_may_be_asked_as_text_and_what_is_no_key_is_unknown(workspace: Workspace) -> None:
    _materialise(workspace)
    assert _read(workspace, "1", 1.0, " 2", "one", None, 2**80, [1]) == [
        {"days": 50}, {"days": 50}, {"days": 20}, None, None, None, None,
    ]  # fmt: skip


def test_keys_of_other_types_are_found_however_they_are_asked(tmp_path: Path) -> None:
    for number, (key, asked) in enumerate(
        (
            ("7", [7, "7"]),
            (2.5, ["2.5", 2.5]),
            (True, ["true", True]),
            (_day(1), ["2026-01-02T00:00:00Z", "2026-01-02", _day(1)]),
            (_day(1).date(), ["2026-01-02", _day(1).date()]),
        )
    ):
        root = tmp_path / str(number)
        root.mkdir()
        _write(root, customer_id=[key], paid_at=[_day(6)], days=[1])
        workspace = _open(root, "lmdb")
        _materialise(workspace)
        assert _read(workspace, *asked, "no") == [*[{"days": 1}] * len(asked), None]


def test_every_type_of_value_comes_back_as_it_was(workspace: Workspace, tmp_path: Path) -> None:
    values = {
        "whole": [-(2**62), None],
        "number": [float("inf"), -0.0],
        "text": ["ä\0\n", ""],
        "flag": [True, False],
        "instant": [_day(3.25), None],
        "day": [_day(3).date(), None],
    }
    _write(tmp_path, customer_id=[1, 2], paid_at=[_day(6), _day(7)], **values)
    workspace.snapshot("payments", accept_schema_change=True)
    _materialise(workspace)
    assert _read(workspace, 1, 2) == [{name: both[number] for name, both in values.items()} for number in (0, 1)]


def test_only_one_process_writes_a_view_and_the_others_are_told(workspace: Workspace) -> None:
    _materialise(workspace)
    _forget(workspace)
    lock = next((workspace.home / "locks").iterdir())
    with (
        holding_lock(lock, held_message="held"),
        pytest.raises(ConflictError, match="'behaviour' is being materialised"),
    ):
        _materialise(workspace)
    assert _materialise(workspace) == "lost"


def test_requests_go_on_without_features_where_that_is_declared(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with redis(tmp_path / "redis") as server:
        strict = _open(tmp_path, server.url)
        lenient = _open(tmp_path, server.url, online_fallback="null")
        _materialise(strict)
        refs = [strict.features.view_ref(strict.project.views["behaviour"])]
        ask: Callable[[Workspace], Any] = lambda workspace: workspace.features.complete(  # noqa: E731
            [{"customer_id": 1}, {"customer_id": 2}], refs, _day(9)
        )
        assert ask(lenient).frame["days"].to_list() == ask(strict).frame["days"].to_list() == [50, 20]
        server.stop()
        with pytest.raises(BackendUnavailableError):
            ask(strict)
        done = ask(lenient)
    assert (done.frame["days"].to_list(), done.event_times) == ([None, None], [{}, {}])
    assert (done.missing, done.unavailable) == ({}, {"behaviour": 2})
    assert lenient.features.take_counts() == {("behaviour", "found"): 2, ("behaviour", "unavailable"): 2}


_WORKER = """
import sys
from pathlib import Path
from flyball.core.settings import Settings
from flyball.workspace.workspace import Workspace

root = Path(sys.argv[1])
workspace = Workspace(root, root / ".flyball", settings=Settings(online=sys.argv[2]))
while True:
    print(workspace.features.materialise(workspace.project.views["behaviour"]).reason, flush=True)
    version = workspace.features.view_version(workspace.project.views["behaviour"])
    workspace.features._online.replace(f"behaviour@{version}", [])
"""


@pytest.mark.slow
def test_a_materialisation_that_is_killed_leaves_nothing_stuck(tmp_path: Path, online: str) -> None:
    rows = 60_000
    _write(tmp_path, customer_id=list(range(rows)), paid_at=[_day(1)] * rows, days=list(range(rows)))
    workspace = _open(tmp_path, online)
    for delay_s in (0.0, 0.02, 0.07, 0.15):
        with subprocess.Popen([sys.executable, "-c", _WORKER, tmp_path, online], stdout=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            worker.stdout.readline()
            time.sleep(delay_s)
            os.kill(worker.pid, signal.SIGKILL)
        _materialise(workspace)
        assert _read(workspace, 0, rows - 1) == [{"days": 0}, {"days": rows - 1}]
        assert _materialise(workspace) == ""


def test_reads_go_on_while_a_view_is_written_anew(tmp_path: Path, online: str) -> None:
    workspace = _open(tmp_path, online)
    _materialise(workspace)
    reading = _open(tmp_path, online)
    keys = list(range(1, 3))
    is_done = threading.Event()
    seen: set[Any] = set()

    def read() -> None:
        while not is_done.is_set():
            seen.add(tuple(row["days"] if row else None for row in _read(reading, *keys)))

    thread = threading.Thread(target=read)
    thread.start()
    for round_ in range(8):
        ids = list(range(1, 2_001))
        _write(tmp_path, customer_id=ids, paid_at=[_day(5)] * 2_000, days=[100 + round_] * 2_000)
        _materialise(workspace)
    is_done.set()
    thread.join()
    assert seen <= {(50, 20), *((100 + n, 100 + n) for n in range(8))}
    assert len(seen) > 1


def test_the_embedded_store_is_the_default(tmp_path: Path) -> None:
    workspace = _open(tmp_path, Settings().online)
    assert isinstance(workspace.features._online, LmdbOnlineStore)
