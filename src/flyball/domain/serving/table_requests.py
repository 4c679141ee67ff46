"""A table's rows as requests: read by column, and judged as live requests are."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

import polars as pl

from flyball.core.errors import InvalidInputError
from flyball.domain.data.broken_rows import broken_rows
from flyball.domain.data.reports import Violation
from flyball.domain.data.row_checks import is_instant
from flyball.domain.data.rules import VALUE_RULES, columns_of, is_of_rows
from flyball.domain.data.schemas import DType, Field, UnsupportedColumnError, dtype_name, polars_dtype, read_instant
from flyball.domain.predictions.records import PredictionStatus
from flyball.domain.serving.loaded import LoadedVersion

OnViolation = Literal["refuse", "quarantine"]
_ALSO_TAKEN: dict[DType, tuple[DType, ...]] = {
    "float": ("int",),
    "datetime": ("date", "string"),
    "date": ("string",),
}


class TableUnfitError(InvalidInputError):
    """A table does not have the columns that a model's requests need."""

    code = "serving/table-unfit"

    def __init__(self, table: str, ref: str, problems: Sequence[str]) -> None:
        super().__init__(
            f"the table {table!r} cannot be scored by {ref}: {'; '.join(problems)}",
            hint="Score a table with the columns of the one that the model was trained on.",
        )


class Verdict(NamedTuple):
    """Why a row gets no prediction.

    Attributes:
        row: Its place in the frame.
        status: ``refused``, ``quarantined`` or ``error``.
        violations: What is wrong with it.
    """

    row: int
    status: PredictionStatus
    violations: list[Violation]


class TableRequests:
    """Reads rows of one table as requests to one version.

    Whole columns are tested first; only rows that do not pass are judged one by one, by the very checks of live
    requests, which have the last word and the words.

    Args:
        loaded: The version.
        schema: The table's columns.
        table: The table's name, for errors.
        on_violation: What becomes of a row that breaks an expectation of severity ``fail``.

    Raises:
        TableUnfitError: Columns are missing or have other types; all are named.
    """

    def __init__(self, loaded: LoadedVersion, schema: pl.Schema, table: str, on_violation: OnViolation) -> None:
        self._loaded = loaded
        self._on_violation = on_violation
        problems = [problem for field in loaded.request.schema.fields if (problem := _misfit(field, schema, loaded))]
        if problems:
            raise TableUnfitError(table, loaded.ref, problems)
        self._fields = [field for field in loaded.request.schema.fields if field.name in schema]
        self._absent = [field for field in loaded.request.schema.fields if field.name not in schema]
        carried = {field.name for field in loaded.request.schema.fields}
        self._rules = [rule for rule in loaded.rules if is_of_rows(rule) and carried.issuperset(columns_of(rule))]

    @property
    def columns(self) -> list[str]:
        """The table's columns that are read."""
        return [field.name for field in self._fields]

    def read(self, frame: pl.DataFrame, at: datetime) -> tuple[pl.DataFrame, list[Verdict]]:
        """Return the fields of rows in the model's types, and the rows that live would not answer.

        Args:
            frame: Rows with at least `columns`.
            at: The time of a row that has none of its own.
        """
        raw = self.as_asked(frame)
        typed = raw.with_columns(_typed(field, raw.schema[field.name]) for field in self._fields)
        suspect = self._suspects(raw, typed)
        for field in self._absent:
            typed = typed.with_columns(pl.lit(None, dtype=polars_dtype(field.dtype)).alias(field.name))
        if self._loaded.time is not None:
            typed = typed.with_columns(pl.col(self._loaded.time).fill_null(pl.lit(at)))
        return typed.select(self._loaded.request.schema.names), self._judge(raw, suspect)

    def as_asked(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return rows with the fields and the kinds of values that requests have, unchecked."""
        return frame.select(_plain(frame.schema[field.name], field.name) for field in self._fields)

    def _suspects(self, raw: pl.DataFrame, typed: pl.DataFrame) -> pl.Series:
        tests: list[pl.Series] = []
        for field in self._fields:
            given, read = raw[field.name], typed[field.name]
            if given.null_count() and not field.nullable and field.name != self._loaded.time:
                tests.append(given.is_null())
            if read.null_count() > given.null_count():
                tests.append(read.is_null() & given.is_not_null())
            if given.dtype.is_float():
                tests.append((~given.is_finite()).fill_null(False))
        # Rules about one value see it as it came, rules about several see what their types make of it: so does live.
        for of, frame in (("one", raw), ("several", typed)):
            broken = [
                found.fill_null(False).alias(str(number))
                for number, rule in enumerate(self._rules)
                if isinstance(rule, VALUE_RULES) == (of == "one")
                and (found := broken_rows(rule, frame.schema)) is not None
            ]
            if broken:
                tests.extend(frame.select(broken).get_columns())
        suspect = pl.repeat(False, raw.height, dtype=pl.Boolean, eager=True)
        for test in tests:
            suspect = suspect | (test if test.len() == raw.height else pl.repeat(test[0], raw.height, eager=True))
        return suspect

    def _judge(self, raw: pl.DataFrame, suspect: pl.Series) -> list[Verdict]:
        numbers = suspect.arg_true().to_list()
        verdicts = []
        for number, row in zip(numbers, raw[numbers].iter_rows(named=True), strict=True):
            status, violations = judge_request(self._loaded, row, self._on_violation)
            if status is not PredictionStatus.OK:
                verdicts.append(Verdict(number, status, violations))
        return verdicts


def judge_request(
    loaded: LoadedVersion, row: Mapping[str, Any], on_violation: OnViolation
) -> tuple[PredictionStatus, list[Violation]]:
    """Return what live would make of one request before any model sees it, and what is wrong with it."""
    violations = loaded.request.check(row)
    if violations:
        return PredictionStatus.REFUSED, violations
    violations = loaded.check_row(row)
    severities = {violation.severity for violation in violations}
    if "fail" in severities and on_violation == "refuse":
        return PredictionStatus.REFUSED, violations
    if "fail" in severities or "quarantine" in severities:
        return PredictionStatus.QUARANTINED, violations
    return PredictionStatus.OK, violations


def _misfit(field: Field, schema: pl.Schema, loaded: LoadedVersion) -> str | None:
    if field.name not in schema:
        return None if field.name == loaded.time else f"it has no column {field.name!r}"
    dtype = schema[field.name]
    try:
        found = dtype_name(field.name, dtype)
    except UnsupportedColumnError:
        return f"its column {field.name!r} is {dtype}, not {field.dtype}"
    if dtype == pl.Null or found == field.dtype or found in _ALSO_TAKEN.get(field.dtype, ()):
        return None
    return f"its column {field.name!r} is {found}, not {field.dtype}"


def _plain(dtype: pl.DataType, name: str) -> pl.Expr:
    """Bring what Python has other words for into the types that requests have."""
    column = pl.col(name)
    if dtype.is_decimal():
        return column.cast(pl.Float64)
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    return column


def _typed(field: Field, dtype: pl.DataType) -> pl.Expr:
    """Return a field in its type; null where its value has none in it."""
    column = pl.col(field.name)
    if dtype == pl.String and field.dtype in ("datetime", "date"):
        return _read_instants(field, column)
    if field.dtype == "datetime" and isinstance(dtype, pl.Datetime | pl.Date):
        instants = column.cast(pl.Datetime("us", getattr(dtype, "time_zone", None)))
        if getattr(dtype, "time_zone", None) is None:
            return instants.dt.replace_time_zone("UTC")
        return instants.dt.convert_time_zone("UTC")
    return column.cast(polars_dtype(field.dtype), strict=False)


def _read_instants(field: Field, column: pl.Expr) -> pl.Expr:
    wanted = polars_dtype(field.dtype)

    def read(texts: pl.Series) -> pl.Series:
        distinct = [text for text in texts.unique().drop_nulls() if is_instant(text, field.dtype)]
        values = pl.Series([read_instant(text, field.dtype, field.name) for text in distinct], dtype=wanted)
        return texts.replace_strict(pl.Series(distinct, dtype=pl.String), values, default=None, return_dtype=wanted)

    return column.map_batches(read, return_dtype=wanted)
