"""Answers rows of a table by an endpoint's graph: row by row, as live does, for nodes that look at single requests."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from flyball.domain.predictions.records import PredictionStatus
from flyball.domain.serving.loaded import LoadedVersion
from flyball.domain.serving.scoring import Scored
from flyball.domain.serving.table_requests import TableRequests, Verdict
from flyball.domain.serving.table_scoring import TableScores, as_frame, as_violation

ScoreRows = Callable[[Sequence[dict[str, Any]], Sequence[datetime]], list[Scored]]
"""Answers requests, each asked at its instant."""
_CHUNK = 8_192


class RowScorer:
    """Scores rows of one table by whatever answers requests. Stands where a `TableScorer` does.

    Args:
        loaded: The endpoint's own version; what the answers mean is its signature.
        requests: Reads the table's rows.
        score_rows: Answers them.
    """

    def __init__(self, loaded: LoadedVersion, requests: TableRequests, score_rows: ScoreRows) -> None:
        self._loaded = loaded
        self._requests = requests
        self._score_rows = score_rows

    def __enter__(self) -> "RowScorer":
        return self

    def __exit__(self, *_: object) -> None:
        return

    def score(self, frame: pl.DataFrame, at: datetime) -> TableScores:
        """Score rows; see `TableScorer.score`. Each answer tells the version and the node that gave it."""
        rows = frame.select(self._requests.columns)
        scored: list[Scored] = []
        for start in range(0, rows.height, _CHUNK):
            some = rows.slice(start, _CHUNK).to_dicts()
            scored += self._score_rows(some, [at] * len(some))
        answered = [row for row, one in enumerate(scored) if one.status is PredictionStatus.OK]
        rejected = [
            Verdict(row, one.status, [*one.violations, *([as_violation(one.failure)] if one.failure else [])])
            for row, one in enumerate(scored)
            if one.status is not PredictionStatus.OK
        ]
        return TableScores(answered, self._describe([scored[row] for row in answered]), rejected)

    def _describe(self, scored: Sequence[Scored]) -> pl.DataFrame:
        classes = self._loaded.signature.classes
        width = len(classes) if self._loaded.signature.task == "multiclass" else 1
        values = np.array([one.prediction if width == 1 else one.scores for one in scored], dtype=np.float64)
        versions = [self._loaded.ref if one.ref is None else one.ref for one in scored]
        return as_frame(self._loaded, values.reshape(len(scored), *(() if width == 1 else (width,)))).with_columns(
            pl.Series("model_version", versions, dtype=pl.String),
            pl.Series("node", [one.node for one in scored], dtype=pl.String),
        )
