"""Where performance monitors get labelled predictions from."""

from datetime import datetime, timedelta
from typing import Protocol

import polars as pl

from flyball.domain.predictions.service import PredictionService

REACH = timedelta(days=180)
"""How long after a prediction its label may still come and be judged."""


class LabelSource(Protocol):
    """Gives the labelled predictions of an endpoint."""

    def __call__(self, *, version: str, known_since: datetime, as_of: datetime) -> pl.DataFrame:
        """Return a version's predictions whose label became known in (known_since, as_of].

        Columns: ``prediction`` and ``label``, and ``scores`` (list of numbers) for many classes.
        """
        ...


class LoggedLabels:
    """The labels in the prediction log, its shadow predictions included.

    Args:
        predictions: The log.
        endpoint: Whose predictions.
        reach: Predictions older than this when the window begins are not looked at.
    """

    def __init__(self, predictions: PredictionService, endpoint: str, *, reach: timedelta = REACH) -> None:
        self._predictions = predictions
        self._endpoint = endpoint
        self._reach = reach

    def __call__(self, *, version: str, known_since: datetime, as_of: datetime) -> pl.DataFrame:
        """See `LabelSource`."""
        rows = self._predictions.labelled(self._endpoint, known_since - self._reach, as_of, as_of, version=version)
        return rows.filter(pl.col("label_known_at") > known_since)
