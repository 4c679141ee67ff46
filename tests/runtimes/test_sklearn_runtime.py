"""scikit-learn's models are fed as cheaply as gives the same answers."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from flyball.domain.registry.runtimes import ModelNotLoadedError, ModelNotSavedError, PredictionFailedError
from flyball.domain.registry.signatures import Arranger, infer_signature
from flyball.runtimes.arrays import to_array
from flyball.runtimes.pickles import FILE_NAME
from flyball.runtimes.sklearn import SklearnRuntime

RANDOM = np.random.default_rng(1)
ROWS = pl.DataFrame(
    {
        "x": RANDOM.normal(size=200),
        "n": RANDOM.integers(0, 5, 200),
        "flag": RANDOM.random(200) < 0.5,
        "town": RANDOM.choice(["Aix", "Bonn"], 200),
    }
).with_columns(y=pl.col("x") + pl.col("n") > 2)
NUMBERS = ["x", "n", "flag"]
BOTH = [*NUMBERS, "town"]


def by_columns() -> ColumnTransformer:
    return ColumnTransformer([("n", "passthrough", NUMBERS), ("t", OneHotEncoder(), ["town"])])


@pytest.mark.parametrize(
    ("model", "features", "expected"),
    [
        (LogisticRegression(), NUMBERS, "array"),
        (HistGradientBoostingClassifier(max_iter=5), NUMBERS, "array"),
        (make_pipeline(StandardScaler(), LogisticRegression()), NUMBERS, "array"),
        (make_pipeline(by_columns(), LogisticRegression()), BOTH, "frame"),
        (make_pipeline(FunctionTransformer(lambda rows: rows.select("x")), LogisticRegression()), NUMBERS, "frame"),
        (VotingClassifier([("a", LogisticRegression())], voting="soft"), NUMBERS, "frame"),
    ],
    ids=["plain", "boosting", "scaled", "columns", "function", "voting"],
)
def test_an_array_is_given_where_that_is_proven_to_be_the_same(
    tmp_path: Path, model: Any, features: list[str], expected: str
) -> None:
    model.fit(ROWS.select(features), ROWS["y"])
    signature = infer_signature(model, ROWS, features, "y")
    SklearnRuntime().save(model, tmp_path, signature, ROWS)
    assert json.loads((tmp_path / "facts.json").read_text())["input"] == expected
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictions = SklearnRuntime().predictor(tmp_path, signature).predict(ROWS)
    np.testing.assert_array_equal(predictions, model.predict_proba(ROWS.select(features))[:, 1])
    assert hasattr(model, "feature_names_in_"), "the author's own model is left as it was"


def test_a_served_forest_uses_one_thread(tmp_path: Path) -> None:
    model = make_pipeline(StandardScaler(), RandomForestClassifier(5, n_jobs=-1)).fit(ROWS.select(NUMBERS), ROWS["y"])
    signature = infer_signature(model, ROWS, NUMBERS, "y")
    SklearnRuntime().save(model, tmp_path, signature, ROWS)
    predictor: Any = SklearnRuntime().predictor(tmp_path, signature)
    assert predictor._model.get_params()["randomforestclassifier__n_jobs"] == 1
    assert model.get_params()["randomforestclassifier__n_jobs"] == -1


def test_a_value_that_the_model_cannot_take_is_told_in_one_line(tmp_path: Path) -> None:
    model = LogisticRegression().fit(ROWS.select(NUMBERS), ROWS["y"])
    signature = infer_signature(model, ROWS, NUMBERS, "y")
    SklearnRuntime().save(model, tmp_path, signature, ROWS)
    missing = ROWS[:1].with_columns(x=pl.lit(None, dtype=pl.Float64))
    with pytest.raises(
        PredictionFailedError, match="LogisticRegression, cannot predict these rows: Input X contains NaN"
    ):
        SklearnRuntime().predictor(tmp_path, signature).predict(missing)


def test_missing_values_reach_a_model_that_knows_them(tmp_path: Path) -> None:
    rows = ROWS.with_columns(x=pl.when(pl.col("n") == 0).then(None).otherwise(pl.col("x")))
    model = HistGradientBoostingClassifier(max_iter=5).fit(rows.select(NUMBERS), rows["y"])
    signature = infer_signature(model, rows, NUMBERS, "y")
    SklearnRuntime().save(model, tmp_path, signature, rows)
    predictions = SklearnRuntime().predictor(tmp_path, signature).predict(rows)
    np.testing.assert_array_equal(predictions, model.predict_proba(rows.select(NUMBERS))[:, 1])
    assert [field.nullable for field in signature.features.fields] == [True, False, False]


def test_categories_are_the_ones_of_training(tmp_path: Path) -> None:
    rows = ROWS.with_columns(pl.col("town").cast(pl.Enum(["Aix", "Bonn"])))
    model = HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype").fit(
        rows.select(BOTH), rows["y"]
    )
    signature = infer_signature(model, rows, BOTH, "y")
    assert signature.categories == {"town": ("Aix", "Bonn")}
    SklearnRuntime().save(model, tmp_path, signature, rows)
    predictor = SklearnRuntime().predictor(tmp_path, signature)
    live = ROWS[:1].with_columns(town=pl.lit("Bonn"))
    expected = model.predict_proba(live.select(BOTH).with_columns(pl.col("town").cast(pl.Enum(["Aix", "Bonn"]))))
    assert predictor.predict(live)[0] == expected[0, 1]
    assert 0 <= predictor.predict(live.with_columns(town=pl.lit("Nowhere")))[0] <= 1


def test_a_model_that_cannot_predict_its_own_rows_is_refused(tmp_path: Path) -> None:
    model = LogisticRegression().fit(ROWS.select(NUMBERS), ROWS["y"])
    signature = infer_signature(model, ROWS, NUMBERS, "y")
    del model.coef_
    with pytest.raises(ModelNotSavedError, match="cannot predict its training rows"):
        SklearnRuntime().save(model, tmp_path, signature, ROWS)


def test_a_model_of_missing_classes_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"cno_such_module\nThing\n.")
    with pytest.raises(ModelNotLoadedError, match="no_such_module"):
        SklearnRuntime().load(tmp_path)


@pytest.mark.parametrize("rows", [1, 8, 9, 100])
def test_rows_become_numbers_with_nulls_as_nan(rows: int) -> None:
    frame = pl.DataFrame({"a": [None, *[2] * (rows - 1)], "b": [True] * rows, "c": [0.5] * rows})
    array = to_array(frame.cast({"a": pl.Int64}))
    assert array.shape == (rows, 3)
    assert array.dtype == np.float64
    assert np.isnan(array[0, 0])
    assert array[0, 1:].tolist() == [1.0, 0.5]
    assert to_array(pl.DataFrame({"t": ["a", None]})).tolist() == [["a"], [None]]
    assert to_array(frame.cast({"a": pl.Int64})[:0]).shape == (0, 3)


def test_arranging_fast_is_arranging() -> None:
    model = HistGradientBoostingClassifier(max_iter=2).fit(ROWS.select(NUMBERS), ROWS["y"])
    signature = infer_signature(model, ROWS, NUMBERS, "y")
    arrange = Arranger(signature)
    ready = ROWS.select(NUMBERS)
    assert arrange(ready) is ready
    others = [ROWS, ROWS.select(reversed(ROWS.columns)), ready.cast({"n": pl.Int8, "x": pl.Float32}), ready[:0]]
    for frame in others:
        assert arrange(frame).equals(signature.arrange(frame))
        assert arrange(frame).schema == signature.features.to_polars()
