"""Every runtime, with real models of its library, passes the same checks."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
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

from flyball.domain.registry.runtimes import ModelNotSavedError, Runtimes
from flyball.domain.registry.signatures import infer_signature
from flyball.testing.runtimes import RUNTIME_CHECKS, RuntimeCase

# Keras takes one of several; the tests have this one.
os.environ.setdefault("KERAS_BACKEND", "torch")
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


class Yielding:
    """Answers row by row, both classes' probabilities each."""

    def predict(self, frame: pl.DataFrame) -> Iterator[list[float]]:
        for income in frame["income"]:
            yield [0.75, 0.25] if income <= 50 else [0.25, 0.75]


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


def numbers() -> np.ndarray[Any, Any]:
    return DATA.select(NUMBERS).cast(pl.Float64).to_numpy()


def lightgbm_model(label: str, *, is_bare: bool = False) -> RuntimeCase:
    lightgbm = pytest.importorskip("lightgbm")
    options = {"n_estimators": 20, "n_jobs": 1, "verbose": -1}
    if label == "price":
        model = lightgbm.LGBMRegressor(**options).fit(numbers(), DATA[label].to_numpy())
        return case("lightgbm", model, NUMBERS, label, model.booster_.predict(numbers()))
    model = lightgbm.LGBMClassifier(**options).fit(numbers(), DATA[label].to_numpy())
    expected = model.booster_.predict(numbers())
    return case("lightgbm", model.booster_ if is_bare else model, NUMBERS, label, expected)


def catboost_model(features: list[str], label: str) -> RuntimeCase:
    catboost = pytest.importorskip("catboost")
    kind = catboost.CatBoostRegressor if label == "price" else catboost.CatBoostClassifier
    rows = [list(row) for row in DATA.select(features).iter_rows()]
    texts = [place for place, name in enumerate(features) if name == "town"]
    model = kind(iterations=15, verbose=False, allow_writing_files=False, cat_features=texts, thread_count=1)
    model.fit(rows, DATA[label].to_list())
    expected = model.predict(rows) if label == "price" else model.predict_proba(rows)
    return case("catboost", model, features, label, expected[:, 1] if label == "defaulted" else expected)


def torch_model(*, is_exportable: bool = True) -> RuntimeCase:
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))

        def forward(self, rows: Any) -> Any:
            if not is_exportable and float(rows.sum()) > 1e30:  # what a program cannot ask
                return rows[:, 0]
            return torch.sigmoid(self.layers(rows / 100))

    model = Net()
    with torch.inference_mode():
        expected = model(torch.from_numpy(numbers().astype(np.float32))).numpy()[:, 0]
    return case("torch", model, NUMBERS, "defaulted", expected)


def keras_model() -> RuntimeCase:
    pytest.importorskip("torch")
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential([layers.Input((3,)), layers.Dense(8), layers.Dense(3, activation="softmax")])
    expected = model(numbers().astype(np.float32)).detach().numpy()
    return case("keras", model, NUMBERS, "grade", expected)


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
    "yielding": lambda: case(
        "pyfunc", Yielding(), NUMBERS, "defaulted", (DATA["income"] > 50).cast(pl.Float64) * 0.5 + 0.25
    ),
    "mlflow-style": lambda: case("pyfunc", MlflowStyle(), NUMBERS, "price", DATA["income"] * 2),
    "function-model": lambda: case("pyfunc", constant, NUMBERS, "price", [1.5] * ROWS),
    "xgboost": xgboost_classifier,
    "xgboost-regression": xgboost_regressor,
    "lightgbm": lambda: lightgbm_model("defaulted"),
    "lightgbm-classes": lambda: lightgbm_model("grade"),
    "lightgbm-regression": lambda: lightgbm_model("price"),
    "lightgbm-booster": lambda: lightgbm_model("defaulted", is_bare=True),
    "catboost": lambda: catboost_model(NUMBERS, "defaulted"),
    "catboost-text-classes": lambda: catboost_model(WITH_TEXT, "grade"),
    "catboost-regression": lambda: catboost_model(NUMBERS, "price"),
    "torch": torch_model,
    "torch-not-exportable": lambda: torch_model(is_exportable=False),
    "keras": keras_model,
    "onnx": onnx_model,
}


@pytest.fixture(scope="module", params=list(CASES))
def runtime_case(request: pytest.FixtureRequest) -> RuntimeCase:
    return CASES[request.param]()


@pytest.mark.parametrize("check", RUNTIME_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_runtime(check: Callable[[RuntimeCase], None], runtime_case: RuntimeCase) -> None:
    check(runtime_case)


def test_scores_are_not_taken_for_probabilities(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 1)
    signature = infer_signature(model, DATA, NUMBERS, "defaulted")
    with pytest.raises(ModelNotSavedError, match="sigmoid"):
        Runtimes().get("torch").save(model, tmp_path, signature, DATA.select(NUMBERS))


def test_scores_of_plain_python_are_not_taken_for_probabilities(tmp_path: Path) -> None:
    class Scores:
        def predict(self, rows: pl.DataFrame) -> pl.Series:
            return rows["income"] * 2

    signature = infer_signature(Scores(), DATA, NUMBERS, "defaulted")
    with pytest.raises(ModelNotSavedError, match=r"a Scores, .*scores, not probabilities"):
        Runtimes().get("pyfunc").save(Scores(), tmp_path, signature, DATA.select(NUMBERS))


@pytest.mark.parametrize("library", ["lightgbm", "torch"])
def test_text_features_are_refused_by_name(tmp_path: Path, library: str) -> None:
    pytest.importorskip(library)
    signature = infer_signature(Threshold(), DATA, WITH_TEXT, "defaulted")
    with pytest.raises(ModelNotSavedError, match="town"):
        Runtimes().get(library).save(Threshold(), tmp_path, signature, DATA.select(WITH_TEXT))
