"""Each row's score: their mean is the metric."""

import numpy as np
import pytest

from flyball.core.errors import InvalidInputError
from flyball.domain.monitoring.performance import compute_metric
from flyball.domain.monitoring.row_scores import score_each
from flyball.domain.serving.trials import TRIAL_METRICS

DICE = np.random.default_rng(1)
FLAGS = (DICE.random(500) < 0.4).astype(float)
CHANCES = DICE.random(500)
VALUES = DICE.normal(size=500)


@pytest.mark.parametrize("metric", sorted(set(TRIAL_METRICS) - {"label"}))
def test_the_mean_over_rows_is_the_metric(metric: str) -> None:
    labels, given = (VALUES, VALUES + DICE.normal(size=500)) if metric in ("mae", "mse") else (FLAGS, CHANCES)
    scores, present = score_each(metric, labels, given)
    assert present.all()
    assert scores.mean() == pytest.approx(compute_metric(metric, labels, given).value)


@pytest.mark.parametrize("metric", ["accuracy", "logloss"])
def test_many_classes_have_scores_too(metric: str) -> None:
    shares = DICE.dirichlet([1, 1, 1], 500)
    labels = DICE.integers(0, 3, 500).astype(float)
    scores, _ = score_each(metric, labels, shares)
    assert scores.mean() == pytest.approx(compute_metric(metric, labels, shares).value)


def test_the_label_itself_is_a_score() -> None:
    scores, _ = score_each("label", FLAGS, CHANCES)
    assert scores.mean() == FLAGS.mean()


def test_rows_without_a_label_have_none() -> None:
    labels = FLAGS.copy()
    labels[:100] = np.nan
    scores, present = score_each("brier", labels, CHANCES)
    assert present.sum() == 400
    assert np.isnan(scores[:100]).all()


def test_a_metric_of_single_numbers_does_not_fit_many_classes() -> None:
    with pytest.raises(InvalidInputError, match="compares single numbers"):
        score_each("brier", FLAGS, np.full((500, 3), 1 / 3))
