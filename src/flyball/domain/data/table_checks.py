"""Expectations over a whole table: one lazy pass of Polars, whatever the number of rules."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import polars as pl

from flyball.domain.data.broken_rows import broken_rows
from flyball.domain.data.measures import Measure, measure_of
from flyball.domain.data.polars_expressions import ExpressionFailedError, describe_row, require_truth
from flyball.domain.data.reports import Report, RuleResult
from flyball.domain.data.row_rules import Compare, Expression
from flyball.domain.data.rules import Rule, columns_of, describe_violation, is_of_rows
from flyball.domain.data.surroundings import NOTHING, Surroundings
from flyball.domain.data.table_rules import RowsAtLeast, RowsAtMost, UniqueTogether
from flyball.domain.data.wording import plain_value

TableCheck = Callable[[pl.LazyFrame], Report]


class CheckedBatch(NamedTuple):
    """A micro-batch, judged.

    Attributes:
        report: How it fared.
        kept: The rows that break no rule of severity ``fail`` or ``quarantine``.
        quarantined: The others.
    """

    report: Report
    kept: pl.DataFrame
    quarantined: pl.DataFrame


def compile_table(rules: Sequence[Rule], around: Surroundings = NOTHING) -> TableCheck:
    """Make the check of a table.

    Args:
        rules: Expectations.
        around: What rules look at besides the table: the present, other tables, earlier snapshots.

    Returns:
        A function from a frame to its report, one result for each rule in declared order. Every rule about a column
        that the frame lacks is broken in all rows. It raises `ExpressionFailedError` where an expression of the
        project's own fails.
    """
    checked = tuple(rules)

    def check(frame: pl.LazyFrame) -> Report:
        schema = frame.collect_schema()
        for rule in checked:
            if isinstance(rule, Expression) and all(name in schema for name in rule.columns):
                require_truth(rule, frame)
        broken = {
            number: expression
            for number, rule in enumerate(checked)
            if (expression := broken_rows(rule, schema, around)) is not None
        }
        measures = {
            number: measure
            for number, rule in enumerate(checked)
            if (measure := measure_of(rule, schema, around)) is not None
        }
        quarantining = [broken[number] for number in broken if checked[number].severity == "quarantine"]
        asked = frame.select(
            pl.len().alias("rows"),
            *(expression.sum().alias(str(number)) for number, expression in broken.items()),
            *(measure.value.alias(str(number)) for number, measure in measures.items()),
            *([pl.any_horizontal(quarantining).sum().alias("quarantined")] if quarantining else []),
        )
        try:
            found = asked.collect().row(0, named=True)
        except pl.exceptions.PolarsError:
            judged = {**broken, **{number: measure.value for number, measure in measures.items()}}
            _find_failing(frame, [(checked[number], value) for number, value in judged.items()])
            raise
        # Values are only looked for where there is something to find: tables that pass are read once.
        firsts = _first_values(frame, {n: (checked[n], test) for n, test in broken.items() if found[str(n)]})
        results = [
            _measured(rule, measures[number], found[str(number)], found["rows"])
            if number in measures
            else _counted(rule, found["rows"], found.get(str(number)), firsts.get(number), schema)
            for number, rule in enumerate(checked)
        ]
        return Report(rows=found["rows"], results=tuple(results), quarantined=found.get("quarantined") or 0)

    return check


def compile_batch(rules: Sequence[Rule]) -> Callable[[pl.DataFrame], CheckedBatch]:
    """Make the check of micro-batches: of the rules that each row decides, as for a live request.

    Returns:
        A function from a frame to its report and its rows, those that may go on and those that may not.
    """
    checked = tuple(rule for rule in rules if is_of_rows(rule))
    check = compile_table(checked)

    def judge(batch: pl.DataFrame) -> CheckedBatch:
        report = check(batch.lazy())
        broken = [
            expression
            for rule in checked
            if rule.severity != "warn" and (expression := broken_rows(rule, batch.schema)) is not None
        ]
        if any(rule.severity != "warn" and set(columns_of(rule)) - set(batch.columns) for rule in checked):
            return CheckedBatch(report, batch.clear(), batch)
        if not broken:
            return CheckedBatch(report, batch, batch.clear())
        mask = pl.any_horizontal(broken).fill_null(False)
        return CheckedBatch(report, batch.filter(~mask), batch.filter(mask))

    return judge


def _find_failing(frame: pl.LazyFrame, tests: Sequence[tuple[Rule, pl.Expr]]) -> None:
    """Name the expression that fails over some rows.

    Raises:
        ExpressionFailedError: One does.
    """
    for rule, value in tests:
        if isinstance(rule, Expression):
            try:
                frame.select(value).collect()
            except pl.exceptions.PolarsError as error:
                raise ExpressionFailedError(rule.column, str(error).partition("\n")[0]) from error


def _first_values(frame: pl.LazyFrame, broken: dict[int, tuple[Rule, pl.Expr]]) -> dict[int, dict[str, Any]]:
    if not broken:
        return {}
    firsts = [
        pl.struct(columns_of(rule)).filter(test).first().alias(str(number)) for number, (rule, test) in broken.items()
    ]
    found = frame.select(firsts).collect().row(0, named=True)
    return {number: found[str(number)] for number in broken}


def rows_to_keep(rules: Sequence[Rule], schema: pl.Schema, around: Surroundings = NOTHING) -> pl.Expr:
    """Return the filter that leaves out rows which break a rule of severity ``quarantine``."""
    broken = [
        expression
        for rule in rules
        if rule.severity == "quarantine" and (expression := broken_rows(rule, schema, around)) is not None
    ]
    return ~pl.any_horizontal(broken).fill_null(False) if broken else pl.lit(True)


def _measured(rule: Rule, measure: Measure, value: Any, rows: int) -> RuleResult:
    if isinstance(rule, RowsAtLeast | RowsAtMost):
        holds = rows >= rule.rows if isinstance(rule, RowsAtLeast) else rows <= rule.rows
        message = f"the table {rule.demand}" if holds else describe_violation(rule, rows)
        return RuleResult(rule=rule, violations=0 if holds else 1, message=message, value=None if holds else rows)
    verdict = measure.judge(value, rows)
    if verdict.holds:
        return RuleResult(rule=rule, violations=0, message=f"{rule.column} {rule.demand}", value=verdict.value)
    message = describe_violation(rule, verdict.words)
    return RuleResult(rule=rule, violations=1, message=message, value=verdict.value)


def _counted(rule: Rule, rows: int, broken: int | None, first: dict[str, Any] | None, schema: pl.Schema) -> RuleResult:
    missing = [name for name in columns_of(rule) if name not in schema]
    if missing:
        column = "column" if missing == [rule.column] else f"column {missing[0]!r}"
        message = f"{rule.column} {rule.demand}, but the table has no such {column}"
        return RuleResult(rule=rule, violations=max(rows, 1), message=message)
    if not broken or first is None:
        return RuleResult(rule=rule, violations=0, message=f"{rule.column} {rule.demand}")
    value, other = first.get(rule.column), None
    if isinstance(rule, Expression | UniqueTogether):
        value = describe_row(first)
    elif isinstance(rule, Compare):
        other = first[rule.other]
    message = f"{describe_violation(rule, value, other)} ({broken:,} of {rows:,} rows)"
    return RuleResult(rule=rule, violations=broken, message=message, value=plain_value(value))
