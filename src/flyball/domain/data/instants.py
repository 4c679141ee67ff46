"""Columns of instants: text, dates and local times become UTC microseconds, or a refusal that names the row."""

from datetime import timedelta

import polars as pl

from flyball.core.errors import InvalidInputError

UTC_US = pl.Datetime("us", "UTC")
_FORMATS = (
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
    "%Y%m%dT%H%M%S",
    "%Y%m%d",
)
_ZONE = r"[T ]\d{2}:?\d{2}.*?(Z|[+-]\d{2}(?::?\d{2})?)$"
_ZONE_END = r"(Z|[+-]\d{2}(:?\d{2})?)$"


class InstantUnreadableError(InvalidInputError):
    """A row of a time column holds no instant."""

    code = "data/instant-unreadable"

    def __init__(self, what: str, column: str, row: int, value: str | None, expected: str) -> None:
        given = "is empty" if value is None else f"holds {value!r}, which is not {expected}"
        super().__init__(
            f"column {column!r} of the {what} {given}, in row {row:,}",
            hint='Correct the row, say how times are written with time_format="%m/%d/%Y", or convert them in prepare=.',
        )


class MixedTimeZonesError(InvalidInputError):
    """A column of instants mixes time zones."""

    code = "data/mixed-time-zones"

    def __init__(self, what: str, column: str, first: tuple[int, str], second: tuple[int, str]) -> None:
        super().__init__(
            f"column {column!r} of the {what} mixes time zones: {first[1]!r} in row {first[0]:,}, "
            f"{second[1]!r} in row {second[0]:,}",
            hint="Write all rows in one zone, or convert the column to UTC in prepare=.",
        )


class NoSuchTimeError(InvalidInputError):
    """A local time was skipped when clocks were put forward."""

    code = "data/no-such-time"

    def __init__(self, what: str, column: str, row: int, value: object, zone: str) -> None:
        super().__init__(
            f"column {column!r} of the {what} holds {value} in row {row:,}, which never was in {zone}: clocks were put "
            "forward over it",
            hint="Correct the row, or the table's time_zone=; times that were twice count as the first.",
        )


def is_instant_dtype(dtype: pl.DataType) -> bool:
    """Tell whether a column of this type needs no parsing: only its unit and zone are converted, when it is read."""
    return isinstance(dtype, pl.Datetime) or dtype == pl.Date


def to_utc(column: str, dtype: pl.DataType) -> pl.Expr:
    """Convert a column of instants or dates to UTC microseconds; what has no zone is UTC already."""
    values = pl.col(column)
    if dtype == UTC_US:
        return values
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return values.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    return values.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def plan_instants(
    frame: pl.LazyFrame, column: str, *, time_format: str | None, what: str, zone: str | None = None
) -> pl.Expr:
    """Return the expression that makes a column UTC microseconds, after looking at every row of it.

    Args:
        frame: Holds the column.
        column: Instants, dates or text; with a format also whole numbers, such as 20260301.
        time_format: How text is written, in the signs of ``strftime``; ISO 8601 without it.
        what: The table, for errors.
        zone: The time zone of times that name none, such as ``Europe/Berlin``; UTC without it.

    Raises:
        NoSuchTimeError: Clocks were put forward over a time in its zone.
        InstantUnreadableError: A row is empty or cannot be read.
        MixedTimeZonesError: Rows name different zones, or only some of them name one.
        InvalidInputError: The column holds neither text nor instants.
    """
    dtype = frame.collect_schema()[column]
    values = frame.select(column).collect().to_series()
    if (row := values.is_null().arg_max()) is not None and values.null_count():
        raise InstantUnreadableError(what, column, row + 1, None, "")
    if is_instant_dtype(dtype):
        is_local = isinstance(dtype, pl.Datetime) and dtype.time_zone is None
        return _from_zone(to_utc(column, dtype), values, column, zone, what) if is_local else to_utc(column, dtype)
    if dtype != pl.String and not (dtype.is_integer() and time_format):
        raise InvalidInputError(
            f"column {column!r} of the {what} holds {dtype}, not instants",
            hint='Say how times are written with time_format="%Y%m%d", or convert them in prepare=.',
        )
    texts = values.cast(pl.String)
    if time_format:
        has_zone = any(sign in time_format for sign in ("%z", "%:z", "%#z", "%Z"))
        planned = _plan_format(texts, column, time_format, what)
    else:
        has_zone = bool(texts.str.contains(_ZONE).any())
        planned = _plan_iso(texts, column, what)
    return planned if has_zone else _from_zone(planned, texts, column, zone, what)


def _from_zone(planned: pl.Expr, values: pl.Series, column: str, zone: str | None, what: str) -> pl.Expr:
    """Take local times for what they are; of a time that was twice, in autumn, the first is meant."""
    if zone is None:
        return planned
    naive = planned.dt.replace_time_zone(None)
    local = naive.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    missing = values.to_frame(column).select(local.is_null()).to_series()
    if missing.any():
        row = missing.arg_max() or 0
        raise NoSuchTimeError(what, column, row + 1, values[row], zone)
    return local.dt.convert_time_zone("UTC").dt.cast_time_unit("us").alias(column)


def _plan_format(texts: pl.Series, column: str, time_format: str, what: str) -> pl.Expr:
    text = pl.col(column).cast(pl.String)
    has_zone = "%z" in time_format or "%:z" in time_format or "%#z" in time_format
    parsed = _parse(text, time_format, has_zone=has_zone)
    _require_parsed(texts, parsed, column, f"of the format {time_format!r}", what)
    return parsed.alias(column)


def _plan_iso(texts: pl.Series, column: str, what: str) -> pl.Expr:
    zones = texts.str.extract(_ZONE).fill_null("").str.replace("^Z$", "+00:00").str.replace_all(":", "")
    zones = pl.select(pl.when(zones.str.len_chars() == 3).then(zones + "00").otherwise(zones)).to_series()
    if zones.n_unique() > 1:
        other = (zones != zones[0]).arg_max() or 0
        raise MixedTimeZonesError(what, column, (1, texts[0]), (other + 1, texts[other]))
    zone = str(zones[0]) if len(zones) else ""
    text = pl.col(column).str.replace(_ZONE_END, "") if zone else pl.col(column)
    left, used = texts.to_frame(column), []
    for time_format in _FORMATS:
        unread = left.filter(_parse(text, time_format).is_null())
        if unread.height < left.height:
            used.append(time_format)
        left = unread
        if not left.height:
            break
    parsed = pl.coalesce([_parse(text, time_format) for time_format in used or _FORMATS[:1]]) - _offset(zone)
    _require_parsed(texts, parsed, column, "an ISO 8601 instant", what)
    return parsed.alias(column)


def _parse(text: pl.Expr, time_format: str, *, has_zone: bool = False) -> pl.Expr:
    parsed = text.str.to_datetime(time_format, time_unit="us", strict=False, ambiguous="earliest")
    return parsed.dt.convert_time_zone("UTC") if has_zone else parsed.dt.replace_time_zone("UTC")


def _offset(zone: str) -> timedelta:
    if not zone:
        return timedelta()
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5]))
    return -offset if zone.startswith("-") else offset


def _require_parsed(texts: pl.Series, parsed: pl.Expr, column: str, expected: str, what: str) -> None:
    unread = texts.to_frame(column).select(parsed.alias("parsed")).to_series().is_null()
    if unread.any():
        row = unread.arg_max() or 0
        raise InstantUnreadableError(what, column, row + 1, texts[row], expected)
