"""One row through a scikit-learn model at a tenth of the cost: the same arithmetic without the machinery for tables.

What takes a millisecond or more in scikit-learn for one row is not the arithmetic but checking tables, picking columns
and starting one loop a tree. A model made of the parts known here is turned into plain functions of one row; whether
these answer as the model does is proven on the reference when the package is made, and anything not known here, or not
proven, goes the usual way.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

Row = Sequence[Any]
Transform = Callable[[Row], list[Any]]
Predict = Callable[[Row], float]
_NAN = float("nan")


class NotKnownError(Exception):
    """The model has a part that is not known here; never leaves the runtime."""


def compile_row(model: Any) -> Predict | None:
    """Return a function from a row's values, in the model's order, to its prediction.

    Args:
        model: A fitted model.

    Returns:
        The positive class's probability or the value, for one row; None where the model has a part not known here.
    """
    try:
        return _compile_model(model)
    except (NotKnownError, AttributeError):  # a private name of scikit-learn may go in another release
        return None


def _compile_model(model: Any) -> Predict:
    if type(model) is Pipeline:
        *steps, (_, last) = model.steps
        transforms = [_compile_transform(step) for _, step in steps if not _is_nothing(step)]
        final = _compile_model(last)

        def predict(row: Row) -> float:
            for transform in transforms:
                row = transform(row)
            return final(row)

        return predict
    if type(model) in (HistGradientBoostingClassifier, HistGradientBoostingRegressor):
        return _compile_trees(model)
    if type(model) in (LogisticRegression, LinearRegression, Ridge, Lasso, ElasticNet):
        return _compile_linear(model)
    raise NotKnownError


def _compile_linear(model: Any) -> Predict:
    is_classifier = type(model) is LogisticRegression
    weights = np.asarray(model.coef_, dtype=np.float64)
    if (is_classifier and weights.shape[0] != 1) or (not is_classifier and weights.ndim != 1):
        raise NotKnownError
    weights = weights.ravel()
    intercept = float(np.ravel(model.intercept_)[0])

    def predict(row: Row) -> float:
        values = np.array(row, dtype=np.float64)
        if np.isnan(values).any():
            raise ValueError("Input X contains NaN.")
        total = float(values @ weights) + intercept
        return float(expit(total)) if is_classifier else total

    return predict


def _compile_trees(model: Any) -> Predict:
    """All trees at once: each step moves every tree's place one node down; leaves lead to themselves."""
    if model.n_trees_per_iteration_ != 1 or model.is_categorical_ is not None or model._preprocessor is not None:
        raise NotKnownError
    trees = [predictors[0].nodes for predictors in model._predictors]
    starts = np.cumsum([0, *(len(tree) for tree in trees)])
    nodes = np.concatenate(trees)
    offsets = np.repeat(starts[:-1], [len(tree) for tree in trees])
    itself = np.arange(len(nodes))
    is_leaf = nodes["is_leaf"].astype(bool)
    feature = np.where(is_leaf, 0, nodes["feature_idx"]).astype(np.intp)
    threshold = nodes["num_threshold"].astype(np.float64)
    left = np.where(is_leaf, itself, nodes["left"].astype(np.intp) + offsets)
    right = np.where(is_leaf, itself, nodes["right"].astype(np.intp) + offsets)
    missing = np.where(nodes["missing_go_to_left"].astype(bool), left, right)
    value = nodes["value"].astype(np.float64)
    depth = max((int(tree["depth"].max()) for tree in trees), default=0)
    roots = starts[:-1]
    baseline = float(np.ravel(model._baseline_prediction)[0])
    inverse = model._loss.link.inverse

    def predict(row: Row) -> float:
        values = np.array(row, dtype=np.float64)
        places = roots
        if np.isnan(values).any():
            for _ in range(depth):
                given = values[feature[places]]
                below = np.where(given <= threshold[places], left[places], right[places])
                places = np.where(np.isnan(given), missing[places], below)
        else:
            for _ in range(depth):
                places = np.where(values[feature[places]] <= threshold[places], left[places], right[places])
        # The trees are added one after the other, as scikit-learn does, so that not even the last digit differs.
        total = sum(value[places].tolist(), baseline)
        return float(inverse(np.array([total]))[0])

    return predict


def _compile_transform(step: Any) -> Transform:
    kind = type(step)
    if kind is ColumnTransformer:
        return _compile_columns(step)
    if kind is Pipeline:
        transforms = [_compile_transform(inner) for _, inner in step.steps if not _is_nothing(inner)]

        def chain(row: Row) -> list[Any]:
            for transform in transforms:
                row = transform(row)
            return list(row)

        return chain
    if kind is StandardScaler:
        return _compile_scaler(step)
    if kind is SimpleImputer:
        return _compile_imputer(step)
    if kind is OrdinalEncoder:
        return _compile_ordinal(step)
    if kind is OneHotEncoder:
        return _compile_one_hot(step)
    raise NotKnownError


def _compile_columns(step: Any) -> Transform:
    parts: list[tuple[list[int], Transform | None]] = []
    for name, inner, _ in step.transformers_:
        if isinstance(inner, str) and inner == "drop":
            continue
        places = [int(place) for place in step._transformer_to_input_indices[name]]
        if places:
            parts.append((places, None if _is_nothing(inner) else _compile_transform(inner)))
    if step.transformer_weights:
        raise NotKnownError

    def transform(row: Row) -> list[Any]:
        made: list[Any] = []
        for places, inner in parts:
            given = [row[place] for place in places]
            made.extend(given if inner is None else inner(given))
        return made

    return transform


def _compile_scaler(step: Any) -> Transform:
    width = step.n_features_in_
    means = [0.0] * width if step.mean_ is None or not step.with_mean else step.mean_.tolist()
    scales = [1.0] * width if step.scale_ is None else step.scale_.tolist()
    triples = list(zip(range(width), means, scales, strict=True))
    return lambda row: [((_NAN if row[at] is None else row[at]) - mean) / scale for at, mean, scale in triples]


def _compile_imputer(step: Any) -> Transform:
    is_nan = isinstance(step.missing_values, float) and step.missing_values != step.missing_values
    fills = list(step.statistics_)
    if not is_nan or step.add_indicator or any(fill is None or fill != fill for fill in fills):
        raise NotKnownError
    return lambda row: [
        fill if given is None or given != given else given for given, fill in zip(row, fills, strict=True)
    ]


def _compile_ordinal(step: Any) -> Transform:
    codes = _codes(step)
    if step.handle_unknown == "use_encoded_value":
        unknown = float(step.unknown_value)
        return lambda row: [known.get(given, unknown) for known, given in zip(codes, row, strict=True)]

    def transform(row: Row) -> list[Any]:
        try:
            return [known[given] for known, given in zip(codes, row, strict=True)]
        except KeyError as error:
            raise ValueError(f"Found unknown categories [{error}]") from error

    return transform


def _compile_one_hot(step: Any) -> Transform:
    if step.drop is not None or step.handle_unknown not in ("ignore", "error"):
        raise NotKnownError
    codes = _codes(step)
    is_strict = step.handle_unknown == "error"

    def transform(row: Row) -> list[Any]:
        made: list[float] = []
        for known, given in zip(codes, row, strict=True):
            flags = [0.0] * len(known)
            place = known.get(given)
            if place is not None:
                flags[int(place)] = 1.0
            elif is_strict:
                raise ValueError(f"Found unknown categories [{given!r}]")
            made += flags
        return made

    return transform


def _codes(step: Any) -> list[dict[Any, float]]:
    """Return each column's categories with their numbers."""
    if step.min_frequency is not None or step.max_categories is not None:
        raise NotKnownError
    columns = [categories.tolist() for categories in step.categories_]
    if any(category is None or category != category for categories in columns for category in categories):
        raise NotKnownError  # how a missing value is written depends on the table it came in
    return [{category: float(place) for place, category in enumerate(categories)} for categories in columns]


def _is_nothing(step: Any) -> bool:
    return step is None or (isinstance(step, str) and step == "passthrough") or getattr(step, "func", True) is None
