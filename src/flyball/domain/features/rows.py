"""Online rows as bytes: keys, and values in the order of a layout that each row names."""

import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from itertools import repeat
from typing import TYPE_CHECKING, Any

import msgspec

from flyball.core.durations import to_us
from flyball.core.errors import InvalidInputError
from flyball.domain.data.schemas import DType, Schema, read_instant
from flyball.storage.online.port import OnlineRow

if TYPE_CHECKING:
    import polars as pl

MARK = b"\x00materialised"
"""The key of the row that says what the others come from; keys of entities begin with another byte."""
_TAG_BYTES = 5
_PART = 10_000
_FEW = 100
_TAGGED = b"\xc1"  # begins no MessagePack
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Any]).decode
_decode_named = msgspec.msgpack.Decoder(dict[str, Any]).decode
Values = Sequence[Any]
_PLAIN: dict[DType, type] = {"int": int, "float": float, "string": str, "bool": bool}
_HEADER = struct.Struct(">BI")  # of an array in MessagePack
_ARRAY = 0xDD


class Layout:
    """The columns of a view's online rows, as they are now and as they were.

    Attributes:
        columns: The columns now; values come in their order.
        keys: The key columns; empty when their types were not recorded.
        places: The place of each column among the values.
        tag: What begins each row with these columns.
    """

    def __init__(self, columns: Schema, keys: Schema, former: Sequence[Schema] = ()) -> None:
        self.columns = columns
        self.keys = keys
        self._names = columns.names
        self.places = {name: place for place, name in enumerate(self._names)}
        self.tag = tag_of(columns)
        self._former = {tag_of(schema): schema.names for schema in former}
        self._readers = [_KEY_READERS.get(field.dtype, _as_it_is) for field in keys.fields]
        self._dates = [place for place, field in enumerate(columns.fields) if field.dtype == "date"]
        self._has_one_int = [field.dtype for field in keys.fields] == ["int"]
        self._decode_all = _rows_decoder(columns)

    def read(self, payload: bytes) -> Values | None:
        """Return a row's values in the order of `columns`, None for a column that it lacks.

        Returns:
            None for a row of a layout that came later.
        """
        if payload.startswith(self.tag):
            values = _decode(payload[_TAG_BYTES:])
            if not self._dates:
                return values
        else:
            named = self._read_named(payload)
            if named is None:
                return None
            values = [named.get(name) for name in self._names]
        for place in self._dates:  # MessagePack has no dates, only instants
            values[place] = read_instant(values[place], "date", self._names[place])
        return values

    def read_all(self, payloads: Sequence[bytes]) -> list[Values] | None:
        """Return the values of rows that are all of the columns as they are now and hold no null; None of others.

        That there is no null is found out while they are read, which costs nothing.
        """
        if self._decode_all is None or {payload[:_TAG_BYTES] for payload in payloads} != {self.tag}:
            return None
        values = b"".join([payload[_TAG_BYTES:] for payload in payloads])
        try:
            return self._decode_all(_HEADER.pack(_ARRAY, len(payloads)) + values)
        except msgspec.ValidationError:
            return None

    def _read_named(self, payload: bytes) -> dict[str, Any] | None:
        if payload[:1] != _TAGGED:  # as written before rows had layouts
            return _decode_named(payload)
        names = self._former.get(payload[:_TAG_BYTES])
        return None if names is None else dict(zip(names, _decode(payload[_TAG_BYTES:]), strict=True))

    def encode_keys(self, keys: Sequence[Sequence[Any]]) -> list[bytes | None]:
        """Return what `encode_key` does of each."""
        if self._has_one_int and {type(key[0]) for key in keys} == {int}:
            with suppress(OverflowError):
                return list(map(_encode, keys))
        return [self.encode_key(key) for key in keys]

    def encode_key(self, key: Sequence[Any]) -> bytes | None:
        """Return an asked entity's keys as the history's are stored; None where no entity can have them.

        A number may be asked as text and the reverse: JSON and URLs have no types for keys.
        """
        try:
            if self._has_one_int and type(key[0]) is int:
                return _encode((key[0],))
            if not self._readers:
                return encode_key(key)
            return encode_key([read(part) for read, part in zip(self._readers, key, strict=True)])
        except (ValueError, TypeError, OverflowError, InvalidInputError):
            return None


def _rows_decoder(columns: Schema) -> Callable[[bytes], list[Values]] | None:
    """Return what reads rows without nulls; None where a column's values are written as those of another type."""
    types = [_PLAIN.get(field.dtype) for field in columns.fields]
    if None in types:
        return None
    row: Any = tuple[tuple(types)]  # type: ignore[misc]
    return msgspec.msgpack.Decoder(list[row]).decode


def tag_of(columns: Schema) -> bytes:
    """Return what begins each row with these columns."""
    return _tag(tuple((field.name, field.dtype) for field in columns.fields))


@lru_cache(maxsize=1_000)
def _tag(columns: tuple[tuple[str, str], ...]) -> bytes:
    return _TAGGED + blake2b(_encode(columns), digest_size=_TAG_BYTES - 1).digest()


def encode_key(key: Sequence[Any]) -> bytes:
    """Return an entity's keys as bytes; equal values give equal bytes: 1 is 1.0, but not ``"1"``."""
    return _encode([int(part) if isinstance(part, float) and part.is_integer() else part for part in key])


def encode_columns(
    keys: Sequence[Sequence[Any]],
    event_times_us: Sequence[int],
    known_us: int,
    tag: bytes,
    values: Sequence[Values],
) -> list[OnlineRow]:
    """Return rows as the online store keeps them; from checked columns, since a frame takes longer for few rows."""
    is_int = len(keys) == 1 and set(map(type, keys[0])) <= {int}
    encoded_keys = map(_encode if is_int else encode_key, zip(*keys, strict=True))
    payloads = [tag + _encode(row) for row in zip(*values, strict=True)] if values else repeat(tag + _encode(()))
    return _rows(zip(encoded_keys, event_times_us, repeat(known_us), payloads))


def encode_rows(frame: "pl.DataFrame", keys: Sequence[str], time: str, usable: str, columns: Schema) -> list[OnlineRow]:
    """Return the rows of a frame as the online store keeps them."""
    if frame.is_empty():
        return []
    tag = tag_of(columns)
    is_int = len(keys) == 1 and frame.get_column(keys[0]).dtype.is_integer()
    encode = _encode if is_int else encode_key
    rows: list[OnlineRow] = []
    for part in frame.iter_slices(_PART):  # rows of Python take ten times the memory
        encoded_keys = map(encode, zip(*[_to_list(part.get_column(key)) for key in keys], strict=True))
        values = zip(*[_to_list(part.get_column(name)) for name in columns.names], strict=True)
        payloads = [tag + _encode(row) for row in values]
        event_times_us, known_us = (_to_us(part.get_column(name)) for name in (time, usable))
        rows += _rows(zip(encoded_keys, event_times_us, known_us, payloads, strict=True))
    return rows


def _to_list(column: "pl.Series") -> list[Any]:
    """Return a column's values as Python has them; by way of NumPy, a fifth of the time where it can hold them."""
    if len(column) > _FEW and column.dtype.is_numeric() and not column.null_count():
        found: list[Any] = column.to_numpy().tolist()
        return found
    return column.to_list()


def _to_us(column: "pl.Series") -> list[int]:
    """Return instants in microseconds."""
    if len(column) > _FEW:
        return _to_list(column.to_physical())
    return list(map(to_us, column.to_list()))  # of a few, Polars takes longer for the start of its engine


def _rows(rows: Iterable[tuple[bytes, int, int, bytes]]) -> list[OnlineRow]:
    # Without a call of Python for each.
    return list(map(tuple.__new__, repeat(OnlineRow), rows))


def mark_row(source: str, as_of_us: int) -> OnlineRow:
    """Return the row that says up to when, and from what, a view's rows are written."""
    return OnlineRow(MARK, as_of_us, as_of_us, source.encode())


def _as_it_is(part: Any) -> Any:
    return part


def _read_int(part: Any) -> Any:
    if isinstance(part, str):
        return int(part)
    return part


def _read_text(part: Any) -> Any:
    if isinstance(part, int | float) and not isinstance(part, bool):
        return str(part)
    return part


def _read_float(part: Any) -> Any:
    return float(part) if isinstance(part, str) else part


def _read_bool(part: Any) -> Any:
    return ("false", "true").index(part.lower()) == 1 if isinstance(part, str) else part


def _read_time(dtype: DType) -> Callable[[Any], Any]:
    def read(part: Any) -> Any:
        return part if isinstance(part, datetime) and dtype == "datetime" else read_instant(part, dtype, "the key")

    return read


_KEY_READERS: dict[str, Callable[[Any], Any]] = {
    "int": _read_int,
    "string": _read_text,
    "float": _read_float,
    "bool": _read_bool,
    "datetime": _read_time("datetime"),
    "date": _read_time("date"),
}
