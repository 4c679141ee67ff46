"""The short way of a version's requests: numbers straight from the request into one array, and that into the model.

A version is compiled once, when it is first asked. The short way only ever says yes: rows that may be wrong in any
respect, and versions that need more (functions of the request, other types, expectations about several columns), go
the long way (`scoring.py`), which says what is wrong. Both give the same answers; the tests prove it.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np

from flyball.core.durations import to_us
from flyball.core.errors import InvalidInputError
from flyball.domain.data.row_checks import Test, compile_rule
from flyball.domain.data.row_rules import AtLeast, AtMost, Between, NotNull
from flyball.domain.data.rules import VALUE_RULES, Rule, columns_of, is_of_rows
from flyball.domain.data.schemas import DType, Field, read_instant
from flyball.domain.predictions.batches import Layout, StoredRows
from flyball.domain.registry.runtimes import array_form
from flyball.domain.serving.loaded import FeatureLookup, LoadedVersion

Array = np.ndarray[Any, Any]
_NUMBERS: frozenset[DType] = frozenset(("int", "float", "bool"))
_KINDS: dict[str, frozenset[type]] = {
    "int": frozenset((int, type(None))),
    "float": frozenset((int, float, type(None))),
    "bool": frozenset((bool, type(None))),
    "string": frozenset((str, type(None))),
}
_GREATEST = float(np.finfo(np.float64).max)
_LARGEST_EXACT = 2.0**53
_MOST_KINDS = 1_000


class Block(msgspec.Struct):
    """The rows of one request whose values have the right types.

    Attributes:
        numbers: The values of the fields that hold numbers and flags, row by row.
        height: How many rows there are.
        others: The other fields, each with a value for each row.
        text: The numbers as JSON, where that is what came: a flat or a nested list.
    """

    numbers: Sequence[Any]
    height: int
    others: dict[str, Sequence[Any]] = {}
    text: bytes = b""


class Outcome(msgspec.Struct):
    """What a version says of rows.

    Attributes:
        predictions: A value, a probability, or the number of the likeliest class, for each row.
        scores: Each class's probability, where there are more than two.
        views: The stored features used, by view.
        times_us: The rows' own times, where they were given.
    """

    predictions: list[float]
    scores: list[list[float]]
    views: dict[str, StoredRows]
    times_us: list[int]


class DirectVersion:
    """One version, compiled; made by `compile_direct`. Safe to call from several threads."""

    def __init__(self, loaded: LoadedVersion, form: Callable[[Array], Array], rules: Sequence[Rule]) -> None:
        self.loaded = loaded
        self._form = form
        fields = loaded.request.schema.fields
        self.numbers = [field for field in fields if field.dtype in _NUMBERS]
        self._others = [field for field in fields if field.dtype not in _NUMBERS]
        self.width = len(self.numbers)
        names = [field.name for field in self.numbers]
        self._place = {name: at for at, name in enumerate(names)}
        features = loaded.signature.features.fields
        self._inputs = _places(self._place, [field.name for field in features])
        self._from_views = [(at, field.name) for at, field in enumerate(features) if field.name not in self._place]
        self._low, self._high = np.full(self.width, -_GREATEST), np.full(self.width, _GREATEST)
        self._required = np.array([not field.nullable for field in self.numbers], dtype=bool)
        self._has_nullable = not self._required.all()
        whole = [at for at, field in enumerate(self.numbers) if field.dtype == "int"]
        for at in whole:
            self._low[at], self._high[at] = -_LARGEST_EXACT, _LARGEST_EXACT
        # A run of columns is looked at in place; picking single ones makes a copy.
        is_run = whole == list(range(whole[0], whole[0] + len(whole))) if whole else True
        self._whole: Any = slice(whole[0], whole[0] + len(whole)) if whole and is_run else whole
        self.is_matrix = all(field.dtype != "bool" for field in self.numbers) and all(
            field.name == loaded.time for field in self._others
        )
        # Rows come in few forms: what was found right of one form holds for the next.
        self._pickers: dict[tuple[str, ...], tuple[Callable[[Any], tuple[Any, ...]], list[Field]]] = {}
        self._kinds: set[tuple[type, ...]] = set()
        self._tests: list[tuple[str, Test]] = []
        for rule in rules:
            self._add(rule)
        self.layout = Layout(
            names=tuple(names),
            dtypes=tuple(field.dtype for field in self.numbers),
            inputs=tuple(field.name for field in features),
            input_dtypes=tuple(field.dtype for field in features),
            entity=loaded.entity,
            key=loaded.key,
        )

    def _add(self, rule: Rule) -> None:
        """Take a rule about one column into the limits, or as a test of each value."""
        name: str = rule.column
        at = self._place.get(name)
        if at is not None and isinstance(rule, NotNull):
            self._required[at] = True
        elif at is not None and self.numbers[at].dtype != "bool" and (limits := _limits_of(rule)) is not None:
            self._low[at] = max(self._low[at], limits[0])
            self._high[at] = min(self._high[at], limits[1])
        else:
            self._tests.append((name, compile_rule(rule)))  # type: ignore[arg-type]

    def reads_like(self, other: "DirectVersion") -> bool:
        """Tell whether a block that another version read is what this one would have read."""
        return (
            self.layout.names == other.layout.names
            and self.layout.dtypes == other.layout.dtypes
            and self._others == other._others
            and self.loaded.time == other.loaded.time
        )

    def read_columns(self, columns: Mapping[str, Sequence[Any]], height: int) -> Block | None:
        """Return rows given by columns of JSON values; None where one may be missing, unknown or of another type."""
        known = 0
        numbers: list[Sequence[Any]] = []
        for field in self.numbers:
            values = columns.get(field.name)
            if values is None or not _KINDS[field.dtype].issuperset(map(type, values)):
                return None
            numbers.append(values)
            known += 1
        others: dict[str, Sequence[Any]] = {}
        for field in self._others:
            values = columns.get(field.name)
            known += values is not None
            if values is None and field.name == self.loaded.time:
                continue
            if values is None or not self._takes(field, values):
                return None
            others[field.name] = values
        if known != len(columns):
            return None
        flat = numbers[0] if len(numbers) == 1 else [value for row in zip(*numbers, strict=True) for value in row]
        return Block(flat, height, others)

    def read_rows(self, rows: Sequence[Any]) -> Block | None:
        """Return rows of field names and JSON values; None where one may be wrong, or they are not alike."""
        first = rows[0]
        if not isinstance(first, dict):
            return None
        known = self._pickers.get(tuple(first))
        if known is None:
            known = self._learn(first)
            if known is None:
                return None
        pick, others = known
        numbers: list[Any] = []
        for row in rows:
            if type(row) is not dict or len(row) != len(first):
                return None
            try:
                values = pick(row)
            except KeyError:
                return None
            if tuple(map(type, values)) not in self._kinds and not self._takes_kinds(values):
                return None
            numbers += values
        found: dict[str, Sequence[Any]] = {field.name: [row.get(field.name) for row in rows] for field in others}
        if not all(self._takes(field, found[field.name]) for field in others):
            return None
        return Block(numbers, len(rows), found)

    def _learn(self, row: Mapping[str, Any]) -> tuple[Callable[[Any], tuple[Any, ...]], list[Field]] | None:
        """Return how rows with these fields are read; None where a field is missing or unknown."""
        names = [field.name for field in self.numbers]
        others = [field for field in self._others if field.name in row]
        missing = [field for field in self._others if field.name not in row and field.name != self.loaded.time]
        if missing or len(row) != len(names) + len(others) or any(name not in row for name in names):
            return None
        if len(self._pickers) >= _MOST_KINDS:
            self._pickers.clear()
        getter = itemgetter(*names)
        pick: Any = getter if len(names) > 1 else lambda row: (getter(row),)
        self._pickers[tuple(row)] = pick, others
        return pick, others

    def _takes_kinds(self, values: Sequence[Any]) -> bool:
        if not all(type(value) in _KINDS[field.dtype] for value, field in zip(values, self.numbers, strict=True)):
            return False
        if len(self._kinds) < _MOST_KINDS:
            self._kinds.add(tuple(map(type, values)))
        return True

    def _takes(self, field: Field, values: Sequence[Any]) -> bool:
        if field.dtype == "string":
            return _KINDS["string"].issuperset(map(type, values)) and (field.nullable or None not in values)
        # An instant's text is read when the rows' times are.
        return field.name == self.loaded.time and {str, type(None)}.issuperset(map(type, values))

    def compute(self, blocks: Sequence[Block], lookup: FeatureLookup, at: datetime) -> Outcome | None:
        """Predict all rows of some blocks together; None where one may be wrong, or breaks an expectation.

        Raises:
            Exception: Whatever the model or the online store raises.
        """
        numbers = blocks[0].numbers if len(blocks) == 1 else list(chain.from_iterable(b.numbers for b in blocks))
        values = _to_array(numbers).reshape(-1, self.width)
        if not self._is_right(values) or not (self._tests == [] or self._passes(blocks, values)):
            return None
        times_us = self._read_times(blocks, to_us(at))
        if times_us is None:
            return None
        views: dict[str, StoredRows] = {}
        inputs = values if self._inputs is None else values[:, self._inputs]
        if self._from_views:
            views = self._look_up(blocks, values, lookup, at)
            stored = {name: found for view in views.values() for name, found in view.columns.items()}
            inputs = np.array(inputs)
            for place, name in self._from_views:
                found = stored.get(name)
                inputs[:, place] = np.nan if found is None else np.array(found, dtype=np.float64)
        output = self._form(inputs)
        if len(output) != len(values) or not np.isfinite(output).all():
            return None
        if output.ndim == 1:
            return Outcome(output.tolist(), [], views, times_us)
        return Outcome(output.argmax(axis=1).astype(float).tolist(), output.tolist(), views, times_us)

    def _is_right(self, values: Array) -> bool:
        # Nothing that compares is true of NaN, so where nulls are allowed they must be taken out of the question.
        if not self._has_nullable:
            if not ((values >= self._low) & (values <= self._high)).all():
                return False
        else:
            if ((values < self._low) | (values > self._high)).any() or np.isnan(values[:, self._required]).any():
                return False
        if self._whole:
            whole = values[:, self._whole]
            is_whole = whole == np.rint(whole)
            return bool(is_whole.all() or (is_whole | np.isnan(whole)).all())
        return True

    def _passes(self, blocks: Sequence[Block], values: Array) -> bool:
        for name, test in self._tests:
            at = self._place.get(name)
            if at is None:
                column = [value for block in blocks for value in block.others.get(name, [None] * block.height)]
            else:
                column = self._column(name, values)
            if not all(map(test, column)):
                return False
        return True

    def _column(self, name: str, values: Array) -> list[Any]:
        """Return a column of numbers as Python's own, of the column's type; NaN is null."""
        at = self._place[name]
        dtype = self.numbers[at].dtype
        found = values[:, at].tolist()
        kind: Any = {"int": int, "bool": bool}.get(dtype, float)
        return [None if value != value else kind(value) for value in found]

    def _read_times(self, blocks: Sequence[Block], at_us: int) -> list[int] | None:
        """Return the rows' own times if any were given, [] if none were, and None where one cannot be read."""
        name = self.loaded.time
        if name is None or not any(name in block.others for block in blocks):
            return []
        found: list[int] = []
        for block in blocks:
            for text in block.others.get(name, [None] * block.height):
                try:
                    instant = read_instant(text, "datetime", name)
                except InvalidInputError:
                    return None
                found.append(to_us(instant) if isinstance(instant, datetime) else at_us)
        return found

    def _look_up(
        self, blocks: Sequence[Block], values: Array, lookup: FeatureLookup, at: datetime
    ) -> dict[str, StoredRows]:
        found: dict[str, StoredRows] = {}
        for view in self.loaded.views:
            keys = list(zip(*(self._key_column(name, blocks, values) for name in view.keys), strict=True))
            rows = lookup.read_rows(view, keys, at)
            names = dict.fromkeys(name for row in rows if row is not None for name in row.values)
            found[view.name] = StoredRows(
                version=view.version,
                event_times_us=[None if row is None else to_us(row.event_time) for row in rows],
                columns={name: [None if row is None else row.values.get(name) for row in rows] for name in names},
            )
        return found

    def _key_column(self, name: str, blocks: Sequence[Block], values: Array) -> Sequence[Any]:
        if name in self._place:
            return self._column(name, values)
        return [value for block in blocks for value in block.others.get(name, [None] * block.height)]

    def key_of(self, block: Block, by: Sequence[str] = ()) -> list[Any]:
        """Return the first row's values of the fields by which traffic is divided: the given ones, or the entity."""
        names = by or self.loaded.sticky_keys
        return [
            block.numbers[self._place[name]] if name in self._place else (block.others.get(name) or [None])[0]
            for name in names
        ]


def _to_array(numbers: Sequence[Any]) -> Array:
    """Return numbers, flags and nulls as floats; a fifth of what numpy takes for a list where nothing is null."""
    values = np.empty(len(numbers))
    try:
        struct.pack_into(f"{len(numbers)}d", values.data, 0, *numbers)
    except struct.error:
        return np.array(numbers, dtype=np.float64)
    return values


def _limits_of(rule: Rule) -> tuple[float, float] | None:
    """Return the limits that a rule sets to numbers; None where it sets none that floats express exactly."""
    low: Any = rule.low if isinstance(rule, Between) else rule.limit if isinstance(rule, AtLeast) else -_GREATEST
    high: Any = rule.high if isinstance(rule, Between) else rule.limit if isinstance(rule, AtMost) else _GREATEST
    if not isinstance(rule, Between | AtLeast | AtMost):
        return None
    for limit in (low, high):
        if type(limit) not in (int, float) or (type(limit) is int and abs(limit) > _LARGEST_EXACT):
            return None
    return float(low), float(high)


def _places(place: Mapping[str, int], names: Sequence[str]) -> Array | None:
    """Return where the inputs stand among the fields; None where they are the fields. Those not there are filled in."""
    found = [place.get(name, 0) for name in names]
    is_same = len(names) == len(place) and all(place.get(name) == at for at, name in enumerate(names))
    return None if is_same else np.array(found, dtype=np.intp)


def compile_direct(loaded: LoadedVersion) -> DirectVersion | None:
    """Return the short way of a version; None where it needs the long one."""
    form = array_form(loaded.predictor)
    signature, fields = loaded.signature, loaded.request.schema.fields
    if form is None or loaded.request_features or signature.categories:
        return None
    numbers = {field.name for field in fields if field.dtype in _NUMBERS}
    names = set(loaded.request.schema.names)
    features = {field.name: field.dtype for field in signature.features.fields}
    if not numbers or not _NUMBERS.issuperset(features.values()):
        return None
    if any(name in names and name not in numbers for name in features):
        return None
    if any(field.dtype in ("datetime", "date") and field.name != loaded.time for field in fields):
        return None
    rules = [rule for rule in loaded.rules if is_of_rows(rule) and names.issuperset(columns_of(rule))]
    if not all(isinstance(rule, VALUE_RULES) for rule in rules):
        return None
    return DirectVersion(loaded, form, rules)


def find_direct(loaded: LoadedVersion) -> DirectVersion | None:
    """Return the short way of a version, compiled when it is first asked for."""
    kept = vars(loaded)
    if "_direct" not in kept:
        kept["_direct"] = compile_direct(loaded)
    found: DirectVersion | None = kept["_direct"]
    return found


def list_rows(version: DirectVersion, block: Block) -> list[dict[str, Any]]:
    """Return the rows of a block as the long way takes them: field names and JSON values."""
    columns = {
        field.name: [_json_value(field.dtype, value) for value in block.numbers[at :: version.width]]
        for at, field in enumerate(version.numbers)
    } | block.others
    names = list(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _json_value(dtype: DType, value: Any) -> Any:
    if value is None or value != value:
        return None
    return int(value) if dtype == "int" and value == int(value) else value
