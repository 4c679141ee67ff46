"""Tree ensembles in double precision: the model's own predictions to the last digits, at thresholds too."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from flyball.runtimes.onnx_trees import NotKnownError, write_exact

_RNG = np.random.default_rng(0)
_VALUES = _RNG.random((600, 5))
_MISSING = np.where(_RNG.random((600, 5)) < 0.1, np.nan, _VALUES)
_NUMBER = _VALUES[:, 0] + _VALUES[:, 1] ** 2
_FLAG = _NUMBER > 0.8
_CLASS = np.digitize(_NUMBER, [0.5, 1.0])
_BOOST: dict[str, Any] = {"max_iter": 20, "random_state": 0}


def run(data: bytes, values: Any) -> Any:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, {"features": values})[0]


@pytest.mark.parametrize(
    ("model", "label", "values"),
    [
        (make_pipeline(StandardScaler(), HistGradientBoostingClassifier(**_BOOST)), _FLAG, _VALUES),
        (HistGradientBoostingClassifier(**_BOOST), _FLAG, _MISSING),
        (HistGradientBoostingClassifier(**_BOOST), _CLASS, _MISSING),
        (HistGradientBoostingRegressor(**_BOOST), _NUMBER, _VALUES),
        (HistGradientBoostingRegressor(loss="poisson", **_BOOST), _NUMBER, _VALUES),
        (RandomForestClassifier(n_estimators=10, random_state=0), _CLASS, _VALUES),
        (RandomForestClassifier(n_estimators=10, random_state=0), _FLAG, _MISSING),
        (ExtraTreesRegressor(n_estimators=10, random_state=0), _NUMBER, _VALUES),
        (GradientBoostingRegressor(n_estimators=20, random_state=0), _NUMBER, _VALUES),
        (DecisionTreeClassifier(random_state=0), _FLAG, _VALUES),
        (DecisionTreeClassifier(max_depth=1), np.r_[_FLAG[:-1] * 0, 1], _VALUES),
        (make_pipeline(SimpleImputer(), MinMaxScaler(), LogisticRegression()), _FLAG, _MISSING),
        (make_pipeline(SimpleImputer(), LogisticRegression()), _CLASS, _MISSING),
        (make_pipeline(StandardScaler(), Ridge()), _NUMBER, _VALUES),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else "",
)
def test_it_answers_as_the_model_does(model: Any, label: Any, values: Any) -> None:
    model.fit(values, label)
    # Where rounding to float32 would send a row to the other side: at and right beside what the model was fitted on.
    beside = np.concatenate([values, np.nextafter(values, 0), np.nextafter(values, 1), _RNG.random((500, 5))])
    expected = model.predict_proba(beside) if hasattr(model, "predict_proba") else model.predict(beside)
    found = run(write_exact(model, 5), beside)
    expected = expected.reshape(len(beside), -1)
    np.testing.assert_allclose(found, expected[:, -found.shape[1] :], rtol=1e-12, atol=1e-14)
    single = [run_one[0] for run_one in (run(write_exact(model, 5), beside[:1]),)]
    np.testing.assert_allclose(single[0], found[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("model", [SVC(), make_pipeline(StandardScaler(), SVC())])
def test_what_is_not_known_is_said(model: Any) -> None:
    with pytest.raises(NotKnownError, match="SVC is not written in double precision"):
        write_exact(model.fit(_VALUES, _FLAG), 5)


def test_categories_are_not_known() -> None:
    model = HistGradientBoostingClassifier(categorical_features=[0], **_BOOST)
    values = np.c_[np.digitize(_VALUES[:, 0], [0.3, 0.6]), _VALUES[:, 1:]]
    with pytest.raises(NotKnownError, match="categories"):
        write_exact(model.fit(values, _FLAG), 5)
