import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyball.core.clock import SimulatedClock
from flyball.domain.journal.service import Journal
from flyball.storage.db import Database

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "flyball.db"


def open_journal(path: Path) -> tuple[Database, Journal, SimulatedClock]:
    db, clock = Database(f"sqlite:///{path}"), SimulatedClock(START)
    return db, Journal(db, clock), clock


def fill(db: Database, journal: Journal, count: int) -> None:
    for number in range(count):
        with db.begin() as tx:
            journal.append(tx, "test.thing.made", f"thing/{number}", {"number": number, "ä": [1.5, None]})


def test_events_are_numbered_chained_and_read_in_order(home: Path) -> None:
    db, journal, clock = open_journal(home)
    with db.begin() as tx:
        first = journal.append(tx, "a.b.c", "x/1", {"n": 1}, event_time=START - timedelta(days=1))
        second = journal.append(tx, "a.b.d", "x/2", {"n": 2}, cause=first.seq, actor="user/ana")
    assert (first.seq, second.seq, second.previous) == (1, 2, first.digest)
    assert journal.list_events() == [first, second]
    assert journal.list_events(kinds=["a.b.d"]) == [second]
    assert journal.list_events(subject="x/1") == [first]
    assert journal.list_events(until=START - timedelta(hours=1)) == [first]
    assert journal.list_events(newest_first=True, limit=1) == [second]
    assert journal.find(2) == second and journal.find(3) is None
    assert first.event_time == START - timedelta(days=1) and first.recorded_at == clock.now()


def test_a_change_and_its_event_live_or_die_together(home: Path) -> None:
    db, journal, _ = open_journal(home)
    with pytest.raises(ZeroDivisionError), db.begin() as tx:
        journal.append(tx, "a.b.c", "x/1", {})
        journal.move_cursor(tx, "reader", 1)
        raise ZeroDivisionError
    assert journal.head() == 0 and journal.cursor("reader") == 0


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seq=st.integers(1, 6),
    change=st.sampled_from(
        [
            ("kind", "other"),
            ("subject", "thing/x"),
            ("event_time_us", 5),
            ("recorded_at_us", 5),
            ("actor", "nobody"),
            ("cause", 1),
            ("data", '{"number": 99}'),
            ("data", "not json"),
            ("previous", "0" * 63 + "1"),
            ("digest", "f" * 64),
            (None, "delete"),
        ]
    ),
)
def test_the_chain_breaks_where_anything_changes(tmp_path: Path, seq: int, change: tuple[str | None, Any]) -> None:
    path = tmp_path / f"{os.urandom(8).hex()}.db"
    db, journal, _ = open_journal(path)
    fill(db, journal, 7)
    assert journal.verify().broken_at is None
    column, value = change
    with db.begin() as tx:
        if column is None:
            tx.execute("DELETE FROM journal_event WHERE seq = ?", (seq,))
        else:
            tx.execute(f"UPDATE journal_event SET {column} = ? WHERE seq = ?", (value, seq))
    assert journal.verify().broken_at == seq
    db.close()


def test_the_whole_chain_is_counted(home: Path) -> None:
    db, journal, _ = open_journal(home)
    fill(db, journal, 5)
    result = journal.verify()
    assert (result.events, result.broken_at) == (5, None)
    assert result.head == journal.list_events(newest_first=True, limit=1)[0].digest
