"""Aggregates over windows, put together from tiles: what an entity's rows of one span of time add up to."""

from collections.abc import Sequence

import polars as pl

from flyball.core.errors import InvalidInputError, UnknownNameError
from flyball.domain.features.aggregates import AggregatedView, Aggregation
from flyball.domain.features.point_in_time import USABLE

_TIME = pl.Datetime("us", "UTC")
_END, _FROM = "__end", "__from"
_FIRST, _LAST, _CHANGE = "__first", "__last", "__change"
_PAIRS_AT_ONCE = 20_000_000


def tiles_of(view: AggregatedView, rows: pl.LazyFrame) -> pl.DataFrame:
    """Return what rows add up to, by entity, the end of their span and from when on they were known.

    Tiles add up: those of some rows and those of others, one below the other, are those of all.

    Args:
        view: The view.
        rows: Rows of its table, in any order.

    Returns:
        Keys, the span's end, from when the rows count, and the parts of each aggregation.
    """
    keys, time, known = list(view.keys), view.time, view.table.known
    schema = rows.collect_schema()
    for part in view.aggregations:
        if part.column not in schema:
            raise UnknownNameError(f"column of {view.table.label}", part.column, schema.names())
        if part.function in ("sum", "mean", "std") and not schema[part.column].is_numeric():
            raise InvalidInputError(
                f"feature view {view.name!r} cannot make the {part.function} of {part.column!r}, "
                f"which is {schema[part.column]}",
                hint="Use count, min, max, last or count_distinct, or convert it in the table's prepare= function.",
            )
    usable = pl.max_horizontal(time, known) if known else pl.col(time)
    every = view.every_us
    end = -((-pl.col(time).dt.timestamp("us")) // every) * every
    present = [*keys, time, *([known] if known else [])]  # nobody asks about an entity without a key
    timed = (
        rows.filter(pl.all_horizontal(pl.col(present).is_not_null()))
        .with_columns(end.cast(_TIME).alias(_END), usable.alias(USABLE))
        .with_columns(pl.max_horizontal(_END, USABLE).alias(_FROM))
    )
    tiles = timed.group_by([*keys, _END, _FROM]).agg(
        part for column, functions in _needed(view).items() for part in _parts(column, functions, time)
    )
    return tiles.sort(*keys, _END, _FROM).collect()


def aggregate_rows(view: AggregatedView, rows: pl.LazyFrame) -> pl.LazyFrame:
    """Return the features at each instant at which one of them changes: keys, time and features."""
    return aggregate_tiles(view, tiles_of(view, rows)).lazy()


def aggregate_tiles(view: AggregatedView, tiles: pl.DataFrame) -> pl.DataFrame:
    """Return what tiles make of each instant at which a feature changes: keys, time and features, sorted by time."""
    keys = list(view.keys)
    windows = sorted({part.window_us for part in view.aggregations})
    changes = [
        tiles.select(*keys, pl.col(_FROM).alias(_CHANGE)),
        *(tiles.select(*keys, (pl.col(_END) + pl.duration(microseconds=length)).alias(_CHANGE)) for length in windows),
    ]
    instants = pl.concat(changes).unique().sort(*keys, _CHANGE)
    found = instants
    for length in windows:
        parts = [part for part in view.aggregations if part.window_us == length]
        found = found.hstack(_over(keys, tiles, instants, length, parts))
    names = [part.name for part in view.aggregations]
    return found.rename({_CHANGE: view.time}).select(*keys, view.time, *names).sort(view.time, maintain_order=True)


def extend_features(
    view: AggregatedView, before: pl.DataFrame, tiles: pl.DataFrame, added: pl.DataFrame
) -> pl.DataFrame:
    """Return what `aggregate_tiles` would, computing only the entities anew that tiles were added to.

    Args:
        view: The view.
        before: What `aggregate_tiles` returned for the other tiles.
        tiles: All tiles.
        added: Those among them that are new.
    """
    keys = list(view.keys)
    touched = added.select(keys).unique()
    kept = before.join(touched, on=keys, how="anti", maintain_order="left")
    again = aggregate_tiles(view, tiles.join(touched, on=keys, how="semi", maintain_order="left"))
    return pl.concat([kept.select(again.columns).cast(again.schema), again]).sort(view.time, maintain_order=True)


def _over(
    keys: list[str], tiles: pl.DataFrame, instants: pl.DataFrame, length: int, parts: Sequence[Aggregation]
) -> pl.DataFrame:
    """Return the features of one window at each instant: each tile counts at the instants from its own to its last."""
    numbered = instants.with_row_index(_FIRST)
    ends = tiles.select(*keys, (pl.col(_END) + pl.duration(microseconds=length)).alias(_LAST))
    first, last = _places(keys, numbered, tiles, _FROM), _places(keys, numbered, ends, _LAST)
    spans = tiles.drop(_END, _FROM, *keys).with_columns(first, last.alias(_LAST)).filter(pl.col(_FIRST) < pl.col(_LAST))
    answers = []
    for chunk in _chunks(spans):
        pairs = chunk.with_columns(pl.int_ranges(_FIRST, _LAST).alias(_CHANGE)).explode(_CHANGE)
        answers.append(pairs.group_by(_CHANGE).agg(_combine(part).alias(part.name) for part in parts))
    names = [part.name for part in parts]
    empty = [pl.col(part.name).fill_null(0) for part in parts if part.function in ("sum", "count", "count_distinct")]
    every = pl.DataFrame({_CHANGE: pl.int_range(instants.height, eager=True)})
    if not answers:
        answers = [
            spans.select(
                pl.lit(0, dtype=pl.Int64).alias(_CHANGE), *(_combine(part).alias(part.name) for part in parts)
            ).clear()
        ]
    return (
        every.join(pl.concat(answers), on=_CHANGE, how="left", maintain_order="left").with_columns(empty).select(names)
    )


def _places(keys: list[str], numbered: pl.DataFrame, tiles: pl.DataFrame, column: str) -> pl.Series:
    """Return the number of each tile's instant."""
    at = [*keys, column]
    return tiles.select(at).join(numbered, left_on=at, right_on=[*keys, _CHANGE], how="left", maintain_order="left")[
        _FIRST
    ]


def _chunks(spans: pl.DataFrame) -> list[pl.DataFrame]:
    """Divide tiles so that few enough pairs are in memory; all tiles of an entity stay together.

    The instants of entities follow each other, so a chunk may end where the next tile begins after all before it end.
    """
    if spans.select((pl.col(_LAST) - pl.col(_FIRST)).sum()).item() <= _PAIRS_AT_ONCE:
        return [spans] if spans.height else []
    ordered = spans.sort(_FIRST, maintain_order=True).with_columns(
        (pl.col(_LAST) - pl.col(_FIRST)).cum_sum().alias("__pairs"),
        (pl.col(_FIRST) >= pl.col(_LAST).cum_max().shift()).fill_null(True).alias("__starts"),
    )
    chunk = (pl.when("__starts").then(pl.col("__pairs") // _PAIRS_AT_ONCE)).forward_fill().alias("__chunk")
    parts = ordered.with_columns(chunk).partition_by("__chunk", maintain_order=True)
    return [part.drop("__pairs", "__starts", "__chunk") for part in parts]


def _needed(view: AggregatedView) -> dict[str, list[str]]:
    needed: dict[str, list[str]] = {}
    for part in view.aggregations:
        if part.function not in needed.setdefault(part.column, []):
            needed[part.column].append(part.function)
    return needed


def _parts(column: str, functions: Sequence[str], time: str) -> list[pl.Expr]:
    values = pl.col(column)
    number = values.cast(pl.Float64)
    found = {"count": values.count()}
    for function in functions:
        if function in ("min", "max", "sum"):
            found[function] = getattr(values, function)()
        elif function in ("mean", "std"):
            found["mean"] = number.mean()
            found["squares"] = ((number - number.mean()) ** 2).sum()
        elif function == "last":
            newest = values.filter(values.is_not_null()).sort_by(pl.col(time).filter(values.is_not_null()))
            found["last"] = newest.last()
            found["last_time"] = pl.col(time).filter(values.is_not_null()).max()
        elif function == "count_distinct":
            found["values"] = values.drop_nulls().unique()
    return [part.alias(f"{column}\0{name}") for name, part in found.items()]


def _combine(part: Aggregation) -> pl.Expr:
    def of(name: str) -> pl.Expr:
        return pl.col(f"{part.column}\0{name}")

    counts = of("count")
    mean = (of("mean") * counts).sum() / counts.sum()
    match part.function:
        case "sum" | "count":
            return of(part.function).sum()
        case "min":
            return of("min").min()
        case "max":
            return of("max").max()
        case "mean":
            return pl.when(counts.sum() > 0).then(mean)
        case "std":
            between = (counts * (of("mean") - mean) ** 2).sum()
            return pl.when(counts.sum() > 1).then(((of("squares").sum() + between) / (counts.sum() - 1)).sqrt())
        case "last":
            has_value = of("last_time").is_not_null()
            return of("last").filter(has_value).sort_by(of("last_time").filter(has_value)).last()
        case _:
            return of("values").explode().drop_nulls().n_unique()
