"""Aliases such as champion and challenger: which version they meant, in two times, and where a rollback leads."""

from collections.abc import Container, Sequence
from datetime import datetime

import msgspec

from flyball.core.errors import ConflictError

CHAMPION = "champion"
CHALLENGER = "challenger"


class AliasMove(msgspec.Struct, frozen=True, kw_only=True):
    """One change of what an alias means.

    Attributes:
        model: The model.
        alias: Such as ``champion``.
        number: The version from then on; None where the alias was taken away.
        previous: The version until then; None where there was none.
        reason: Why.
        actor: Who or what moved it.
        event_time: From when on it held.
        recorded_at: When the registry knew it.
        event: The number of the journal's event; moves of one instant are ordered by it.
    """

    model: str
    alias: str
    number: int | None
    previous: int | None
    reason: str
    actor: str
    event_time: datetime
    recorded_at: datetime
    event: int


class NoEarlierVersionError(ConflictError):
    """There is nothing to roll back to."""

    code = "registry/no-earlier-version"

    def __init__(self, model: str, number: int | None) -> None:
        now = f"version {number} is the first champion that is still usable" if number else "it never had a champion"
        super().__init__(
            f"the model {model!r} has no earlier version to roll back to: {now}",
            hint="Train a new version with: flyball run PIPELINE",
        )


def number_at(moves: Sequence[AliasMove], at: datetime, known_at: datetime | None = None) -> int | None:
    """Return which version an alias meant at an instant, as far as it was known at another.

    Args:
        moves: The moves of one alias of one model, in any order.
        at: The instant asked about, inclusive.
        known_at: Moves recorded later are left out; None uses all.
    """
    held = [move for move in moves if move.event_time <= at and (known_at is None or move.recorded_at <= known_at)]
    return max(held, key=lambda move: (move.event_time, move.event)).number if held else None


def rollback_target(moves: Sequence[AliasMove], usable: Container[int]) -> int | None:
    """Return the champion to go back to, or None where there is no earlier one.

    It is the newest usable champion before the present one first became champion. So two rollbacks in a row go two
    versions back, instead of back to the version that was just left.

    Args:
        moves: All moves of the alias champion of one model, in order.
        usable: The numbers of versions that may become champion.
    """
    numbers = [move.number for move in moves]
    present = numbers[-1] if numbers else None
    first = len(numbers) if present is None else numbers.index(present)
    earlier = (number for number in reversed(numbers[:first]) if number is not None and number in usable)
    return next(earlier, None)
