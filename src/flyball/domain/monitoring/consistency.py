"""Consistency of features: whether those that were served are those that training would have computed."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from flyball.core.errors import InvalidInputError
from flyball.domain.monitoring.arguments import check_count, check_duration, check_window
from flyball.domain.monitoring.monitors import HOUR, Consistency


class Rederived(msgspec.Struct, frozen=True, kw_only=True):
    """What comparing served features with the offline tables has shown.

    Attributes:
        rows: How many predictions were looked at.
        mismatches: For each feature of which one was another, how many were.
        example: One of them in words; empty where there is none.
    """

    rows: int
    mismatches: Mapping[str, int]
    example: str = ""


class ConsistencySource(Protocol):
    """Derives an endpoint's served features again."""

    def __call__(self, *, version: str, since: datetime, until: datetime, rows: int) -> Rederived | None:
        """Compare up to ``rows`` of the version's predictions answered in [since, until).

        None where the version has no stored features.
        """
        ...


def consistency(
    *,
    window: str | timedelta = "1h",
    rows: int = 200,
    at_most: float = 0.0,
    min_rows: int = 1,
    cool_down: str | timedelta = "1d",
    name: str | None = None,
) -> Consistency:
    """Watch whether stored features that were served are those that the offline tables say.

    A sample of the window's predictions is taken from the log, and the features that came from the online store are
    derived again from the tables, by the functions of the version that answered.

    Args:
        window: How far back predictions are taken from, at least an hour.
        rows: How many of them are looked at.
        at_most: Which share of them may differ in any one feature.
        min_rows: Fewer rows than this decide nothing.
        cool_down: How long after an alert the next may be raised.
        name: The name of the alerts.

    Raises:
        InvalidInputError: An argument is out of its range; it is named.
    """
    if not 0 <= at_most < 1:
        raise InvalidInputError(f"consistency(at_most={at_most!r}) must be a share from 0 to below 1")
    return Consistency(
        name=name or "consistency",
        rows=check_count("consistency", "rows", rows),
        at_most=at_most,
        min_rows=check_count("consistency", "min_rows", min_rows),
        window=check_window("consistency", window, at_least=HOUR),
        cool_down=check_duration("consistency", "cool_down", cool_down),
    )
