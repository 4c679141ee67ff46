"""Writes values into the online store as they arrive, before the next materialisation computes them from a table."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from flyball.core.clock import Clock
from flyball.core.durations import from_us, parse_instant
from flyball.core.errors import InvalidInputError
from flyball.domain.data.schemas import Schema, SchemaMismatchError
from flyball.domain.features.online import OnlineReader, view_key
from flyball.domain.features.rows import encode_rows
from flyball.domain.features.training_sets import ViewRef
from flyball.storage.online.port import OnlineRow, OnlineStore

if TYPE_CHECKING:
    import polars as pl

EVENT_TIMESTAMP, CREATED = "event_timestamp", "created"
"""What Feast's clients call the two times, whatever the table calls them."""
_KNOWN = "\0known"


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
            InvalidInputError: A column is missing, unknown, or of another type or length; nothing is written.
            NotMaterialisedError: The version was never materialised, so that its columns are not known.
            BackendUnavailableError: The store did not answer; the caller pushes again.
        """
        layout = self._reader.layout(view.name, view.version)
        times = time if time in columns else EVENT_TIMESTAMP
        _check_columns(view, times, layout.columns, columns)
        frame = self._frame(layout.keys, layout.columns, times, columns)
        rows = encode_rows(frame, view.keys, times, _KNOWN, layout.columns)
        key = view_key(view.name, view.version)
        # In this order: a replacement that runs meanwhile takes the pushed rows over after its own.
        self._online.write(pushed_key(key), rows)
        return self._online.write(key, rows)

    def _frame(self, keys: Schema, features: Schema, time: str, columns: Mapping[str, Sequence[Any]]) -> "pl.DataFrame":
        import polars as pl

        read = {
            field.name: [_seconds(value) if field.dtype == "datetime" else value for value in columns[field.name]]
            for field in features.fields
        }
        read |= {field.name: [_key_value(value, field.dtype) for value in columns[field.name]] for field in keys.fields}
        schema = Schema((*keys.fields, *features.fields))
        height = len(columns[time])
        rows = [{name: values[number] for name, values in read.items()} for number in range(height)]
        try:
            frame = schema.frame(rows)
        except SchemaMismatchError as error:
            raise InvalidInputError(f"the pushed rows do not fit: {'; '.join(error.problems)}") from error
        nulls = [key for key in keys.names if frame.get_column(key).null_count()]
        if nulls:
            raise InvalidInputError(f"the key {nulls[0]!r} is null in a pushed row")
        instants = [_instant(value, number) for number, value in enumerate(columns[time])]
        us = pl.Datetime("us", "UTC")
        return frame.with_columns(
            pl.Series(time, instants, dtype=us), pl.Series(_KNOWN, [self._clock.now()] * height, dtype=us)
        )


def pushed_rows(online: OnlineStore, key: str) -> list[OnlineRow]:
    """Return the pushed rows of a view's version."""
    return list(online.scan(pushed_key(key)))


def _check_columns(view: ViewRef, time: str, features: Schema, columns: Mapping[str, Sequence[Any]]) -> None:
    needed = [*view.keys, time, *features.names]
    missing = [name for name in needed if name not in columns]
    unknown = [name for name in columns if name not in {*needed, CREATED}]
    if missing or unknown:
        told = [f"lack the column {name!r}" for name in missing] + [
            f"have {name!r}, which it lacks" for name in unknown
        ]
        raise InvalidInputError(
            f"rows pushed to the feature view {view.name!r} {' and '.join(told[:5])}",
            hint=f"Its columns are: {', '.join(needed)}.",
        )
    heights = {name: len(values) for name, values in columns.items()}
    if len(set(heights.values())) > 1:
        raise InvalidInputError(
            f"pushed columns need one length, but {', '.join(f'{name} has {rows:,}' for name, rows in heights.items())}"
        )


def _instant(value: Any, number: int) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        return parse_instant(value, what=f"the time of row {number}")
    raise InvalidInputError(
        f"row {number} was pushed with the time {value!r}", hint='Write it as "2026-03-01T14:05:00Z".'
    )


def _seconds(value: Any) -> Any:
    """Return the instant of seconds since 1970, as Feast's clients send them; other values as they are."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return from_us(round(value * 1_000_000))
    return value


def _key_value(value: Any, dtype: str) -> Any:
    """Return a key as its column has it where JSON wrote it otherwise."""
    if dtype == "int" and isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return value
    if dtype == "string" and isinstance(value, int | date) and not isinstance(value, bool):
        return str(value)
    return value
