"""What rules look at besides the table itself."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from flyball.core.errors import InvalidInputError

if TYPE_CHECKING:
    import polars as pl


def _no_values(table: str, column: str) -> "pl.Series":
    raise InvalidInputError(
        f"the values of {table}.{column} are not known here", hint="Check the table in its project: flyball data check."
    )


def _no_shares(snapshot: str, column: str) -> Mapping[str, float]:
    raise InvalidInputError(
        f"the snapshot {snapshot!r}, to which {column!r} is compared, is not known here",
        hint="Check the table in its project: flyball data check.",
    )


class Surroundings(NamedTuple):
    """What a check may ask for.

    Attributes:
        now: The present; needed by rules about freshness.
        values: Returns the distinct values of another table's column.
        shares: Returns the shares of a column's categories in a snapshot.
    """

    now: datetime | None = None
    values: Callable[[str, str], "pl.Series"] = _no_values
    shares: Callable[[str, str], Mapping[str, float]] = _no_shares


NOTHING = Surroundings()
