"""Where performance monitors get labelled predictions from."""

from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import polars as pl


class LabelSource(Protocol):
    """Gives the labelled predictions of an endpoint."""

    def __call__(self, *, version: str, known_since: datetime, as_of: datetime) -> "pl.DataFrame":
        """Return a version's predictions whose label became known in (known_since, as_of].

        Columns: ``prediction`` and ``label``, and ``scores`` (list of numbers) for many classes.
        """
        ...
