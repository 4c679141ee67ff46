"""Messages as rows: JSON objects, of which declared fields are columns."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import polars as pl

from flyball.core.errors import InvalidInputError
from flyball.storage.tables.topics import Message

_TIME = pl.Datetime("us", "UTC")
_INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_TYPES: dict[str, tuple[Any, pl.DataType]] = {
    "int": (_INT64, pl.Int64()),
    "float": (float, pl.Float64()),
    "string": (str, pl.String()),
    "bool": (bool, pl.Boolean()),
    "datetime": (datetime, _TIME),
    "date": (date, pl.Date()),
}
_ABOUT: dict[str, pl.DataType] = {
    "kafka_partition": pl.Int64(),
    "kafka_offset": pl.Int64(),
    "kafka_time": _TIME,
    "kafka_key": pl.String(),
}
_REJECTED: dict[str, pl.DataType] = {**_ABOUT, "reason": pl.String(), "value": pl.Binary()}
_MANY = 100
"""When none of so many messages is a row, the declaration does not fit them."""


class MessagesUnreadableError(InvalidInputError):
    """The messages of a topic are not what the table declares."""

    code = "data/messages-unreadable"

    def __init__(self, what: str, count: int, reason: str) -> None:
        super().__init__(
            f"none of the {count} new messages of the {what} is a row: {reason}",
            hint="Correct types= of the table; no message was taken.",
        )


class MessageBatch(NamedTuple):
    """What messages are: rows, and those that are none, each with its reason."""

    rows: list[tuple[Any, ...]]
    rejected: list[tuple[Any, ...]]

    @property
    def reason(self) -> str:
        """Why the first of the rejected ones is no row."""
        partition, offset, *_, reason, _value = self.rejected[0]
        return f"message {offset} of partition {partition}: {reason}"


class MessageReader:
    """Reads messages.

    Args:
        types: The fields that are columns, with their types. Other fields are left out, missing ones are null.
        time_zone: The zone of instants that name none; UTC by default.
        what: The table, for errors.

    Raises:
        InvalidInputError: No field is declared, or one has the name of a column that each message has.
    """

    def __init__(self, types: Mapping[str, str], *, time_zone: str | None, what: str) -> None:
        taken = sorted(set(types) & set(_ABOUT))
        if not types or taken:
            problem = f"names {taken[0]!r}, a column that every row has" if taken else "does not say its columns"
            raise InvalidInputError(
                f"types= of the {what} {problem}",
                hint='Name the fields of the messages: types={"customer_id": "int", "at": "datetime"}.',
            )
        self._what = what
        self._zone = ZoneInfo(time_zone) if time_zone else UTC
        fields = [(f"f{n}", _TYPES[dtype][0] | None, None) for n, dtype in enumerate(types.values())]
        renamed = {f"f{n}": name for n, name in enumerate(types)}
        self._names = [name for name, *_ in fields]
        self._times = {name for name, dtype in zip(self._names, types.values(), strict=True) if dtype == "datetime"}
        self._decoder = msgspec.json.Decoder(msgspec.defstruct("Row", fields, rename=renamed))
        self.schema = pl.Schema({**{name: _TYPES[dtype][1] for name, dtype in types.items()}, **_ABOUT})
        self.rejected_schema = pl.Schema(_REJECTED)

    def read(self, messages: Iterable[Message]) -> MessageBatch:
        """Return what messages are, in the order of their partitions and offsets."""
        batch = MessageBatch([], [])
        for message in sorted(messages, key=lambda one: one[:2]):
            about = (message.partition, message.offset, _instant(message.time_ms), _text(message.key))
            try:
                batch.rows.append((*self._fields(message.value), *about))
            except (msgspec.DecodeError, ValueError) as error:
                batch.rejected.append((*about, str(error), message.value))
        return batch

    def require_some(self, batch: MessageBatch, *, is_first: bool) -> None:
        """Refuse messages of which none is a row, where that cannot be an accident.

        Raises:
            MessagesUnreadableError: They are the first ones of the table, or many.
        """
        if batch.rejected and not batch.rows and (is_first or len(batch.rejected) >= _MANY):
            raise MessagesUnreadableError(self._what, len(batch.rejected), batch.reason)

    def _fields(self, value: bytes | None) -> Sequence[Any]:
        if value is None:
            raise ValueError("it has no value")
        row = self._decoder.decode(value)
        if not self._times:
            return [getattr(row, name) for name in self._names]
        return [self._placed(getattr(row, name)) if name in self._times else getattr(row, name) for name in self._names]

    def _placed(self, at: datetime | None) -> datetime | None:
        if at is None:
            return None
        if at.tzinfo is not None:
            return at.astimezone(UTC)
        there = at.replace(tzinfo=self._zone)
        instant = there.astimezone(UTC)
        if instant.astimezone(self._zone).replace(tzinfo=None) != at:
            raise ValueError(f"{at.isoformat()} never was in {self._zone}")
        return instant


def _instant(time_ms: int | None) -> datetime | None:
    return None if time_ms is None else datetime.fromtimestamp(time_ms / 1000, UTC)


def _text(key: bytes | None) -> str | None:
    return None if key is None else key.decode("utf-8", "backslashreplace")
