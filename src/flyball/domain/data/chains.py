"""Chains of rules about one column: their severity, and the rules that speak of all its values together."""

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Self

from flyball.core.durations import parse_duration
from flyball.core.errors import InvalidInputError
from flyball.domain.data.languages import LANGUAGES
from flyball.domain.data.row_rules import Severity
from flyball.domain.data.rules import Rule, is_measured
from flyball.domain.data.table_rules import (
    Aggregate,
    Fresh,
    Language,
    Mix,
    Monotonic,
    NullShare,
    References,
    Statistic,
)


class RuleChain:
    """A column and what was demanded of it so far. A foreign key is resolved once the tables have their names."""

    def __init__(self, column: str, rules: tuple[Any, ...] = (), severity: Severity = "fail") -> None:
        self.column = column
        self.severity = severity
        self._rules = rules
        if severity == "quarantine":
            require_rows_to_quarantine([rule for rule in rules if isinstance(rule, Rule)])

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, each with the chain's severity."""
        return tuple(_with_severity(self._resolved(rule), self.severity) for rule in self._rules)

    @property
    def is_told(self) -> bool:
        """Whether anything was demanded."""
        return bool(self._rules)

    @property
    def referenced(self) -> list[Any]:
        """The tables in which values must occur."""
        return [rule.table for rule in self._rules if not isinstance(rule, Rule)]

    def or_quarantine(self) -> Self:
        """Leave violating rows out of training, and answer live ones as the endpoint says, instead of failing.

        Raises:
            InvalidInputError: A rule speaks of the whole column, so that there are no rows to leave out.
        """
        return type(self)(self.column, self._rules, "quarantine")

    def or_warn(self) -> Self:
        """Only count violations."""
        return type(self)(self.column, self._rules, "warn")

    def _and(self, rule: Any) -> Self:
        return type(self)(self.column, (*self._rules, rule), self.severity)

    def _resolved(self, rule: Any) -> Rule:
        if isinstance(rule, Rule):
            return rule
        return References(column=self.column, table=rule.table.required_name, key=rule.column)

    def __repr__(self) -> str:
        told = ", ".join(rule.demand if isinstance(rule, Rule) else f"must occur in {rule}" for rule in self._rules)
        return f"column({self.column!r}): {told or 'no rule'}"


class StatisticRules(RuleChain):
    """Rules that only a whole table can decide; live requests are not judged by them."""

    def nulls_at_most(self, share: float) -> Self:
        """Demand that at most a share of the values is missing, such as 0.05.

        Raises:
            InvalidInputError: It is not a share.
        """
        return self._and(NullShare(column=self.column, share=_share(share, self.column)))

    def mean(self, *, at_least: float | None = None, at_most: float | None = None) -> Self:
        """Demand a mean between limits; either may be left out."""
        return self._statistic("mean", at_least, at_most)

    def median(self, *, at_least: float | None = None, at_most: float | None = None) -> Self:
        """Demand a median between limits."""
        return self._statistic("median", at_least, at_most)

    def quantile(self, quantile: float, *, at_least: float | None = None, at_most: float | None = None) -> Self:
        """Demand a quantile (0.9 is the value that nine tenths do not exceed) between limits."""
        return self._statistic("quantile", at_least, at_most, _share(quantile, self.column))

    def std(self, *, at_least: float | None = None, at_most: float | None = None) -> Self:
        """Demand a standard deviation (of the rows as a sample) between limits."""
        return self._statistic("std", at_least, at_most)

    def distinct(self, *, at_least: float | None = None, at_most: float | None = None) -> Self:
        """Demand a number of distinct values between limits."""
        return self._statistic("distinct", at_least, at_most)

    def statistic(self, name: Statistic, *, at_least: float | None = None, at_most: float | None = None) -> Self:
        """Demand a statistic by its name: mean, median, std, min, max, sum or distinct."""
        if name not in ("mean", "median", "std", "min", "max", "sum", "distinct"):
            raise InvalidInputError(
                f"{name!r}, a statistic of {self.column!r}, is none of mean, median, std, min, max, sum, distinct"
            )
        return self._statistic(name, at_least, at_most)

    def mixed_like(self, reference: Mapping[str, float] | str, *, within: float = 0.1) -> Self:
        """Demand about the shares of categories that a reference has.

        Args:
            reference: Shares by category, such as ``{"web": 0.6, "shop": 0.4}``, or the id of a snapshot.
            within: The greatest total variation distance: how large a share of the rows may be elsewhere. What chance
                explains in a small table is let pass besides.

        Raises:
            InvalidInputError: The shares do not add up to one, or ``within`` is no share.
        """
        share = _share(within, self.column)
        if isinstance(reference, str):
            return self._and(Mix(column=self.column, within=share, snapshot=reference))
        shares = {str(name): float(value) for name, value in reference.items()}
        if not shares or abs(sum(shares.values()) - 1) > 0.01 or min(shares.values()) < 0:
            raise InvalidInputError(
                f"the shares to which {self.column!r} is compared add up to {sum(shares.values()):g} instead of 1"
            )
        return self._and(Mix(column=self.column, within=share, shares=shares))

    def fresh(self, within: str | timedelta) -> Self:
        """Demand that the newest instant is not older than a while, such as ``"2d"``."""
        return self._and(Fresh(column=self.column, within=parse_duration(within, what=f"fresh of {self.column!r}")))

    def increasing(self, *, strictly: bool = False, by: str | Sequence[str] = ()) -> Self:
        """Demand that values never go down from row to row, within each group of ``by`` if that is given."""
        return self._and(Monotonic(column=self.column, direction="increasing", is_strict=strictly, by=_by(by)))

    def decreasing(self, *, strictly: bool = False, by: str | Sequence[str] = ()) -> Self:
        """Demand that values never go up from row to row."""
        return self._and(Monotonic(column=self.column, direction="decreasing", is_strict=strictly, by=_by(by)))

    def language(self, language: str) -> Self:
        """Demand texts of a language, told by their most frequent words.

        Raises:
            InvalidInputError: Its words are not known.
        """
        if language not in LANGUAGES:
            raise InvalidInputError(
                f"{language!r}, the language of {self.column!r}, is none of {', '.join(sorted(LANGUAGES))}"
            )
        return self._and(Language(column=self.column, language=language))

    def _statistic(self, name: Statistic, low: float | None, high: float | None, quantile: float | None = None) -> Self:
        limits = [limit for limit in (low, high) if limit is not None]
        if not limits or not all(is_finite(limit) and not isinstance(limit, bool) for limit in limits):
            raise InvalidInputError(
                f"the {name} of {self.column!r} needs at least one finite limit",
                hint=f'Write it as fb.column("{self.column}").mean(at_least=1, at_most=5).',
            )
        if low is not None and high is not None and low > high:
            raise InvalidInputError(f"the {name} of {self.column!r} can not be between {low:g} and {high:g}")
        return self._and(Aggregate(column=self.column, statistic=name, low=low, high=high, quantile=quantile))


def require_rows_to_quarantine(rules: Sequence[Rule]) -> None:
    """Refuse to quarantine where a rule does not speak of rows.

    Raises:
        InvalidInputError: A rule says something about the whole table.
    """
    for rule in rules:
        if is_measured(rule):
            raise InvalidInputError(
                f"{rule.column} {rule.demand}: that speaks of the whole table, so no rows can be quarantined for it",
                hint="Let it fail, or write .or_warn() to only be told.",
            )


def is_finite(value: object) -> bool:
    """Tell whether JSON can carry a number exactly."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, float) and math.isfinite(value)


def _with_severity(rule: Rule, severity: Severity) -> Rule:
    values = {name: getattr(rule, name) for name in rule.__struct_fields__}
    return type(rule)(**{**values, "severity": severity})


def _share(value: float, column: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidInputError(f"{value!r}, said of {column!r}, is not a share between 0 and 1")
    return float(value)


def _by(columns: str | Sequence[str]) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else tuple(columns)
