"""Answers rows of a table by an endpoint's graph, whose nodes look at single requests: as live does, many at a time."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from flyball.domain.predictions.records import PredictionStatus
from flyball.domain.serving.loaded import LoadedVersion
from flyball.domain.serving.scoring import ModelFailedError, Scored
from flyball.domain.serving.table_requests import TableRequests, Verdict
from flyball.domain.serving.table_scoring import TableScores, as_frame, as_violation

ScoreRows = Callable[[Sequence[dict[str, Any]], Sequence[datetime]], list[Scored]]
"""Answers requests, each asked at its instant."""
NODE = "node"
"""The column that tells which node of the graph answered."""
_CHUNK = 8_192
_MOST_ALONE = 100


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
        self._alone_left = _MOST_ALONE

    def __enter__(self) -> "RowScorer":
        return self

    def __exit__(self, *_: object) -> None:
        return

    def score(self, frame: pl.DataFrame, at: datetime) -> TableScores:
        """Score rows; see `TableScorer.score`. Each answer tells the version and the node that gave it."""
        rows = self._requests.as_asked(frame)
        scored: list[Scored] = []
        for start in range(0, rows.height, _CHUNK):
            scored += self._answer(rows.slice(start, _CHUNK).to_dicts(), at)
        answered = [row for row, one in enumerate(scored) if one.status is PredictionStatus.OK]
        rejected = [
            Verdict(row, one.status, [*one.violations, *([as_violation(one.failure)] if one.failure else [])])
            for row, one in enumerate(scored)
            if one.status is not PredictionStatus.OK
        ]
        return TableScores(answered, self._describe([scored[row] for row in answered]), rejected)

    def _answer(self, rows: list[dict[str, Any]], at: datetime) -> list[Scored]:
        """Answer rows; a row that a model raises for takes the others of its chunk along, so those are asked again.

        After some such rows the model is taken to be broken, and answers stay as they are.
        """
        found = self._score_rows(rows, [at] * len(rows))
        failed = [row for row, one in enumerate(found) if _has_raised(one)]
        if not failed or self._alone_left <= 0:
            return found
        if len(rows) == 1:
            self._alone_left -= 1
            return found
        half = (len(failed) + 1) // 2
        for some in (failed[:half], failed[half:]):
            if some:
                again = self._answer([rows[row] for row in some], at)
                for row, one in zip(some, again, strict=True):
                    found[row] = one
        return found

    def _describe(self, scored: Sequence[Scored]) -> pl.DataFrame:
        width = len(self._loaded.signature.classes) if self._loaded.signature.task == "multiclass" else 1
        values = np.array([one.prediction if width == 1 else one.scores for one in scored], dtype=np.float64)
        versions = [self._loaded.ref if one.ref is None else one.ref for one in scored]
        return as_frame(self._loaded, values.reshape(len(scored), *(() if width == 1 else (width,)))).with_columns(
            pl.Series("model_version", versions, dtype=pl.String),
            pl.Series(NODE, [one.node for one in scored], dtype=pl.String),
        )


def _has_raised(scored: Scored) -> bool:
    failures = [scored.failure, *(attempt.failure for attempt in scored.attempts)]
    return any(isinstance(failure, ModelFailedError) for failure in failures)
