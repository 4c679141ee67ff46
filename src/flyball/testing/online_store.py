"""What every online store must do; run the checks against a backend with ``pytest.mark.parametrize``."""

import threading
from collections.abc import Callable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from flyball.storage.online.port import OnlineRow, OnlineStore

NewStore = Callable[[], OnlineStore]
VIEW = "payments@1"
_KEYS = [b"a", b"b", b"", b"c" * 600]

_rows = st.builds(
    OnlineRow,
    st.sampled_from(_KEYS),
    st.integers(-3, 3),
    st.integers(-2, 2),
    st.binary(max_size=3),
)
_batches = st.lists(st.lists(_rows, max_size=6), max_size=5)


def check_the_newest_row_wins(new_store: NewStore) -> None:
    """In whatever order rows come, each key ends with its newest one, and a tie keeps the stored one."""

    @settings(deadline=None, max_examples=50)
    @given(_batches)
    def agrees_with_the_plain_rule(batches: list[list[OnlineRow]]) -> None:
        store = new_store()
        expected: dict[bytes, OnlineRow] = {}
        for batch in batches:
            before = dict(expected)
            for row in batch:
                kept = expected.get(row.key)
                if kept is None or (row.event_time_us, row.known_us) > (kept.event_time_us, kept.known_us):
                    expected[row.key] = row
            changed = sum(before.get(key) is not row for key, row in expected.items())
            assert store.write(VIEW, batch) == changed
        assert store.read(VIEW, _KEYS) == [expected.get(key) for key in _KEYS]

    agrees_with_the_plain_rule()


def check_replace_keeps_exactly_what_is_given(new_store: NewStore) -> None:
    """After `replace` nothing of before is left, be it newer or not, and the changed keys are counted."""

    @settings(deadline=None, max_examples=50)
    @given(_batches, st.lists(_rows, max_size=6, unique_by=lambda row: row.key))
    def holds_only_the_new(batches: list[list[OnlineRow]], rows: list[OnlineRow]) -> None:
        store = new_store()
        for batch in batches:
            store.write(VIEW, batch)
        before = store.read(VIEW, _KEYS)
        expected = {row.key: row for row in rows}
        after = [expected.get(key) for key in _KEYS]
        assert store.replace(VIEW, rows) == sum(a != b for a, b in zip(before, after, strict=True))
        assert store.read(VIEW, _KEYS) == after
        assert store.replace(VIEW, rows) == 0

    holds_only_the_new()


def check_read_answers_in_the_order_of_the_keys(new_store: NewStore) -> None:
    """One entry per asked key, also for repeated and unknown ones."""
    store = new_store()
    one, two = OnlineRow(b"1", 10, 10, b"x"), OnlineRow(b"2", 20, 21, b"")
    store.write(VIEW, [one, two])
    assert store.read(VIEW, [b"2", b"none", b"1", b"2"]) == [two, None, one, two]
    assert store.read(VIEW, []) == []


def check_views_do_not_touch_each_other(new_store: NewStore) -> None:
    """The same key of another view, or of another version, is another row."""
    store = new_store()
    views = ["payments@1", "payments@2", "payment@1"]
    for number, view in enumerate(views):
        store.write(view, [OnlineRow(b"k", number, 0, view.encode())])
    assert store.read("payments@3", [b"k"]) == [None]
    assert store.replace("payments@2", []) == 1
    assert store.delete("payment@1", [b"k", b"other"]) == 1
    assert [store.read(view, [b"k"])[0] is not None for view in views] == [True, False, False]


def check_delete_forgets_only_the_given_keys(new_store: NewStore) -> None:
    """A deleted key reads as unknown, and a later write brings it back whatever its time."""
    store = new_store()
    store.write(VIEW, [OnlineRow(b"1", 10, 10, b"x"), OnlineRow(b"2", 10, 10, b"y")])
    assert store.delete(VIEW, [b"1", b"1", b"3"]) == 1
    assert store.read(VIEW, [b"1", b"2"]) == [None, OnlineRow(b"2", 10, 10, b"y")]
    assert store.write(VIEW, [OnlineRow(b"1", 5, 5, b"old")]) == 1


def check_a_copy_takes_the_rows_by_its_own_newest(new_store: NewStore) -> None:
    """The other view gets the same rows and keeps what it has that is newer."""
    store = new_store()
    newer, row, other = OnlineRow(b"1", 9, 9, b"n"), OnlineRow(b"1", 5, 5, b"x"), OnlineRow(b"2", 5, 5, b"y")
    store.write("copy@1", [newer])
    assert store.write(VIEW, [row, other], copy="copy@1") == 2
    assert store.read(VIEW, [b"1", b"2"]) == [row, other]
    assert store.read("copy@1", [b"1", b"2"]) == [newer, other]


def check_scan_yields_every_row_of_its_view_once(new_store: NewStore) -> None:
    """Also long keys come back whole, and other views' rows do not."""
    store = new_store()
    rows = [OnlineRow(key, 1, 2, b"x") for key in [*_KEYS, *(b"%d" % number for number in range(12_000))]]
    assert list(store.scan(VIEW)) == []
    store.write(VIEW, rows)
    store.write(VIEW + "0", rows[:1])
    assert sorted(store.scan(VIEW)) == sorted(rows)


def check_threads_agree_on_the_newest_row(new_store: NewStore) -> None:
    """Writers in parallel lose no row that is the newest of its key."""
    store = new_store()

    def write(first: int) -> None:
        for time in range(first, 120, 4):
            store.write(VIEW, [OnlineRow(b"%d" % key, time, time, b"%d" % time) for key in range(5)])
            store.read(VIEW, [b"0"])

    threads = [threading.Thread(target=write, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    newest = [OnlineRow(b"%d" % key, 119, 119, b"119") for key in range(5)]
    assert store.read(VIEW, [row.key for row in newest]) == newest


ONLINE_STORE_CHECKS: Sequence[Callable[[NewStore], None]] = (
    check_the_newest_row_wins,
    check_replace_keeps_exactly_what_is_given,
    check_read_answers_in_the_order_of_the_keys,
    check_views_do_not_touch_each_other,
    check_delete_forgets_only_the_given_keys,
    check_a_copy_takes_the_rows_by_its_own_newest,
    check_scan_yields_every_row_of_its_view_once,
    check_threads_agree_on_the_newest_row,
)
