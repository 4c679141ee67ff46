"""Divides training sets into rows to learn from and rows to test with."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, cast

from flyball.core.durations import format_duration, format_instant, parse_duration
from flyball.core.errors import InvalidInputError

if TYPE_CHECKING:
    import polars as pl

    from flyball.domain.features.training_sets import TrainingSet


class EmptySplitError(InvalidInputError):
    """One side of a split has no rows."""

    code = "features/empty-split"

    def __init__(self, test: str, rows: int, side: str, why: str) -> None:
        super().__init__(
            f"split with test={test!r} leaves no rows {side}: {why}",
            hint="Choose another part, or give the training set more history." if rows else "",
        )


class HeldOut(NamedTuple):
    """Which rows a split holds out: a share of them, or those of a last period."""

    is_random: bool
    share: float | None
    period: timedelta | None


def parse_test(text: str) -> HeldOut:
    """Read ``"last 20%"``, ``"last 30d"`` or ``"random 20%"``.

    Raises:
        InvalidInputError: It is none of these.
    """
    how, _, amount = text.strip().partition(" ") if isinstance(text, str) else ("", "", "")
    amount = amount.strip()
    if how in ("last", "random") and amount.endswith("%"):
        try:
            share = float(amount[:-1]) / 100
        except ValueError:
            share = 0.0
        if 0 < share < 1:
            return HeldOut(how == "random", share, None)
    elif how == "last" and amount:
        return HeldOut(False, None, parse_duration(amount, what="test part of split"))
    raise InvalidInputError(
        f"test={text!r} does not say which rows to hold out",
        hint='Write "last 20%", "last 30d" or "random 20%".',
    )


def split_rows(data: "TrainingSet", test: str, *, seed: int = 0) -> "tuple[TrainingSet, TrainingSet]":
    """Return the rows to fit and the rows held out; both keep their order.

    Args:
        data: The rows.
        test: ``"last 20%"`` (at least that share: rows of one instant stay together), ``"last 30d"`` (counted back
            from the newest row) or ``"random 20%"``.
        seed: Decides which rows are the random ones; the same rows and seed always give the same split.

    Raises:
        InvalidInputError: ``test`` cannot be read, or asks for a time that the rows do not have.
        EmptySplitError: One side has no rows.
    """
    part = parse_test(test)
    if not len(data):
        raise EmptySplitError(test, 0, "on either side", "the training set itself has none")
    if part.is_random:
        assert part.share is not None
        is_held_out = _random(len(data), part.share, seed)
        why = f"it has only {len(data):,} rows"
    else:
        is_held_out, why = _last(data, test, part.share, part.period)
    fit, held_out = data.frame.filter(~is_held_out), data.frame.filter(is_held_out)
    for side, frame in (("to fit", fit), ("to test with", held_out)):
        if not frame.height:
            raise EmptySplitError(test, len(data), side, why)
    return data.with_rows(fit, part=f"all but {test}"), data.with_rows(held_out, part=test)


def _random(rows: int, share: float, seed: int) -> "pl.Series":
    import numpy as np
    import polars as pl

    chosen = np.zeros(rows, dtype=bool)
    chosen[np.random.Generator(np.random.PCG64(seed)).permutation(rows)[: round(rows * share)]] = True
    return pl.Series(chosen)


def _last(data: "TrainingSet", test: str, share: float | None, period: timedelta | None) -> "tuple[pl.Series, str]":
    if data.time_name is None:
        raise InvalidInputError(
            f"test={test!r} splits by time, but table {data.lineage.spine!r} has no time column",
            hint='Declare time=... for it, or write test="random 20%".',
        )
    times = data.frame.get_column(data.time_name)
    known = times.drop_nulls().sort()
    if not len(known):
        raise EmptySplitError(test, len(data), "to test with", "no row has a time")
    oldest, newest = cast(datetime, known[0]), cast(datetime, known[-1])
    if period is not None:
        why = f"its rows span {format_duration(newest - oldest)}"
        return (times > newest - period).fill_null(False), why
    assert share is not None
    start = known[min(len(known) - 1, int(len(known) * (1 - share)))]
    why = f"of its {len(data):,} rows too many are of {format_instant(oldest)}"
    return (times >= start).fill_null(False), why
