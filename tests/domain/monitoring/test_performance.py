"""The metrics agree with scikit-learn's, and their standard errors with repeated sampling."""

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flyball.core.errors import InvalidInputError, UnknownNameError
from flyball.domain.monitoring.metrics import METRICS
from flyball.domain.monitoring.performance import compute_metric

_probability = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]) | st.floats(0, 1)
_value = st.floats(-1e3, 1e3)


def _pairs(label: st.SearchStrategy[float], prediction: st.SearchStrategy[float]) -> st.SearchStrategy:
    return st.integers(2, 40).flatmap(
        lambda n: st.tuples(arrays(np.float64, n, elements=label), arrays(np.float64, n, elements=prediction))
    )


_BINARY = {
    "auc": reference.roc_auc_score,
    "average_precision": reference.average_precision_score,
    "accuracy": lambda y, p: reference.accuracy_score(y, p >= 0.5),
    "precision": lambda y, p: reference.precision_score(y, p >= 0.5, zero_division=0.0),
    "recall": lambda y, p: reference.recall_score(y, p >= 0.5, zero_division=0.0),
    "f1": lambda y, p: reference.f1_score(y, p >= 0.5, zero_division=0.0),
    "logloss": lambda y, p: reference.log_loss(y, p, labels=[0.0, 1.0]),
    "brier": reference.brier_score_loss,
}
_REGRESSION = {
    "rmse": reference.root_mean_squared_error,
    "mse": reference.mean_squared_error,
    "mae": reference.mean_absolute_error,
    "mape": reference.mean_absolute_percentage_error,
    "r2": reference.r2_score,
    "bias": lambda y, p: float(np.mean(p - y)),
    "rmsle": reference.root_mean_squared_log_error,
}


def test_every_metric_is_compared_with_the_reference() -> None:
    assert {*_BINARY, *_REGRESSION} == set(METRICS)


@pytest.mark.parametrize("name", _BINARY)
@settings(deadline=None)
@given(sample=_pairs(st.sampled_from([0.0, 1.0]), _probability))
def test_binary_metrics_agree_with_scikit_learn(name: str, sample: tuple) -> None:
    labels, predictions = sample
    found = compute_metric(name, labels, predictions)
    if found.value is None:
        assert len(set(labels)) == 1 or not (predictions >= 0.5).any()
    else:
        assert found.value == pytest.approx(_BINARY[name](labels, predictions), abs=1e-9)


@pytest.mark.parametrize("name", _REGRESSION)
@settings(deadline=None)
@given(sample=_pairs(_value, _value))
def test_regression_metrics_agree_with_scikit_learn(name: str, sample: tuple) -> None:
    labels, predictions = np.abs(sample[0]) if name == "rmsle" else sample[0], sample[1]
    if name == "rmsle":
        predictions = np.abs(predictions)
    found = compute_metric(name, labels, predictions)
    if found.value is None:
        assert np.isclose(labels.var(), 0)
    elif name != "r2" or labels.var() > 1e-9:
        assert found.value == pytest.approx(_REGRESSION[name](labels, predictions), rel=1e-9, abs=1e-9)


def test_accuracy_and_logloss_take_probabilities_of_many_classes() -> None:
    labels = np.array([0, 1, 2, 2])
    predictions = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]])
    assert compute_metric("accuracy", labels, predictions).value == 0.75
    assert compute_metric("logloss", labels, predictions).value == pytest.approx(
        reference.log_loss(labels, predictions)
    )


def test_missing_labels_and_predictions_are_left_out() -> None:
    found = compute_metric("mae", [1.0, np.nan, 3.0, 4.0], [2.0, 5.0, np.nan, 4.5])
    assert (found.value, found.count) == (0.75, 2)


def test_a_sample_that_cannot_tell_has_no_value() -> None:
    assert compute_metric("auc", [1, 1], [0.2, 0.4]).value is None
    assert compute_metric("rmse", [], []).value is None


@pytest.mark.parametrize("name", ["auc", "accuracy", "logloss", "brier", "rmse", "mae", "bias", "recall"])
def test_standard_errors_are_those_of_repeated_sampling(name: str) -> None:
    random = np.random.default_rng(7)
    values, errors = [], []
    for _ in range(300):
        chance = random.beta(2, 2, 300)
        labels = (random.random(300) < chance).astype(float)
        found = compute_metric(name, labels, chance)
        values.append(found.value)
        errors.append(found.stderr)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.2)


def test_labels_that_are_not_binary_are_refused_by_binary_metrics() -> None:
    with pytest.raises(InvalidInputError, match="auc needs labels of 0 and 1, but a label is 2"):
        compute_metric("auc", [0, 2], [0.1, 0.2])


def test_samples_of_two_lengths_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="2 labels do not fit 1 predictions"):
        compute_metric("mae", [0, 2], [0.1])


def test_an_unknown_metric_is_refused_with_the_closest_name() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'rmse'"):
        compute_metric("rmsee", [0.0], [0.0])
