"""What the live version is compared with, and how far each of its columns has moved."""

from collections.abc import Sequence

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from flyball.domain.data.profiles import ColumnCounts, ColumnProfile, Counts, Profile
from flyball.domain.predictions.frames import expand_json
from flyball.domain.registry.reference import PREDICTION, ReferenceProfile
from flyball.domain.registry.signatures import Signature

Floats = NDArray[np.float64]
_NOTABLE_SHARE = 0.05
_TYPES: dict[str, pl.DataType] = {
    "int": pl.Float64(),
    "float": pl.Float64(),
    "bool": pl.Boolean(),
    "string": pl.String(),
    "datetime": pl.String(),
    "date": pl.String(),
}


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """A model version as monitoring needs it: what its package says it was trained on.

    Attributes:
        version: Such as ``credit-risk/3``.
        profile: The binned distributions of its training data and its predictions there.
        signature: What it takes and gives.
        unlogged: Inputs that the prediction log may not hold; of those nothing can be said.
    """

    version: str
    profile: ReferenceProfile
    signature: Signature
    unlogged: frozenset[str] = frozenset()

    @property
    def mean_prediction(self) -> float | None:
        """The mean of its predictions when it was made, or None for classes."""
        column = self.profile.predictions.columns.get(PREDICTION)
        return None if column is None else column.mean


class ColumnChange(msgspec.Struct, frozen=True, kw_only=True):
    """One column in the training data and in a window, over the same cells.

    Attributes:
        expected: Training rows in each cell; the last cell holds the missing values.
        observed: The window's rows in the same cells.
        mean_before: The training mean of a numeric column.
        mean_now: The window's mean of a numeric column.
        null_share: The window's share of missing values.
        null_share_before: The training data's share of missing values.
        outside_share: The window's share of values beyond the training data's range, or of unknown categories.
    """

    expected: tuple[float, ...]
    observed: tuple[float, ...]
    mean_before: float | None = None
    mean_now: float | None = None
    null_share: float = 0.0
    null_share_before: float = 0.0
    outside_share: float = 0.0

    @property
    def rows(self) -> int:
        """Rows in the window."""
        return int(sum(self.observed))

    def describe(self) -> str:
        """Say what moved, in a few words: missing values, the mean, or the shares of values."""
        if abs(self.null_share - self.null_share_before) > _NOTABLE_SHARE:
            return f"{self.null_share:.0%} missing, {self.null_share_before:.0%} in training"
        if self.mean_now is not None and self.mean_before is not None:
            return f"mean {self.mean_now:.4g}, {self.mean_before:.4g} in training"
        if self.outside_share > _NOTABLE_SHARE:
            return f"{self.outside_share:.0%} unknown in training"
        return "other shares than in training"


def compare_inputs(
    baseline: Baseline, counts: Counts | None, columns: Sequence[str] | None = None
) -> dict[str, ColumnChange]:
    """Return how far each input has moved; of all columns, or of those named that the profile has."""
    changes = compare_counts(baseline.profile.features, counts, columns)
    return {name: change for name, change in changes.items() if name not in baseline.unlogged}


def compare_outputs(baseline: Baseline, counts: Counts | None) -> dict[str, ColumnChange]:
    """Return how far the prediction has moved, under the name ``prediction``."""
    return compare_counts(baseline.profile.predictions, counts, None)


def compare_counts(
    profile: Profile, counts: Counts | None, columns: Sequence[str] | None = None
) -> dict[str, ColumnChange]:
    """Return how far columns have moved from a profile; of all columns, or of those named that the profile has."""
    if counts is None:
        return {}
    names = profile.columns if columns is None else [name for name in columns if name in profile.columns]
    return {name: _compare_column(profile.columns[name], counts.columns[name]) for name in names}


def _compare_column(before: ColumnProfile, now: ColumnCounts) -> ColumnChange:
    observed = (*now.cells, now.nulls)
    rows = now.n
    return ColumnChange(
        expected=(*before.cells, before.nulls),
        observed=observed,
        mean_before=before.mean,
        mean_now=now.mean,
        null_share=now.nulls / rows if rows else 0.0,
        null_share_before=before.nulls / before.n if before.n else 0.0,
        outside_share=now.outside / rows if rows else 0.0,
    )


def read_inputs(baseline: Baseline, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the features of logged predictions as the profile counts them; what a row lacks is null."""
    types = {field.name: _TYPES[field.dtype] for field in baseline.signature.features.fields}
    wanted = {name: types.get(name, pl.String()) for name in baseline.profile.features.columns}
    return expand_json(rows, "features", wanted)


def read_outputs(baseline: Baseline, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the predictions as the profile counts them: numbers, or the likeliest class as text."""
    column = rows["prediction"]
    if baseline.signature.task == "multiclass":
        names = dict(enumerate(map(str, baseline.signature.classes)))
        column = column.cast(pl.Int64).replace_strict(names, default=None, return_dtype=pl.String)
    return pl.DataFrame({PREDICTION: column})


def read_labelled(baseline: Baseline, rows: pl.DataFrame) -> tuple[Floats, Floats]:
    """Return labels and predictions as metrics take them: classes as their numbers, scores where there are many.

    Labels that are none of the model's classes are missing (NaN).
    """
    labels = rows["label"]
    signature = baseline.signature
    if signature.task != "regression":
        classes = [str(name) if labels.dtype == pl.String else float(name) for name in signature.classes]
        numbers = {name: float(number) for number, name in enumerate(classes)}
        labels = labels.replace_strict(numbers, default=None, return_dtype=pl.Float64)
    if signature.task == "multiclass" and "scores" in rows.columns:
        width = len(signature.classes)
        scores = [values or [np.nan] * width for values in rows["scores"].to_list()]
        return labels.to_numpy(), np.array(scores, dtype=np.float64).reshape(-1, width)
    return labels.cast(pl.Float64).to_numpy(), rows["prediction"].to_numpy()
