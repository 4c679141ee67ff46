"""Every runtime, with real models of its library, passes the same checks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from flyball.domain.registry.signatures import infer_signature
from flyball.testing.runtimes import RUNTIME_CHECKS, RuntimeCase

ROWS = 300


def make_rows() -> pl.DataFrame:
    random = np.random.default_rng(7)
    income = random.normal(50, 20, ROWS)
    age = random.integers(18, 80, ROWS)
    risk = 0.05 * income - 0.08 * age + random.normal(size=ROWS)
    return pl.DataFrame(
        {
            "income": income,
            "age": age,
            "owner": random.random(ROWS) < 0.5,
            "town": random.choice(["Aix", "Bonn", "Cork"], ROWS),
            "defaulted": risk > np.median(risk),
            "grade": np.array(["a", "b", "c"])[np.digitize(risk, np.quantile(risk, [0.33, 0.66]))],
            "price": 3 * income + age,
        }
    )


DATA = make_rows()
NUMBERS = ["income", "age", "owner"]
WITH_TEXT = [*NUMBERS, "town"]


def shout(frame: pl.DataFrame) -> pl.DataFrame:
    """A function of the project, pickled by value."""
    return frame.with_columns(pl.col("income") * 2)


class Threshold:
    """A plain Python model of the project."""

    def predict(self, frame: pl.DataFrame) -> pl.Series:
        return (frame["income"] > 50).cast(pl.Float64) * 0.5 + 0.25


class MlflowStyle:
    """Written as MLflow's PythonModel asks."""

    def predict(self, context: Any, model_input: pl.DataFrame) -> list[float]:
        assert context is None
        return [income * 2.0 for income in model_input["income"]]


class OwnEstimator(ClassifierMixin, BaseEstimator):
    """An estimator of the project that looks at column names."""

    def fit(self, frame: pl.DataFrame, labels: pl.Series) -> "OwnEstimator":
        self.classes_ = np.unique(labels)
        return self

    def predict_proba(self, frame: pl.DataFrame) -> np.ndarray[Any, Any]:
        share = (frame["age"] / 100).to_numpy()
        return np.column_stack([1 - share, share])

    def predict(self, frame: pl.DataFrame) -> np.ndarray[Any, Any]:
        return self.classes_[self.predict_proba(frame).argmax(axis=1)]


def constant(frame: pl.DataFrame) -> np.ndarray[Any, Any]:
    return np.full(len(frame), 1.5)


def case(runtime: str, model: Any, features: list[str], label: str, expected: Any) -> RuntimeCase:
    return RuntimeCase(
        name=runtime,
        model=model,
        signature=infer_signature(model, DATA, features, label),
        rows=DATA.select(features),
        expected=expected,
    )


def fitted(model: Any, features: list[str], label: str) -> RuntimeCase:
    model.fit(DATA.select(features), DATA[label])
    rows = DATA.select(features)
    if hasattr(model, "predict_proba"):
        expected = model.predict_proba(rows)
        expected = expected[:, 1] if expected.shape[1] == 2 else expected
    else:
        expected = model.predict(rows)
    return case("sklearn", model, features, label, expected)


def columns_model() -> Any:
    encode = ColumnTransformer(
        [("numbers", StandardScaler(), NUMBERS), ("texts", OneHotEncoder(handle_unknown="ignore"), ["town"])]
    )
    return Pipeline([("encode", encode), ("model", LogisticRegression())])


def fitted_on_arrays() -> RuntimeCase:
    rows = DATA.select(NUMBERS).cast(pl.Float64).to_numpy()
    model = LogisticRegression(max_iter=1000).fit(rows, DATA["defaulted"].to_numpy())
    return case("sklearn", model, NUMBERS, "defaulted", model.predict_proba(rows)[:, 1])


def xgboost_classifier() -> RuntimeCase:
    xgboost = pytest.importorskip("xgboost")
    rows = DATA.select(NUMBERS).cast(pl.Float64).to_numpy()
    model = xgboost.XGBClassifier(n_estimators=20, n_jobs=1).fit(rows, DATA["defaulted"].to_numpy())
    return case("xgboost", model, NUMBERS, "defaulted", model.predict_proba(rows)[:, 1])


def xgboost_regressor() -> RuntimeCase:
    xgboost = pytest.importorskip("xgboost")
    rows = DATA.select(NUMBERS).cast(pl.Float64).to_numpy()
    model = xgboost.XGBRegressor(n_estimators=20, n_jobs=1).fit(rows, DATA["price"].to_numpy())
    return case("xgboost", model, NUMBERS, "price", model.predict(rows))


def onnx_model() -> RuntimeCase:
    pytest.importorskip("onnxruntime")
    skl2onnx = pytest.importorskip("skl2onnx")
    rows = DATA.select(NUMBERS).cast(pl.Float64).to_numpy()
    model = LogisticRegression(max_iter=1000).fit(rows, DATA["defaulted"].to_numpy())
    graph = skl2onnx.to_onnx(model, rows[:1].astype(np.float32), options={"zipmap": False})
    signature = infer_signature(model, DATA, NUMBERS, "defaulted")
    expected = model.predict_proba(rows)[:, 1]
    return RuntimeCase(name="onnx", model=graph, signature=signature, rows=DATA.select(NUMBERS), expected=expected)


CASES: dict[str, Callable[[], RuntimeCase]] = {
    "logistic": lambda: fitted(LogisticRegression(max_iter=1000), NUMBERS, "defaulted"),
    "boosting": lambda: fitted(HistGradientBoostingClassifier(max_iter=20), NUMBERS, "defaulted"),
    "forest": lambda: fitted(RandomForestClassifier(20, n_jobs=2, random_state=1), NUMBERS, "defaulted"),
    "classes": lambda: fitted(HistGradientBoostingClassifier(max_iter=10), NUMBERS, "grade"),
    "regression": lambda: fitted(LinearRegression(), NUMBERS, "price"),
    "boosted-regression": lambda: fitted(HistGradientBoostingRegressor(max_iter=10), NUMBERS, "price"),
    "columns": lambda: fitted(columns_model(), WITH_TEXT, "defaulted"),
    "function": lambda: fitted(
        make_pipeline(FunctionTransformer(shout), LogisticRegression(max_iter=1000)), NUMBERS, "defaulted"
    ),
    "own-estimator": lambda: fitted(OwnEstimator(), NUMBERS, "defaulted"),
    "arrays": fitted_on_arrays,
    "plain-python": lambda: case(
        "pyfunc", Threshold(), NUMBERS, "defaulted", (DATA["income"] > 50).cast(pl.Float64) * 0.5 + 0.25
    ),
    "mlflow-style": lambda: case("pyfunc", MlflowStyle(), NUMBERS, "price", DATA["income"] * 2),
    "function-model": lambda: case("pyfunc", constant, NUMBERS, "price", [1.5] * ROWS),
    "xgboost": xgboost_classifier,
    "xgboost-regression": xgboost_regressor,
    "onnx": onnx_model,
}


@pytest.fixture(scope="module", params=list(CASES))
def runtime_case(request: pytest.FixtureRequest) -> RuntimeCase:
    return CASES[request.param]()


@pytest.mark.parametrize("check", RUNTIME_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_runtime(check: Callable[[RuntimeCase], None], runtime_case: RuntimeCase) -> None:
    check(runtime_case)
