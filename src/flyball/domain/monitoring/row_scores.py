"""The metric of each single row, for metrics that are means over rows: what trials compare."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from flyball.core.errors import InvalidInputError
from flyball.domain.serving.trials import LABEL

Floats = NDArray[np.float64]
_SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)
_CLASS_BORDER = 0.5


def score_each(metric: str, labels: Floats, predictions: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return each row's score, and which rows have one: a row without a label, or of another class, has none.

    Args:
        metric: One of `trials.TRIAL_METRICS`.
        labels: ``(n,)`` numbers; the numbers of classes for classifiers.
        predictions: ``(n,)`` values or probabilities of the class 1, or ``(n, k)`` probabilities of classes.

    Raises:
        InvalidInputError: The metric needs another kind of model.
    """
    present = np.isfinite(labels)
    if metric != LABEL:
        present &= np.isfinite(predictions) if predictions.ndim == 1 else np.isfinite(predictions).all(axis=1)
        if predictions.ndim == 2 and metric not in ("accuracy", "logloss"):
            raise InvalidInputError(
                f"{metric} compares single numbers, but the model gives {predictions.shape[1]} classes",
                hint="Compare accuracy or logloss instead.",
            )
        if metric in ("brier", "logloss") and predictions.ndim == 1:
            present &= np.isin(labels, (0.0, 1.0))
    scores = np.full(len(labels), np.nan)
    scores[present] = _SCORES[metric](labels[present], predictions[present])
    return scores, present


def _accuracy(truth: Floats, given: Floats) -> Floats:
    found = given.argmax(axis=1) if given.ndim == 2 else (given >= _CLASS_BORDER).astype(np.float64)
    return np.asarray(found == truth, dtype=np.float64)


def _logloss(truth: Floats, given: Floats) -> Floats:
    chance = given[np.arange(len(truth)), truth.astype(int)] if given.ndim == 2 else np.abs(given - (1 - truth))
    losses: Floats = -np.log(np.clip(chance, _SMALLEST_PROBABILITY, 1.0))
    return losses


def _squared(truth: Floats, given: Floats) -> Floats:
    return (truth - given) ** 2


_SCORES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "accuracy": _accuracy,
    "brier": _squared,
    "logloss": _logloss,
    "mae": lambda truth, given: np.abs(truth - given),
    "mse": _squared,
    LABEL: lambda truth, given: truth,
}
