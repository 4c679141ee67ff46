"""Durations, ids, clocks, digests and files."""

import errno
import multiprocessing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyball.core.clock import SimulatedClock, SystemClock
from flyball.core.durations import (
    format_duration,
    format_instant,
    from_us,
    parse_duration,
    parse_instant,
    to_us,
)
from flyball.core.errors import ConflictError, InvalidInputError, UnknownNameError
from flyball.core.files import DiskFullError, building_folder, holding_lock, write_bytes, writing
from flyball.core.ids import IdSource, id_prefix, id_time_us


@given(st.timedeltas(min_value=timedelta(microseconds=1), max_value=timedelta(days=4000)))
def test_a_duration_survives_being_written(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize("text", ["", "1", "d", "1 year", "-1d", "0s", "1d!"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="ttl"):
        parse_duration(text, what="ttl")


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_an_instant_survives_every_form(instant: datetime) -> None:
    assert from_us(to_us(instant)) == instant
    assert parse_instant(format_instant(instant)) == instant


def test_an_instant_without_a_zone_is_utc_and_nonsense_is_refused() -> None:
    assert parse_instant("2026-03-01 14:05") == datetime(2026, 3, 1, 14, 5, tzinfo=UTC)
    with pytest.raises(InvalidInputError, match="last tuesday"):
        parse_instant("last tuesday")


@given(st.lists(st.integers(0, 3), min_size=2, max_size=60))
def test_ids_sort_in_the_order_in_which_they_were_made(steps_ms: list[int]) -> None:
    clock = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
    source = IdSource(clock, entropy=lambda n: b"\xff" * n)
    made = []
    for step in steps_ms:
        clock.advance(timedelta(milliseconds=step))
        made.append(source.new())
        assert id_time_us(made[-1]) == to_us(clock.now())
        assert made[-1].startswith(id_prefix(to_us(clock.now())))
    assert made == sorted(set(made))


def test_a_simulated_clock_never_goes_back() -> None:
    clock = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
    clock.advance_to(datetime(2025, 1, 1, tzinfo=UTC))
    assert clock.now() == datetime(2026, 1, 1, tzinfo=UTC)
    assert SystemClock().now().tzinfo is UTC


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    assert "did you mean 'credit'?" in UnknownNameError("endpoint", "credti", ["credit", "bikes"]).message
    assert "there is none" in UnknownNameError("endpoint", "x", []).message


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    with pytest.raises(ZeroDivisionError), writing(target) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert list(target.parent.iterdir()) == []
    write_bytes(target, b"whole")
    assert target.read_bytes() == b"whole"


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    with (
        pytest.raises(DiskFullError, match="no space is left to write 'package'"),
        building_folder(tmp_path / "package") as folder,
    ):
        (folder / "part").write_bytes(b"x")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def _hold(path: Path, ready: "multiprocessing.synchronize.Event", leave: "multiprocessing.synchronize.Event") -> None:
    with holding_lock(path, held_message="held"):
        ready.set()
        leave.wait(10)


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "lock", ready, leave))
    holder.start()
    assert ready.wait(10)
    with pytest.raises(ConflictError, match="held"), holding_lock(tmp_path / "lock", held_message="held"):
        pass
    holder.kill()
    holder.join()
    with holding_lock(tmp_path / "lock", held_message="held"):
        pass
