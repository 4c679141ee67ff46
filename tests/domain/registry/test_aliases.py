"""What an alias meant, in two times, and where a rollback leads."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from flyball.domain.registry.aliases import AliasMove, number_at, rollback_target

START = datetime(2026, 1, 1, tzinfo=UTC)


def move(number: int | None, event: int, held: int, known: int | None = None) -> AliasMove:
    return AliasMove(
        model="m",
        alias="champion",
        number=number,
        previous=None,
        reason="",
        actor="t",
        event_time=START + timedelta(hours=held),
        recorded_at=START + timedelta(hours=held if known is None else known),
        event=event,
    )


def champions(*numbers: int | None) -> list[AliasMove]:
    return [move(number, event, event) for event, number in enumerate(numbers, start=1)]


MOVES = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(1, 5)), st.integers(0, 20), st.integers(0, 20)), max_size=12
)


@given(MOVES, st.integers(-1, 21), st.one_of(st.none(), st.integers(-1, 41)))
def test_the_meaning_at_an_instant_is_that_of_the_last_move_known_by_then(
    moves: list[tuple[int | None, int, int]], at: int, known_at: int | None
) -> None:
    history = [move(number, event, held, held + late) for event, (number, held, late) in enumerate(moves)]
    expected: int | None = None
    for one in sorted(history, key=lambda one: (one.event_time, one.event)):
        is_known = known_at is None or one.recorded_at <= START + timedelta(hours=known_at)
        if one.event_time <= START + timedelta(hours=at) and is_known:
            expected = one.number
    known = None if known_at is None else START + timedelta(hours=known_at)
    assert number_at(history, START + timedelta(hours=at), known) == expected


def test_a_rollback_goes_one_version_back_and_a_second_one_further() -> None:
    usable = {1, 2, 3}
    assert rollback_target(champions(1, 2, 3), usable) == 2
    assert rollback_target(champions(1, 2, 3, 2), usable) == 1
    assert rollback_target(champions(1, 2, 3, 2, 1), usable) is None


def test_a_rollback_skips_versions_that_were_left_behind_or_put_away() -> None:
    assert rollback_target(champions(1, 2, 1, 3), {1, 2, 3}) == 1
    assert rollback_target(champions(1, 2, 3), {1, 3}) == 1
    assert rollback_target(champions(1), {1}) is None
    assert rollback_target([], {1}) is None


def test_a_rollback_without_a_champion_goes_to_the_last_one() -> None:
    assert rollback_target(champions(1, 2, None), {1, 2}) == 2


@given(st.lists(st.integers(1, 6), min_size=1, max_size=20))
def test_rolling_back_again_and_again_ends_and_never_repeats(numbers: list[int]) -> None:
    history = champions(*[number for i, number in enumerate(numbers) if i == 0 or numbers[i - 1] != number])
    seen = {history[-1].number}
    while (target := rollback_target(history, range(1, 7))) is not None:
        assert target not in seen
        seen.add(target)
        history.append(move(target, len(history) + 1, len(history) + 1))
