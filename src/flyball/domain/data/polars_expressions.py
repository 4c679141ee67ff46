"""Polars expressions as rules: written into JSON, read back, run over a table or one row."""

import base64
import io
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from flyball.core.errors import InvalidInputError
from flyball.domain.data.row_rules import Expression
from flyball.domain.data.schemas import Schema
from flyball.domain.data.wording import format_value

if TYPE_CHECKING:
    import polars as pl


class ExpressionFailedError(InvalidInputError):
    """An expectation's own expression does not tell of a table whether it holds."""

    code = "data/expression-failed"

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(
            f"the expectation {what!r} cannot be judged: {reason}",
            hint="Correct its expression: over the table's columns it must give true, false or null.",
        )


def require_truth(rule: Expression, frame: "pl.LazyFrame") -> None:
    """Refuse an expression that does not fit a table's columns, or gives something else than true and false.

    Raises:
        ExpressionFailedError: It does.
    """
    import polars as pl

    try:
        found = frame.select(read_expression(rule).alias("kept")).collect_schema()["kept"]
    except pl.exceptions.PolarsError as error:
        raise ExpressionFailedError(rule.column, str(error).partition("\n")[0]) from error
    if found not in (pl.Boolean, pl.Null):
        raise ExpressionFailedError(rule.column, f"it gives {found} instead of true or false")


def write_expression(expression: "pl.Expr", what: str) -> tuple[str, tuple[str, ...]]:
    """Return an expression as text, and the columns that it reads.

    Raises:
        InvalidInputError: It cannot be stored: it holds a Python function, or reads no column.
    """
    import polars as pl

    if not isinstance(expression, pl.Expr):
        raise InvalidInputError(
            f"the expectation {what!r} is {expression!r}, not a Polars expression",
            hint='Write it as fb.expression("paid in full", pl.col("paid") >= pl.col("due")).',
        )
    if "python" in str(expression).lower() or "map_batches" in str(expression):
        raise InvalidInputError(
            f"the expectation {what!r} calls a Python function, which can not be kept with a model",
            hint="Write it with Polars' own expressions.",
        )
    columns = tuple(sorted(set(expression.meta.root_names())))
    if not columns:
        raise InvalidInputError(f"the expectation {what!r} reads no column", hint='Name columns: pl.col("paid") > 0.')
    return base64.b64encode(expression.meta.serialize()).decode(), columns


def read_expression(rule: Expression) -> "pl.Expr":
    """Return a rule's expression."""
    return _read(rule.body)


@lru_cache(maxsize=256)
def _read(body: str) -> "pl.Expr":
    import polars as pl

    return pl.Expr.deserialize(io.BytesIO(base64.b64decode(body)))


def compile_expression(rule: Expression, schema: Schema | None) -> Callable[[Mapping[str, Any]], bool]:
    """Return the function that tells whether a row keeps a rule; one for which Polars fails does not."""
    import polars as pl

    expression = read_expression(rule).alias("kept")
    fields = None if schema is None else schema.only([name for name in rule.columns if name in schema])

    def holds(row: Mapping[str, Any]) -> bool:
        try:
            given = {name: row.get(name) for name in rule.columns}
            frame = pl.DataFrame([given]) if fields is None else fields.frame([given])
            kept = frame.select(expression).item()
        except (pl.exceptions.PolarsError, InvalidInputError):
            return False
        return kept is None or kept is True

    return holds


def describe_row(row: Mapping[str, Any]) -> str:
    """Write the values of some columns: ``paid=3, due=4``."""
    return ", ".join(f"{name}={format_value(value)}" for name, value in row.items())
