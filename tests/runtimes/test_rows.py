"""The arithmetic of one row is the model's own, for every kind of part that is known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, PolynomialFeatures, StandardScaler

from flyball.domain.registry.runtimes import PredictionFailedError
from flyball.domain.registry.signatures import infer_signature
from flyball.runtimes.rows import compile_row
from flyball.runtimes.sklearn import SklearnRuntime

RANDOM = np.random.default_rng(2)
ROWS = pl.DataFrame(
    {
        "x": RANDOM.normal(size=400) * 1000,
        "gap": [None if value < -0.5 else float(value) for value in RANDOM.normal(size=400)],
        "n": RANDOM.integers(0, 5, 400),
        "town": RANDOM.choice(["Aix", "Bonn", "Cork"], 400),
        "kind": RANDOM.choice(["a", "b"], 400),
    }
).with_columns(y=pl.col("x") / 1000 + pl.col("n") > 2, price=pl.col("x") * 2 + pl.col("n"))
ALL, TEXTS = ["x", "gap", "n", "town", "kind"], ["town", "kind"]
ORDINAL = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)


def columns(*more: Any) -> ColumnTransformer:
    return make_column_transformer((ORDINAL, TEXTS), *more, remainder="passthrough")


MODELS: dict[str, tuple[Any, list[str], str]] = {
    "boosting": (HistGradientBoostingClassifier(max_iter=30), ["x", "gap", "n"], "y"),
    "boosted-regression": (HistGradientBoostingRegressor(max_iter=30), ["x", "gap", "n"], "price"),
    "poisson": (HistGradientBoostingRegressor(max_iter=10, loss="poisson"), ["x", "gap"], "n"),
    "logistic": (LogisticRegression(), ["n"], "y"),
    "linear": (LinearRegression(), ["x", "n"], "price"),
    "ridge": (make_pipeline(StandardScaler(), Ridge()), ["x", "n"], "price"),
    "no-mean": (make_pipeline(StandardScaler(with_mean=False), Ridge()), ["x", "n"], "price"),
    "ordinal-boosting": (make_pipeline(columns(), HistGradientBoostingClassifier(max_iter=30)), ALL, "y"),
    "strict-ordinal": (
        make_pipeline(make_column_transformer((OrdinalEncoder(), ["town"]), remainder="drop"), LogisticRegression()),
        ALL,
        "y",
    ),
    "everything": (
        Pipeline(
            [
                (
                    "columns",
                    ColumnTransformer(
                        [
                            ("gaps", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["gap", "x"]),
                            ("town", OneHotEncoder(handle_unknown="ignore"), ["town"]),
                            ("strict", OneHotEncoder(sparse_output=False), ["kind"]),
                            ("rest", "passthrough", ["n"]),
                        ]
                    ),
                ),
                ("nothing", "passthrough"),
                ("model", LogisticRegression(max_iter=1000)),
            ]
        ),
        ALL,
        "y",
    ),
}
UNKNOWN = {
    "trees": (GradientBoostingClassifier(n_estimators=2), ["x"], "y"),
    "classes": (LogisticRegression(), ["n"], "town"),
    "polynomial": (make_pipeline(PolynomialFeatures(), LinearRegression()), ["n"], "price"),
    "categories": (HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]), ["n"], "y"),
    "rare": (
        make_pipeline(make_column_transformer((OneHotEncoder(min_frequency=5), ["town"])), LogisticRegression()),
        ["town"],
        "y",
    ),
}


def fit(case: tuple[Any, list[str], str]) -> Any:
    model, features, label = case
    return model.fit(ROWS.select(features), ROWS[label])


def predict(model: Any, rows: pl.DataFrame) -> Any:
    return model.predict_proba(rows)[:, 1] if hasattr(model, "predict_proba") else model.predict(rows)


@pytest.mark.parametrize("name", MODELS)
def test_a_row_is_answered_as_the_model_answers_it(name: str, tmp_path: Path) -> None:
    case = MODELS[name]
    model, rows = fit(case), ROWS.select(case[1])
    compiled = compile_row(model)
    assert compiled is not None
    np.testing.assert_allclose([compiled(row) for row in rows.rows()], predict(model, rows), rtol=1e-12, atol=1e-12)
    signature = infer_signature(model, ROWS, case[1], case[2])
    SklearnRuntime().save(model, tmp_path, signature, ROWS)
    assert json.loads((tmp_path / "facts.json").read_text())["is_compiled"]


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_goes_the_usual_way(name: str, tmp_path: Path) -> None:
    case = UNKNOWN[name]
    model = fit(case)
    signature = infer_signature(model, ROWS, case[1], case[2])
    SklearnRuntime().save(model, tmp_path, signature, ROWS)
    assert not json.loads((tmp_path / "facts.json").read_text())["is_compiled"]
    expected = model.predict_proba(ROWS.select(case[1])[:1]) if signature.classes else None
    found = SklearnRuntime().predictor(tmp_path, signature).predict(ROWS[:1])
    if signature.task == "multiclass":
        np.testing.assert_allclose(found, expected)
    else:
        np.testing.assert_allclose(found, predict(model, ROWS.select(case[1])[:1]))


@settings(deadline=None, max_examples=50)
@given(
    x=st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=False, width=32)),
    n=st.integers(-10, 10),
    town=st.sampled_from(["Aix", "Bonn", "Cork", "Nowhere", ""]),
)
def test_rows_unlike_any_of_training_are_answered_alike(x: float | None, n: int, town: str) -> None:
    case = MODELS["ordinal-boosting"]
    row = {"x": x, "gap": None, "n": n, "town": town, "kind": "a"}
    frame = pl.DataFrame([row], schema=ROWS.select(case[1]).schema)
    compiled = compile_row(_FITTED)
    assert compiled is not None
    assert compiled(frame.row(0)) == predict(_FITTED, frame)[0]


_FITTED = fit(MODELS["ordinal-boosting"])


def test_a_thousand_boosted_rows_agree_to_the_last_digit() -> None:
    rows = ROWS.select(ALL)
    compiled = compile_row(_FITTED)
    assert compiled is not None
    assert [compiled(row) for row in rows.rows()] == predict(_FITTED, rows).tolist()


def test_what_the_model_refuses_is_refused(tmp_path: Path) -> None:
    case = MODELS["everything"]
    model = fit(case)
    signature = infer_signature(model, ROWS, case[1], case[2])
    SklearnRuntime().save(model, tmp_path, signature, ROWS)
    predictor = SklearnRuntime().predictor(tmp_path, signature)
    with pytest.raises(PredictionFailedError, match="unknown categories"):
        predictor.predict(ROWS[:1].with_columns(kind=pl.lit("z")))
    with pytest.raises(PredictionFailedError, match="NaN"):
        predictor.predict(ROWS[:1].with_columns(n=pl.lit(None, dtype=pl.Int64)))
    assert predictor.predict(ROWS[:1].with_columns(town=pl.lit("Nowhere"))).shape == (1,)
