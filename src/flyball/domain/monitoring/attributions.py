"""Attribution drift: whether the model still uses its features as it did on the training data.

An input may move without mattering, and a model may come to lean on another feature while each input looks alike: both
show in what each feature added to the predictions (Lundberg et al., Nature Machine Intelligence 2, 2020, section
"Local model monitoring reveals previously invisible problems").
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import msgspec

from flyball.core.errors import InvalidInputError
from flyball.domain.monitoring.arguments import check_count, check_duration, check_positive, check_window
from flyball.domain.monitoring.monitors import HOUR, AttributionDrift

if TYPE_CHECKING:
    import polars as pl

    from flyball.domain.data.profiles import Profile
    from flyball.domain.monitoring.distributions import ColumnChange


class Attributed(msgspec.Struct, frozen=True, kw_only=True):
    """What features added to predictions, then and now.

    Attributes:
        reference: The distributions on the training data.
        rows: One column for each feature, one row for each prediction looked at.
    """

    reference: "Profile"
    rows: "pl.DataFrame"


class AttributionSource(Protocol):
    """Gives the attributions of an endpoint's predictions."""

    def __call__(self, *, version: str, since: datetime, until: datetime) -> Attributed | None:
        """Return the attributions of a version's predictions answered in [since, until), or of a part of them.

        None where the version cannot be explained.
        """
        ...


def attribution_drift(
    columns: Sequence[str] | None = None,
    *,
    threshold: float | None = None,
    window: str | timedelta = "1d",
    min_rows: int = 200,
    cool_down: str | timedelta = "1d",
    name: str | None = None,
) -> AttributionDrift:
    """Watch whether features still add to predictions what they added on the training data.

    Attributions of up to a thousand of the window's predictions are computed by the loop, from the features as they
    were served: the requests need not ask for explanations.

    Args:
        columns: Of which inputs; of all of them by default.
        threshold: The population stability index above which an attribution has drifted, 0.2 by default. Where a
            window holds too few rows to tell that from chance, the limit is raised to what chance could give.
        window: How much time is compared, at least an hour.
        min_rows: Fewer rows than this decide nothing.
        cool_down: How long after an alert the next may be raised.
        name: The name of the alerts; by default made from the kind and the columns.

    Raises:
        InvalidInputError: An argument is out of its range; it is named.
    """
    if isinstance(columns, str):
        raise InvalidInputError(
            f"attribution_drift(columns={columns!r}) must be a list of names", hint=f"Write [{columns!r}]."
        )
    if columns is not None and not columns:
        raise InvalidInputError(
            "attribution_drift(columns=[]) watches no column", hint="Leave it out to watch all of them."
        )
    names = None if columns is None else tuple(columns)
    return AttributionDrift(
        name=name or ("attribution_drift" if names is None else f"attribution_drift:{'+'.join(names)}"),
        columns=names,
        threshold=check_positive("attribution_drift", "threshold", threshold),
        window=check_window("attribution_drift", window, at_least=HOUR),
        min_rows=check_count("attribution_drift", "min_rows", min_rows),
        cool_down=check_duration("attribution_drift", "cool_down", cool_down),
    )


def compare_attributions(found: Attributed, columns: Sequence[str] | None) -> "Mapping[str, ColumnChange]":
    """Return how far the attributions of each feature have moved; of all features, or of those named there are."""
    from flyball.domain.monitoring.distributions import compare_counts

    return compare_counts(found.reference, found.reference.count(found.rows), columns)
