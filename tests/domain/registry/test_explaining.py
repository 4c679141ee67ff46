"""Attributions sum to the prediction minus the base value, exactly computed or sampled."""

import warnings
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from flyball.domain.data.schemas import Schema
from flyball.domain.registry.explaining import Explainer, SampledExplainer, Scale, open_explainer
from flyball.domain.registry.runtimes import Runtimes
from flyball.domain.registry.signatures import Signature, infer_signature

DICE = np.random.default_rng(3)
ROWS = pl.DataFrame(
    {
        "x": DICE.normal(size=300),
        "z": DICE.normal(size=300),
        "n": DICE.integers(0, 5, 300),
        "flag": DICE.random(300) < 0.5,
        "town": DICE.choice(["Aix", "Bonn", "Celle"], 300),
    }
).with_columns(
    y=pl.col("x") + pl.col("n") + pl.when(pl.col("town") == "Bonn").then(1.5).otherwise(0.0) > 2.2,
    value=3 * pl.col("x") - pl.col("n") * pl.col("flag"),
    kind=pl.when(pl.col("x") + pl.col("n") < 1)
    .then(pl.lit("low"))
    .when(pl.col("x") + pl.col("n") < 3)
    .then(pl.lit("mid"))
    .otherwise(pl.lit("high")),
)
NUMBERS = ["x", "z", "n", "flag"]
ALL = [*NUMBERS, "town"]


def by_columns(encoder: Any = None) -> ColumnTransformer:
    return ColumnTransformer(
        [("n", make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS), ("t", encoder or OneHotEncoder(), ["town"])]
    )


def save(model: Any, features: list[str], label: str, folder: Path) -> tuple[Explainer, Any, Signature]:
    signature = infer_signature(model, ROWS, features, label)
    runtimes = Runtimes()
    runtime = runtimes.get(runtimes.choose(model))
    runtime.save(model, folder, signature, ROWS)
    predictor = runtime.predictor(folder, signature)
    return open_explainer(runtime, folder, signature, ROWS, predictor), predictor, signature


def check_sums(explainer: Explainer, predictor: Any, signature: Signature, tolerance: float = 1e-8) -> None:
    found = explainer.explain(ROWS)
    sums = found.values.sum(axis=1) + found.base
    predictions = predictor.predict(ROWS)
    assert found.values.shape == (len(ROWS), len(signature.features.names))
    if signature.task == "multiclass":
        assert found.classes is not None
        predictions = predictions.max(axis=1)
        if explainer.scale is Scale.LOG_ODDS:
            return  # the other classes' sums are needed, too; that they fit was proven when it was opened
    if explainer.scale is Scale.LOG_ODDS:
        sums = 1 / (1 + np.exp(-sums))
    np.testing.assert_allclose(sums, predictions, rtol=tolerance, atol=tolerance)


CASES: list[tuple[str, Any, list[str], str, str, Scale]] = [
    ("boosting", HistGradientBoostingClassifier(max_iter=20), NUMBERS, "y", "exact trees", Scale.LOG_ODDS),
    ("boosted values", HistGradientBoostingRegressor(max_iter=20), NUMBERS, "value", "exact trees", Scale.VALUE),
    ("forest", RandomForestClassifier(10, random_state=1), NUMBERS, "y", "exact trees", Scale.PROBABILITY),
    ("forest of values", RandomForestRegressor(10, random_state=1), NUMBERS, "value", "exact trees", Scale.VALUE),
    ("forest of kinds", RandomForestClassifier(10, random_state=1), NUMBERS, "kind", "exact trees", Scale.PROBABILITY),
    ("old boosting", GradientBoostingClassifier(n_estimators=10), NUMBERS, "y", "exact trees", Scale.LOG_ODDS),
    ("tree", DecisionTreeRegressor(max_depth=4), NUMBERS, "value", "exact trees", Scale.VALUE),
    ("linear", LinearRegression(), NUMBERS, "value", "exact linear", Scale.VALUE),
    ("ridge", make_pipeline(StandardScaler(), Ridge()), NUMBERS, "value", "exact linear", Scale.VALUE),
    ("logistic", LogisticRegression(), NUMBERS, "y", "exact linear", Scale.LOG_ODDS),
    ("logistic kinds", LogisticRegression(max_iter=1000), NUMBERS, "kind", "exact linear", Scale.LOG_ODDS),
    ("columns", make_pipeline(by_columns(), LogisticRegression()), ALL, "y", "exact linear", Scale.LOG_ODDS),
    (
        "columns and trees",
        make_pipeline(by_columns(OrdinalEncoder()), HistGradientBoostingClassifier(max_iter=10)),
        ALL,
        "y",
        "exact trees",
        Scale.LOG_ODDS,
    ),
    (
        "voting",
        VotingClassifier([("a", LogisticRegression()), ("b", LogisticRegression(C=0.1))], voting="soft"),
        NUMBERS,
        "y",
        "sampled",
        Scale.PROBABILITY,
    ),
]


@pytest.mark.parametrize(
    ("model", "features", "label", "method", "scale"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_attributions_sum_to_the_prediction(
    tmp_path: Path, model: Any, features: list[str], label: str, method: str, scale: Scale
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing SHAP and its peers warns of this and that
        model.fit(ROWS.select(features), ROWS[label])
        explainer, predictor, signature = save(model, features, label, tmp_path)
        assert (explainer.method, explainer.scale) == (method, scale)
        check_sums(explainer, predictor, signature)


@pytest.mark.parametrize("kind", ["XGBClassifier", "XGBRegressor", "several"])
def test_xgboost_explains_itself(tmp_path: Path, kind: str) -> None:
    xgboost = pytest.importorskip("xgboost")
    label, model = {
        "XGBClassifier": ("y", xgboost.XGBClassifier(n_estimators=10, max_depth=3)),
        "XGBRegressor": ("value", xgboost.XGBRegressor(n_estimators=10, max_depth=3)),
        "several": ("number", xgboost.XGBClassifier(n_estimators=10, max_depth=3)),
    }[kind]
    rows = ROWS.with_columns(number=pl.col("kind").replace_strict({"low": 0, "mid": 1, "high": 2}))
    model.fit(rows.select(NUMBERS).cast(pl.Float64).to_numpy(), rows[label].to_numpy())
    signature = infer_signature(model, rows, NUMBERS, label)
    runtime = Runtimes().get("xgboost")
    runtime.save(model, tmp_path, signature, rows)
    predictor = runtime.predictor(tmp_path, signature)
    explainer = open_explainer(runtime, tmp_path, signature, rows, predictor)
    assert explainer.method == "exact trees"
    check_sums(explainer, predictor, signature, 1e-4)


@pytest.mark.parametrize(("label", "is_classifier"), [("y", True), ("value", False), ("kind", True)])
@pytest.mark.parametrize("library", ["lightgbm", "catboost"])
def test_boosters_of_other_libraries_explain_themselves(
    tmp_path: Path, library: str, label: str, is_classifier: bool
) -> None:
    module = pytest.importorskip(library)
    if library == "lightgbm":
        quiet: dict[str, Any] = {"n_estimators": 10, "min_child_samples": 5, "verbosity": -1}
        model = (module.LGBMClassifier if is_classifier else module.LGBMRegressor)(**quiet)
    else:
        quiet = {"iterations": 10, "verbose": False, "allow_writing_files": False}
        model = (module.CatBoostClassifier if is_classifier else module.CatBoostRegressor)(**quiet)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(ROWS.select(NUMBERS).cast(pl.Float64).to_numpy(), ROWS[label].to_numpy())
        explainer, predictor, signature = save(model, NUMBERS, label, tmp_path)
        assert explainer.method == "exact trees"
        check_sums(explainer, predictor, signature, 1e-4)


def test_a_booster_inside_a_pipeline_is_exact(tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost")
    model = make_pipeline(by_columns(), xgboost.XGBClassifier(n_estimators=10, max_depth=3))
    model.fit(ROWS.select(ALL), ROWS["y"])
    explainer, predictor, signature = save(model, ALL, "y", tmp_path)
    assert explainer.method == "exact trees"
    check_sums(explainer, predictor, signature, 1e-4)


def test_what_has_no_effect_gets_nothing_and_what_has_gets_its_share(tmp_path: Path) -> None:
    model = LinearRegression().fit(ROWS.select(NUMBERS), 3 * ROWS["x"] + ROWS["n"])
    signature = infer_signature(model, ROWS.with_columns(value=1.0), NUMBERS, "value")
    runtime = Runtimes().get("sklearn")
    runtime.save(model, tmp_path, signature, ROWS)
    found = open_explainer(runtime, tmp_path, signature, ROWS, runtime.predictor(tmp_path, signature)).explain(ROWS)
    np.testing.assert_allclose(found.values[:, 0], 3 * (ROWS["x"] - ROWS["x"].mean()), atol=1e-9)
    np.testing.assert_allclose(found.values[:, 1], 0, atol=1e-9)


def test_without_shap_trees_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "shap", None)
    model = HistGradientBoostingClassifier(max_iter=5).fit(ROWS.select(NUMBERS), ROWS["y"])
    explainer, predictor, signature = save(model, NUMBERS, "y", tmp_path)
    assert explainer.method == "sampled"
    check_sums(explainer, predictor, signature)


class Plain:
    """A predictor made of a function."""

    def __init__(self, function: Callable[[pl.DataFrame], Any]) -> None:
        self.function = function
        self.rows = 0

    def predict(self, frame: pl.DataFrame) -> Any:
        self.rows += len(frame)
        return np.asarray(self.function(frame), dtype=np.float64)


def make_signature(names: list[str]) -> Signature:
    return Signature(
        features=Schema.of(ROWS.select(names)), task="regression", label="value", label_dtype="float", classes=()
    )


def product(frame: pl.DataFrame) -> Any:
    return frame["x"] * (1 + frame["z"]) + frame["n"] ** 2


@given(budget=st.integers(1, 3000), rows=st.integers(1, 20))
@settings(max_examples=25, deadline=None)
def test_sampled_attributions_sum_exactly_within_any_budget(budget: int, rows: int) -> None:
    predictor = Plain(product)
    explainer = SampledExplainer(make_signature(["x", "z", "n"]), ROWS, predictor, budget=budget)
    some = ROWS.head(rows)
    found = explainer.explain(some)
    assert predictor.rows == rows * explainer.evaluations
    assert explainer.evaluations <= max(budget, 2 * 4)
    np.testing.assert_allclose(found.values.sum(axis=1) + found.base, product(some), atol=1e-9)
    assert len(set(found.base.tolist())) == 1, "all rows are compared with the same base"


def test_sampled_attributions_come_near_the_shapley_values() -> None:
    """Against the definition: the mean over all orders and all rows of the reference."""
    names = ["x", "z", "n"]
    background = ROWS.head(16)
    explainer = SampledExplainer(make_signature(names), background, Plain(product), budget=4 * 32)
    row = ROWS[20]
    exact = dict.fromkeys(names, 0.0)
    orders = list(permutations(names))
    for order in orders:
        for start in background.select(names).iter_rows(named=True):
            now = dict(start)
            for name in order:
                before = product(pl.DataFrame([now]))[0]
                now[name] = row[name][0]
                exact[name] += (product(pl.DataFrame([now]))[0] - before) / len(orders) / len(background)
    found = dict(zip(names, explainer.explain(row).values[0], strict=True))
    for name in names:
        assert found[name] == pytest.approx(exact[name], abs=0.6)


def test_the_same_row_is_explained_alike_alone_and_among_others() -> None:
    explainer = SampledExplainer(make_signature(["x", "z", "n"]), ROWS, Plain(product))
    together = explainer.explain(ROWS.head(10)).values
    alone = np.concatenate([explainer.explain(ROWS[number]).values for number in range(10)])
    np.testing.assert_allclose(alone, together)


def test_text_and_missing_values_are_taken_over_as_they_are() -> None:
    def count(frame: pl.DataFrame) -> Any:
        return (frame["town"] == "Bonn").fill_null(False).cast(float) + frame["x"].is_null().cast(float) * 2

    names = ["x", "town"]
    explainer = SampledExplainer(make_signature(names), ROWS.filter(pl.col("town") == "Aix"), Plain(count))
    found = explainer.explain(
        pl.DataFrame({"x": [None, 1.0], "town": ["Bonn", None]}, schema={"x": pl.Float64, "town": pl.String})
    )
    np.testing.assert_allclose(found.values, [[2.0, 1.0], [0.0, 0.0]])
