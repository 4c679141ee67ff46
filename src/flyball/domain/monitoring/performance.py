"""How well predictions fit their labels, with the standard error that says how far chance could move the figure."""

from collections.abc import Callable
from math import sqrt
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from flyball.core.errors import InvalidInputError
from flyball.domain.monitoring.metrics import find_metric

Floats = NDArray[np.float64]
_SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)
_CLASS_BORDER = 0.5


class Estimate(msgspec.Struct, frozen=True):
    """A metric over a sample.

    Attributes:
        value: The metric, or None where the sample cannot tell (no rows; one class only; a zero denominator).
        count: How many labelled predictions it rests on.
        stderr: The standard error of ``value``, or None where no formula is known to us.
    """

    value: float | None
    count: int
    stderr: float | None = None


def compute_metric(name: str, labels: ArrayLike, predictions: ArrayLike) -> Estimate:
    """Compare predictions with labels, row by row; rows in which either is missing are left out.

    Args:
        name: One of `metrics.METRICS`.
        labels: ``(n,)`` numbers; 0 and 1 for the metrics of binary models, class numbers for ``accuracy``.
        predictions: ``(n,)`` values or probabilities of the class 1; ``accuracy`` and ``logloss`` also take
            ``(n, k)`` probabilities of the classes 0 to k-1.

    Raises:
        UnknownNameError: There is no such metric.
        InvalidInputError: The shapes differ, or a binary metric is given labels other than 0 and 1.
    """
    metric = find_metric(name)
    truth, given = np.asarray(labels, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    if len(truth) != len(given):
        raise InvalidInputError(f"{len(truth)} labels do not fit {len(given)} predictions")
    present = ~np.isnan(truth) & ~(np.isnan(given) if given.ndim == 1 else np.isnan(given).any(axis=1))
    truth, given = truth[present], given[present]
    count = len(truth)
    if not count:
        return Estimate(None, 0)
    if metric.task == "binary" and given.ndim == 1 and not np.isin(truth, (0.0, 1.0)).all():
        found = truth[~np.isin(truth, (0.0, 1.0))][0]
        raise InvalidInputError(f"{name} needs labels of 0 and 1, but a label is {found:g}")
    value, stderr = _FORMULAS[name](truth, given)
    return Estimate(value, count, stderr)


def _mean(losses: Floats) -> tuple[float, float | None]:
    count = len(losses)
    return float(losses.mean()), float(losses.std(ddof=1)) / sqrt(count) if count > 1 else None


def _auc(truth: Floats, given: Floats) -> tuple[float | None, float | None]:
    """Area under the ROC curve as Mann and Whitney's U; its error by Hanley and McNeil (Radiology 143, 1982)."""
    positive = truth == 1
    n_positive = int(positive.sum())
    n_negative = len(truth) - n_positive
    if not n_positive or not n_negative:
        return None, None
    _, place, ties = np.unique(given, return_inverse=True, return_counts=True)
    mean_rank = (np.cumsum(ties) - (ties - 1) / 2)[place]
    area = float((mean_rank[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))
    both_positive, both_negative = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (
        area * (1 - area) + (n_positive - 1) * (both_positive - area**2) + (n_negative - 1) * (both_negative - area**2)
    ) / (n_positive * n_negative)
    return area, sqrt(max(variance, 0.0))


def _average_precision(truth: Floats, given: Floats) -> tuple[float | None, None]:
    """Precision at each threshold, weighted by the recall it adds, ties taken together."""
    if not truth.any():
        return None, None
    order = np.argsort(-given, kind="stable")
    hits = np.cumsum(truth[order])
    last_of_tie = np.append(np.diff(given[order]) != 0, True)
    hits, ranks = hits[last_of_tie], np.flatnonzero(last_of_tie) + 1
    added = np.diff(hits, prepend=0) / hits[-1]
    return float((hits / ranks * added).sum()), None


def _accuracy(truth: Floats, given: Floats) -> tuple[float, float | None]:
    return _mean((_classes(given) == truth).astype(np.float64))


def _classes(given: Floats) -> Floats:
    found = given.argmax(axis=1) if given.ndim == 2 else given >= _CLASS_BORDER
    return found.astype(np.float64)


def _precision(truth: Floats, given: Floats) -> tuple[float | None, float | None]:
    chosen = _classes(given) == 1
    return _mean(truth[chosen]) if chosen.any() else (None, None)


def _recall(truth: Floats, given: Floats) -> tuple[float | None, float | None]:
    positive = truth == 1
    return _mean(_classes(given)[positive]) if positive.any() else (None, None)


def _f1(truth: Floats, given: Floats) -> tuple[float | None, None]:
    chosen = _classes(given)
    size = chosen.sum() + truth.sum()
    return (float(2 * (chosen * truth).sum() / size) if size else None), None


def _logloss(truth: Floats, given: Floats) -> tuple[float, float | None]:
    right = (
        given[np.arange(len(truth)), truth.astype(np.int64)]
        if given.ndim == 2
        else np.where(truth == 1, given, 1 - given)
    )
    return _mean(-np.log(np.clip(right, _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)))


def _brier(truth: Floats, given: Floats) -> tuple[float, float | None]:
    return _mean((given - truth) ** 2)


def _root(squares: Floats) -> tuple[float, float | None]:
    """The root of a mean; its error by the delta method: the mean's, divided by twice the root."""
    mean, stderr = _mean(squares)
    root = sqrt(mean)
    return root, (stderr / (2 * root) if stderr is not None and root else stderr)


def _rmse(truth: Floats, given: Floats) -> tuple[float, float | None]:
    return _root((given - truth) ** 2)


def _rmsle(truth: Floats, given: Floats) -> tuple[float | None, float | None]:
    if (truth <= -1).any() or (given <= -1).any():
        return None, None
    return _root((np.log1p(given) - np.log1p(truth)) ** 2)


def _mae(truth: Floats, given: Floats) -> tuple[float, float | None]:
    return _mean(np.abs(given - truth))


def _mape(truth: Floats, given: Floats) -> tuple[float, float | None]:
    return _mean(np.abs(given - truth) / np.maximum(np.abs(truth), _SMALLEST_PROBABILITY))


def _r2(truth: Floats, given: Floats) -> tuple[float | None, None]:
    spread = float(((truth - truth.mean()) ** 2).sum())
    return (1 - float(((truth - given) ** 2).sum()) / spread if spread and len(truth) > 1 else None), None


def _bias(truth: Floats, given: Floats) -> tuple[float, float | None]:
    return _mean(given - truth)


_FORMULAS: dict[str, Callable[[Floats, Floats], tuple[Any, Any]]] = {
    "auc": _auc,
    "average_precision": _average_precision,
    "accuracy": _accuracy,
    "precision": _precision,
    "recall": _recall,
    "f1": _f1,
    "logloss": _logloss,
    "brier": _brier,
    "rmse": _rmse,
    "mse": _brier,
    "rmsle": _rmsle,
    "mae": _mae,
    "mape": _mape,
    "r2": _r2,
    "bias": _bias,
}
