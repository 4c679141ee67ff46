"""Writes values into the online store as they arrive, before the next materialisation computes them from a table."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from types import NoneType
from typing import Annotated, Any

import msgspec

from flyball.core.clock import Clock
from flyball.core.durations import format_instant, from_us, parse_instant, to_us
from flyball.core.errors import InvalidInputError
from flyball.domain.data.schemas import DType, Field, Schema, article, read_instant
from flyball.domain.features.online import OnlineReader, view_key
from flyball.domain.features.rows import encode_columns
from flyball.domain.features.training_sets import ViewRef
from flyball.storage.online.port import OnlineRow, OnlineStore

EVENT_TIMESTAMP, CREATED = "event_timestamp", "created"
"""What Feast's clients call the two times, whatever the table calls them."""
_AHEAD = timedelta(minutes=5)
"""How far the clocks of those who push may be ahead of ours."""
_FEW = 100
_LARGEST = 2**63 - 1
_Int64 = Annotated[int, msgspec.Meta(ge=-_LARGEST - 1, le=_LARGEST)]
_KINDS: dict[DType, Any] = {
    "int": list[_Int64 | None],
    "float": list[float | None],
    "string": list[str | None],
    "bool": list[bool | None],
    "datetime": list[None],
    "date": list[None],
}
"""What a column's values are where nothing is to be read; checked by msgspec in a quarter of the time of Python."""
_PLAIN: dict[DType, type] = {"float": float, "string": str, "bool": bool}


def pushed_key(key: str) -> str:
    """Return where the pushed rows of a view's version are kept besides, so that a materialisation keeps them."""
    return f"{key}#pushed"


class Pusher:
    """Puts pushed rows beside those that were materialised: of both, the newest row of an entity counts.

    Args:
        reader: Knows the columns of views.
        online: Keeps the newest rows.
        clock: Tells from when on a pushed row is known.
    """

    def __init__(self, reader: OnlineReader, online: OnlineStore, clock: Clock) -> None:
        self._reader = reader
        self._online = online
        self._clock = clock

    def push(self, view: ViewRef, time: str, columns: Mapping[str, Sequence[Any]]) -> int:
        """Write rows with a view's values; known from now on.

        Args:
            view: The view and its version.
            time: The view's time column; the rows may call it ``event_timestamp``.
            columns: Keys, time and every feature, in columns of one length; instants as ISO 8601 text, or as seconds
                since 1970 for features. A column ``created`` is taken and not needed.

        Returns:
            How many entities now have another row.

        Raises:
            InvalidInputError: A column is missing, unknown, or of another type or length, or a row is of the future;
                nothing is written.
            NotMaterialisedError: The version was never materialised, so that its columns are not known.
            BackendUnavailableError: The store did not answer; the caller pushes again.
        """
        layout = self._reader.layout(view.name, view.version)
        times = time if time in columns else EVENT_TIMESTAMP
        _check_columns(view, times, layout.columns, columns)
        problems: list[str] = []
        keys = [_read_column(columns[field.name], field, problems, is_key=True) for field in layout.keys.fields]
        values = [_read_column(columns[field.name], field, problems) for field in layout.columns.fields]
        if problems:
            raise InvalidInputError(f"rows pushed to the feature view {view.name!r} do not fit: {'; '.join(problems)}")
        times_us = _read_times(columns[times])
        now = self._clock.now()
        _require_past(view, times_us, to_us(now + _AHEAD))
        rows = encode_columns(keys, times_us, to_us(now), layout.tag, values)
        key = view_key(view.name, view.version)
        return self._online.write(key, rows, copy=pushed_key(key))


def pushed_rows(online: OnlineStore, key: str) -> list[OnlineRow]:
    """Return the pushed rows of a view's version."""
    return list(online.scan(pushed_key(key)))


def _check_columns(view: ViewRef, time: str, features: Schema, columns: Mapping[str, Sequence[Any]]) -> None:
    needed = [*view.keys, time, *features.names]
    known = {*needed, CREATED}
    missing = [name for name in needed if name not in columns]
    unknown = [name for name in columns if name not in known]
    if missing or unknown:
        told = [f"lack the column {name!r}" for name in missing] + [
            f"have {name!r}, which it lacks" for name in unknown
        ]
        raise InvalidInputError(
            f"rows pushed to the feature view {view.name!r} {' and '.join(told[:5])}",
            hint=f"Its columns are: {', '.join(needed)}.",
        )
    if len(set(map(len, columns.values()))) > 1:
        heights = {name: len(values) for name, values in columns.items()}
        raise InvalidInputError(
            f"pushed columns need one length, but {', '.join(f'{name} has {rows:,}' for name, rows in heights.items())}"
        )


def _require_past(view: ViewRef, times_us: Sequence[int], until_us: int) -> None:
    """Refuse rows of the future: none of their entities would have features until then, whatever is pushed later."""
    latest = max(times_us, default=until_us)
    if latest > until_us:
        raise InvalidInputError(
            f"row {times_us.index(latest)} was pushed to the feature view {view.name!r} with the time "
            f"{format_instant(from_us(latest))}, which has not come yet",
            hint="Push the time at which the values held; one that names no zone is taken as UTC.",
        )


def _read_column(values: Sequence[Any], field: Field, problems: list[str], *, is_key: bool = False) -> Sequence[Any]:
    """Return a column's values in its type, or note what is wrong with them."""
    if not isinstance(values, list | tuple):
        values = _to_list(values)
    if is_key and None in values:
        problems.append(f"the key {field.name!r} is null")
        return values
    if len(values) <= _FEW and _are_plain(values, field.dtype):
        return values
    try:
        taken: Sequence[Any] = msgspec.convert(values, _KINDS[field.dtype])
    except msgspec.ValidationError:
        return _read_values(values, field, problems, is_key=is_key)
    return taken


def _are_plain(values: Sequence[Any], dtype: DType) -> bool:
    """Tell whether values are surely those of a column; for a few of them msgspec takes longer."""
    types = set(map(type, values))
    if dtype == "int":
        return types == {int} and min(values) >= -_LARGEST - 1 and max(values) <= _LARGEST
    return types == {_PLAIN.get(dtype)}


def _to_list(values: Any) -> list[Any]:
    """Return the values of a column of NumPy, pandas or Polars as Python has them."""
    if _is_series(values) and len(values) > _FEW and values.dtype.is_numeric() and not values.null_count():
        values = values.to_numpy()  # whose lists take a fifth of the time
    for method in ("tolist", "to_list"):
        if hasattr(values, method):
            return list(getattr(values, method)())
    return list(values)


def _is_series(values: Any) -> bool:
    """Tell whether a column is one of Polars, without loading it."""
    polars = sys.modules.get("polars")
    return polars is not None and isinstance(values, polars.Series)


def _read_values(values: Sequence[Any], field: Field, problems: list[str], *, is_key: bool) -> Sequence[Any]:
    """Return values that are not all as their column has them."""
    if field.dtype == "int" and set(map(type, values)) <= {int, NoneType}:
        problems.append(f"column {field.name!r} holds a value that is too large")
        return values
    try:
        return [None if value is None else _read_value(value, field, is_key=is_key) for value in values]
    except (ValueError, TypeError, OverflowError, InvalidInputError):
        problems.append(f"column {field.name!r} holds a value that is not {article(field.dtype)}")
        return values


def _read_value(value: Any, field: Field, *, is_key: bool) -> Any:
    """Return a value that JSON wrote otherwise than its column has it."""
    kind = type(value)
    if field.dtype == "float" and kind is str and value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    if field.dtype == "int" and (kind is int or (kind is float and value.is_integer()) or (is_key and kind is str)):
        return msgspec.convert(int(value), _Int64)
    if field.dtype == "string" and is_key and kind in (int, date):
        return str(value)
    if field.dtype == "datetime" and kind in (int, float):
        return from_us(round(value * 1_000_000))  # seconds, as Feast's clients send them
    if field.dtype == "datetime":
        return read_instant(value, "datetime", field.name)
    if field.dtype == "date":
        day = read_instant(value, "date", field.name)
        return None if day is None else day.isoformat()
    raise TypeError(kind)


def _read_times(values: Sequence[Any]) -> list[int]:
    """Return instants in microseconds."""
    if _is_series(values) and str(values.dtype).startswith("Datetime") and not values.null_count():  # type: ignore[attr-defined]
        return list(values.dt.epoch("us").to_list())  # type: ignore[attr-defined]
    if not isinstance(values, list | tuple):
        values = _to_list(values)
    if values and values.count(values[0]) == len(values):  # as rows of one batch often have it
        return [_read_time(values[0], 0)] * len(values)
    return [_read_time(value, number) for number, value in enumerate(values)]


def _read_time(value: Any, number: int) -> int:
    if isinstance(value, datetime):
        return to_us(value if value.tzinfo is not None else value.replace(tzinfo=UTC))
    if isinstance(value, str):
        return to_us(parse_instant(value, what=f"the time of row {number}"))
    raise InvalidInputError(
        f"row {number} was pushed with the time {value!r}", hint='Write it as "2026-03-01T14:05:00Z".'
    )
