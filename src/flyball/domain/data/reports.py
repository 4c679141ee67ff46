"""What came of checking expectations: violations of one row, reports of a table."""

from datetime import datetime
from typing import Any

import msgspec

from flyball.core.errors import InvalidInputError
from flyball.domain.data.row_rules import Severity
from flyball.domain.data.rules import Rule


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """One thing wrong with one row.

    Attributes:
        column: The field, or its path in a request.
        rule: The rule's short name, such as ``between``.
        severity: What follows from it.
        message: What is wrong, such as ``bedrooms must be at least 0, but -8 was given``.
        value: What was given.
    """

    column: str
    rule: str
    severity: Severity
    message: str
    value: Any = None


class RuleResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one rule fared over a table.

    Attributes:
        rule: The rule.
        violations: How many rows break it; 1 for a broken rule about the table as a whole.
        message: The words of a violation with the count, such as ``bedrooms must be at least 0, but -8 was given
            (1 of 21,613 rows)``; the rule in words where it holds.
        value: The first offending value.
    """

    rule: Rule
    violations: int
    message: str
    value: Any = None

    @property
    def passed(self) -> bool:
        """Whether the rule holds in every row."""
        return self.violations == 0

    @property
    def severity(self) -> Severity:
        """What follows from a violation."""
        return self.rule.severity


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How a table fared against its expectations.

    Attributes:
        rows: How many rows were checked.
        results: One for each rule, in declared order.
        quarantined: How many rows break a rule of severity ``quarantine``.
        snapshot_id: The snapshot that was checked; empty for a frame that is none.
        table: Its table.
        created_at: When it was checked.
    """

    rows: int
    results: tuple[RuleResult, ...]
    quarantined: int = 0
    snapshot_id: str = ""
    table: str = ""
    created_at: datetime | None = None

    @property
    def passed(self) -> bool:
        """Whether no rule of severity ``fail`` is broken."""
        return not self.failures

    @property
    def failures(self) -> list[RuleResult]:
        """The broken rules of severity ``fail``."""
        return [result for result in self.results if not result.passed and result.severity == "fail"]

    @property
    def violations(self) -> list[RuleResult]:
        """The broken rules of any severity."""
        return [result for result in self.results if not result.passed]

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that were checked."""
        return tuple(result.rule for result in self.results)

    def require_passed(self) -> None:
        """Go on only if the report passed.

        Raises:
            ExpectationsFailedError: It did not.
        """
        if not self.passed:
            raise ExpectationsFailedError(self)


class ExpectationsFailedError(InvalidInputError):
    """A table breaks expectations of severity ``fail``."""

    code = "data/expectations-failed"

    def __init__(self, report: Report) -> None:
        told = "; ".join(result.message for result in report.failures)
        super().__init__(
            f"the table {report.table!r} breaks {len(report.failures)} of {len(report.results)} expectations: {told}",
            hint="Correct the data, or add .or_quarantine() to leave such rows out, or .or_warn() to only count them.",
        )
        self.report = report
