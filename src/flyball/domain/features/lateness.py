"""From when on each value of a view was known, exactly, where rows become known after newer ones."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import polars as pl

from flyball.core.errors import InvalidInputError
from flyball.domain.features.comparing import differing, same_values
from flyball.domain.features.point_in_time import USABLE, Timelines
from flyball.domain.features.views import FeatureView

KNOWN = "__known"
"""The column that says when a row of a view's history was known."""
OWN_KNOWN = "__own_known"
"""The column in which a function's result says it by itself."""
Run = Callable[[pl.LazyFrame], pl.DataFrame]

_AT, _NEWEST, _NUMBER = "__at", "__newest", "__number"
_PENDING, _NEXT, _ROWS, _OWN = "__pending", "__next", "__rows", "__own"
# More than this is hours of work that nobody meant to ask for.
_MOST_ROWS, _MOST_STATES = 300_000_000, 20_000
_SAMPLED = 500  # rows


class TooManyLateRowsError(InvalidInputError):
    """So many rows were known after newer ones that a view cannot be computed for each state of knowledge."""

    code = "features/too-many-late-rows"

    def __init__(self, view: str, states: int, rows: int) -> None:
        super().__init__(
            f"feature view {view!r} would be computed for up to {states:,} states of an entity, {rows:,} rows in all, "
            "because so many rows became known after newer ones",
            hint='Declare it with late="wait": then a row counts only once all older rows of its entity are known.',
        )


class Arrival(NamedTuple):
    """How the rows of a table became known.

    Attributes:
        rows: Keys, time and known of all rows, in the order in which the function gets them.
        timelines: Those of these rows.
        gaps: Keys of some entities that had rows known before older ones.
    """

    rows: pl.DataFrame
    timelines: Timelines
    gaps: pl.DataFrame


def arrival_of(view: FeatureView, rows: pl.LazyFrame) -> Arrival:
    """Look at how rows became known."""
    keys, time, known = list(view.keys), view.time, str(view.table.known)
    source = rows.select(*keys, time, known).collect()
    timelines = Timelines(source, by=keys, time=time, known=known)
    return Arrival(source, timelines, timelines.late_entities(_SAMPLED))


def order_by_known(
    view: FeatureView,
    result: pl.DataFrame,
    arrival: Arrival,
    run: Run,
    *,
    rows: pl.LazyFrame,
    some: pl.LazyFrame,
    features: Sequence[str],
) -> tuple[pl.DataFrame, Timelines]:
    """Say of each row of a view's history from when on it was known.

    At an instant t the view says of an entity what its function makes of that entity's rows that were known at t.
    Where no older row was still to come, that is a row of ``result``. Where one was, there are two cases: a function
    that makes each row from one row says the same without the missing one, so its row counts from when its own row
    was known; any other function is run again over the rows known by then, and its answer counts until more is known.

    Args:
        view: The view, of a table with ``known``; where its ``late`` is ``wait``, each row waits until all older rows
            of its entity are known, and nothing is run again.
        result: What the function returned for all rows; its own column of when they were known is `OWN_KNOWN`.
        arrival: What `arrival_of` says.
        run: Runs the function.
        rows: All rows of the table, sorted by time; none without times.
        some: Those of some entities, among them the ones in ``arrival.gaps``.
        features: The feature columns.

    Returns:
        The result, with rows added that were true for a while only, and its timelines.

    Raises:
        TooManyLateRowsError: It would take too long.
    """
    keys, time, known = list(view.keys), view.time, str(view.table.known)
    source, timelines, gaps = arrival
    own = _own(result, source, keys, time, known)
    if own is not None and (gaps.is_empty() or (view.late == "exact" and _holds(gaps, some, run, view))):
        if own.get_column(_OWN).equals(source.get_column(known)):
            return result, timelines
        return result, Timelines(own, by=keys, time=time, known=_OWN)
    depends = bool(gaps.height) and _depends_on_others(result, rows, run, keys, time, features)
    source = source.select(*keys, time, pl.max_horizontal(time, known).alias(USABLE))
    found = [_waiting(result, source, [] if depends else keys, time).select(*keys, time, KNOWN, *features).collect()]
    if gaps.height and view.late == "exact" and not depends:
        found += _again(_states_with_gaps(source, keys, time), rows, run, view, found[0].columns)
    said = pl.concat(found)
    return said, Timelines(said, by=keys, time=time, known=KNOWN)


def rows_of(entities: pl.DataFrame, rows: pl.LazyFrame) -> pl.LazyFrame:
    """Return all rows of some entities, in their order, read once."""
    entities = entities.unique(maintain_order=True)
    return rows.join(entities.lazy(), on=entities.columns, how="semi", maintain_order="left").collect().lazy()


def _states_with_gaps(source: pl.DataFrame, keys: list[str], time: str) -> pl.DataFrame:
    """Return the instants at which an entity's row was known while an older one was still to come.

    One row a state: the keys, the instant, the newest time known then, how many rows were known, and the state's
    number among those of its entity.
    """
    ordered = source.lazy().filter(pl.all_horizontal(pl.col(*keys, time).is_not_null())).sort(USABLE)
    return (
        ordered.with_columns(
            pl.col(time).cum_max().over(keys).alias(_NEWEST),
            pl.col(time).cum_min(reverse=True).shift(-1).over(keys).alias(_PENDING),
            pl.col(USABLE).shift(-1).over(keys).alias(_NEXT),
            pl.int_range(1, pl.len() + 1).over(keys).alias(_ROWS),
        )
        .filter((pl.col(_NEXT) > pl.col(USABLE)) & (pl.col(_PENDING) <= pl.col(_NEWEST)))
        .select(*keys, pl.col(USABLE).alias(_AT), _NEWEST, _ROWS)
        .with_columns(pl.int_range(pl.len()).over(keys).alias(_NUMBER))
        .collect()
    )


def _own(result: pl.DataFrame, source: pl.DataFrame, keys: list[str], time: str, known: str) -> pl.DataFrame | None:
    """Return the result with when each row's own source row was known, as far as that can be told."""
    at = [*keys, time]
    if result.height == source.height and result.select(at).equals(source.select(at)):
        own = source.get_column(known).alias(_OWN)
        return result.with_columns(
            pl.max_horizontal(own, OWN_KNOWN).alias(_OWN) if OWN_KNOWN in result.columns else own
        )
    if OWN_KNOWN in result.columns:
        return result.with_columns(pl.col(OWN_KNOWN).alias(_OWN))
    return None


def _holds(gaps: pl.DataFrame, some: pl.LazyFrame, run: Run, view: FeatureView) -> bool:
    """Tell whether rows come out the same when older ones are still to come, in one state of each of some entities."""
    keys, time, known = list(view.keys), view.time, str(view.table.known)
    some = some.join(gaps.unique().lazy(), on=keys, how="semi", maintain_order="left")
    source = some.select(*keys, time, pl.max_horizontal(time, known).alias(USABLE), known).collect()
    own = _own(run(some), source, keys, time, known)
    states = _states_with_gaps(source, keys, time)
    tried = states.filter(pl.col(_NUMBER) == pl.col(_NUMBER).max().over(keys) // 2)
    if own is None or tried.is_empty():
        return False
    then = run(_known_then(some, tried, keys, time, known))
    at = pl.col(_AT)
    claimed = own.lazy().join(tried.lazy(), on=keys, maintain_order="left").filter(pl.max_horizontal(time, _OWN) <= at)
    features = [name for name in own.columns if name not in (*keys, time, OWN_KNOWN, _OWN)]
    return same_values(claimed.collect(), then, at=[*keys, time], features=features)


def _depends_on_others(
    result: pl.DataFrame, rows: pl.LazyFrame, run: Run, keys: list[str], time: str, features: Sequence[str]
) -> bool:
    """Tell whether an entity's values come out differently when every second entity is not there."""
    some = rows.select(keys).unique(maintain_order=True).gather_every(2).collect()
    alone = run(rows.join(some.lazy(), on=keys, how="semi", maintain_order="left"))
    among_all = result.join(some, on=keys, how="semi")
    return not differing(among_all, alone, at=[*keys, time], features=features).head(1).collect().is_empty()


def _waiting(result: pl.DataFrame, source: pl.DataFrame, keys: list[str], time: str) -> pl.LazyFrame:
    """Let each row count from when all rows up to its time were known."""
    latest = pl.col(USABLE).cum_max()
    known = source.lazy().select(*keys, time, (latest.over(keys) if keys else latest).alias(USABLE))
    has_own = OWN_KNOWN in result.columns
    # Of rows at one time the join takes the last, whose cumulative maximum holds for all of them.
    ordered = result.lazy().sort(OWN_KNOWN, maintain_order=True) if has_own else result.lazy()
    return (
        ordered.sort(time, maintain_order=True)
        .join_asof(known, on=time, by=keys or None, strategy="backward", check_sortedness=False)
        .with_columns(pl.max_horizontal(time, USABLE, *([OWN_KNOWN] if has_own else [])).alias(KNOWN))
    )


def _again(
    states: pl.DataFrame, rows: pl.LazyFrame, run: Run, view: FeatureView, columns: Sequence[str]
) -> list[pl.DataFrame]:
    """Run the function over what was known in each state: one run for the first state of every entity, and so on."""
    keys, time, known = list(view.keys), view.time, str(view.table.known)
    if states.is_empty():
        return []
    work, most = states.select(pl.col(_ROWS).sum(), pl.col(_NUMBER).max() + 1).row(0)
    if work > _MOST_ROWS or most > _MOST_STATES:
        raise TooManyLateRowsError(view.name, most, work)
    late = rows_of(states.select(keys), rows)
    found = []
    for (_,), state in states.group_by(_NUMBER, maintain_order=True):
        then = run(_known_then(late, state, keys, time, known))
        own = pl.col(OWN_KNOWN) if OWN_KNOWN in then.columns else pl.col(time)
        newest = (
            then.lazy()
            .join(state.lazy(), on=keys, how="inner", maintain_order="left")
            .filter((pl.col(time) <= pl.col(_NEWEST)) & (own <= pl.col(_AT)))
            .sort(own, maintain_order=True)
            .sort(time, maintain_order=True)
            .unique(keys, keep="last", maintain_order=True)
        )
        found.append(newest.with_columns(pl.col(_AT).alias(KNOWN)).select(columns).collect())
    return found


def _known_then(rows: pl.LazyFrame, states: pl.DataFrame, keys: list[str], time: str, known: str) -> pl.LazyFrame:
    names = rows.collect_schema().names()
    then = rows.join(states.lazy().select(*keys, _AT), on=keys, how="inner", maintain_order="left")
    return then.filter(pl.max_horizontal(time, known) <= pl.col(_AT)).select(names)
