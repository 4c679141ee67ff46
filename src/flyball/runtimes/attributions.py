"""Exact attributions of scikit-learn's linear models and trees, and of boosters inside a scikit-learn pipeline.

Trees are SHAP's (Lundberg et al., "From local explanations to global understanding with explainable AI for trees",
Nature Machine Intelligence 2, 2020), or the library's own where it has them. A pipeline's steps in front of the model
are followed column by column: what a step made of one feature counts for that feature.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from flyball.domain.registry.explaining import RawAttributions
from flyball.domain.registry.signatures import Arranger, Signature

Array = np.ndarray[Any, Any]
Prepare = Callable[[pl.DataFrame], Any]
_ONE_TO_ONE = (
    "StandardScaler",
    "MinMaxScaler",
    "MaxAbsScaler",
    "RobustScaler",
    "OrdinalEncoder",
    "PowerTransformer",
    "QuantileTransformer",
)
_TREES = (
    "HistGradientBoosting",
    "GradientBoosting",
    "RandomForest",
    "ExtraTrees",
    "DecisionTree",
    "ExtraTree",
)


class NoFormError(Exception):
    """No exact form is known for the model; never leaves the runtimes."""


def attribute_estimator(
    model: Any, signature: Signature, reference: pl.DataFrame, prepare: Prepare
) -> RawAttributions | None:
    """Return the exact attributions of an estimator or pipeline; None where no form is known.

    Args:
        model: A fitted estimator.
        signature: What it takes and gives.
        reference: Rows that stand for the training data.
        prepare: Makes what the model is given of a frame with the signature's features in order.
    """
    try:
        steps, final = _unfold(model)
        made = prepare(Arranger(signature)(reference.head(1)))
        origins = list(range(len(signature.features.names)))
        for step in steps:
            origins = _follow(step, origins)
        for step in steps:
            made = step.transform(made)
        if made.shape[1] != len(origins):
            return None
        inner = _attribute_final(final)
    except (NoFormError, AttributeError, ImportError):
        return None
    return PipelineAttributions(steps, inner, origins, signature, prepare, reference)


class PipelineAttributions:
    """Implements `RawAttributions` over the steps of a pipeline and the exact form of its last one."""

    def __init__(
        self,
        steps: Sequence[Any],
        inner: "Linear | Trees",
        origins: Sequence[int],
        signature: Signature,
        prepare: Prepare,
        reference: pl.DataFrame,
    ) -> None:
        self.method = inner.method
        self._steps = steps
        self._inner = inner
        self._arrange = Arranger(signature)
        self._prepare = prepare
        self._gather = np.zeros((len(origins), len(signature.features.names)))
        self._gather[np.arange(len(origins)), origins] = 1.0
        self._lock = threading.Lock()
        inner.fit(self._transform(reference))

    def attribute(self, frame: pl.DataFrame) -> tuple[Array, Array]:
        """See `RawAttributions.attribute`."""
        with self._lock:
            values, base = self._inner.attribute(self._transform(frame))
        return values @ self._gather, base

    def _transform(self, frame: pl.DataFrame) -> Any:
        made = self._prepare(self._arrange(frame))
        for step in self._steps:
            made = step.transform(made)
        return made.toarray() if hasattr(made, "toarray") else made


class Linear:
    """The exact attributions of ``link(X @ coef + intercept)``: each weight times the distance from the mean."""

    method = "exact linear"

    def __init__(self, model: Any) -> None:
        self._weights = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64))
        self._intercept = np.ravel(np.asarray(model.intercept_, dtype=np.float64))
        self._means = np.zeros(self._weights.shape[1])

    def fit(self, reference: Any) -> None:
        """Take the means from transformed reference rows."""
        self._means = _floats(reference).mean(axis=0)

    def attribute(self, inputs: Any) -> tuple[Array, Array]:
        """Return ``(n, outputs, columns)`` and ``(outputs,)``."""
        centred = _floats(inputs) - self._means
        return centred[:, None, :] * self._weights[None], self._weights @ self._means + self._intercept


class Trees:
    """The exact attributions of trees as a library computes them.

    Args:
        compute: Gives ``(n, columns, outputs)`` or ``(n, columns)`` and the base values for rows.
        has_two: Whether the two outputs of a model of two classes are one and its complement.
    """

    method = "exact trees"

    def __init__(self, compute: Callable[[Any], tuple[Array, Array]]) -> None:
        self._compute = compute

    def fit(self, reference: Any) -> None:
        """Nothing is taken from the reference: trees know how many training rows went where."""

    def attribute(self, inputs: Any) -> tuple[Array, Array]:
        """Return ``(n, outputs, columns)`` and ``(outputs,)``."""
        values, base = self._compute(_floats(inputs))
        values = values[:, :, None] if values.ndim == 2 else values
        # Of two classes only the positive one is asked for.
        if values.shape[2] == 2:
            values, base = values[:, :, 1:], base[1:]
        return np.moveaxis(values, 2, 1), base


def shap_trees(model: Any) -> Trees:
    """Return the exact form of a model that SHAP knows; raises `ImportError` without the extra ``explain``."""
    import shap

    explainer = shap.TreeExplainer(model, feature_perturbation="tree_path_dependent")

    def compute(inputs: Array) -> tuple[Array, Array]:
        values = np.asarray(explainer.shap_values(inputs, check_additivity=False), dtype=np.float64)
        return values, np.ravel(np.asarray(explainer.expected_value, dtype=np.float64))

    return Trees(compute)


def booster_trees(booster: Any, trees: tuple[int, int] = (0, 0)) -> Trees:
    """Return the exact form of an XGBoost booster, which computes it itself.

    Args:
        booster: The model.
        trees: The rounds that answer, from and before; all by default.
    """
    import xgboost

    def compute(inputs: Array) -> tuple[Array, Array]:
        matrix = xgboost.DMatrix(inputs, feature_names=booster.feature_names, feature_types=booster.feature_types)
        return _split(np.asarray(booster.predict(matrix, pred_contribs=True, iteration_range=trees), dtype=np.float64))

    return Trees(compute)


def lightgbm_trees(booster: Any) -> Trees:
    """Return the exact form of a LightGBM booster, which computes it itself."""

    def compute(inputs: Array) -> tuple[Array, Array]:
        found = np.asarray(booster.predict(inputs, pred_contrib=True), dtype=np.float64)
        outputs = found.shape[1] // (inputs.shape[1] + 1)
        return _split(found.reshape(len(inputs), outputs, -1) if outputs > 1 else found)

    return Trees(compute)


def _split(found: Array) -> tuple[Array, Array]:
    """Part attributions ``(n, [outputs,] columns + 1)`` from the base values in their last column."""
    if found.ndim == 2:
        return found[:, :-1], found[:1, -1]
    return np.moveaxis(found[:, :, :-1], 1, 2), found[0, :, -1]


def _attribute_final(model: Any) -> Linear | Trees:
    kind, library = type(model).__name__, type(model).__module__.partition(".")[0]
    if library == "xgboost":
        booster = model.get_booster()
        best = booster.attr("best_iteration")
        return booster_trees(booster, (0, int(best) + 1) if best is not None else (0, 0))
    if library == "lightgbm":
        return lightgbm_trees(model.booster_)
    if kind.startswith(_TREES):
        return shap_trees(model)
    if hasattr(model, "coef_") and hasattr(model, "intercept_"):
        return Linear(model)
    raise NoFormError


def _unfold(model: Any) -> tuple[list[Any], Any]:
    """Return the steps in front of the model, and the model."""
    if type(model).__name__ != "Pipeline":
        return [], model
    *steps, (_, last) = model.steps
    inner, final = _unfold(last)
    return [step for _, step in steps if not _is_nothing(step)] + inner, final


def _follow(step: Any, origins: Sequence[int]) -> list[int]:
    """Return from which feature each column comes that a step makes of columns with known origins."""
    kind = type(step).__name__
    if kind == "Pipeline":
        for _, inner in step.steps:
            if not _is_nothing(inner):
                origins = _follow(inner, origins)
        return list(origins)
    if kind == "ColumnTransformer":
        found: list[int] = []
        for name, inner, _ in step.transformers_:
            if isinstance(inner, str) and inner == "drop":
                continue
            chosen = [origins[int(place)] for place in step._transformer_to_input_indices[name]]
            if chosen:
                found += chosen if _is_nothing(inner) else _follow(inner, chosen)
        return found
    if kind in _ONE_TO_ONE:
        return list(origins)
    if kind == "SimpleImputer" and not step.add_indicator and not any(value != value for value in step.statistics_):
        return list(origins)
    if kind == "OneHotEncoder":
        dropped = step.drop_idx_ if step.drop_idx_ is not None else [None] * len(step.categories_)
        widths = [len(values) - (gone is not None) for values, gone in zip(step.categories_, dropped, strict=True)]
        return [origin for origin, width in zip(origins, widths, strict=True) for _ in range(width)]
    raise NoFormError


def _is_nothing(step: Any) -> bool:
    return step is None or (isinstance(step, str) and step == "passthrough") or getattr(step, "func", True) is None


def _floats(inputs: Any) -> Array:
    if isinstance(inputs, pl.DataFrame):
        inputs = inputs.cast(pl.Float64).to_numpy()
    return np.asarray(inputs, dtype=np.float64)
