"""scikit-learn's tree ensembles as ONNX with thresholds and sums in double precision: the same to the last digits.

Converters write thresholds as float32, which sends a row whose value lies next to a split to the other side. The
operator TreeEnsemble of ai.onnx.ml 5 takes doubles; a model of the parts known here is written with it. Whether it
answers as the model does is proven when the package is made, as for any other ONNX.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

Array = np.ndarray[Any, Any]
_DOUBLE = TensorProto.DOUBLE
_OPSETS = (("", 18), ("ai.onnx.ml", 5))
_IR_VERSION = 9
_LESS_OR_EQUAL, _SUM = 0, 1
_BOOSTERS = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
_FORESTS = (RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier, ExtraTreesRegressor)
_TREES = (DecisionTreeClassifier, DecisionTreeRegressor)
_LINEAR = (LogisticRegression, LinearRegression, Ridge, Lasso, ElasticNet)


class NotKnownError(Exception):
    """The model has a part that is not known here."""


class _Tree:
    """One tree as arrays, a value for each node and each output; children of a leaf are below zero."""

    def __init__(
        self, feature: Array, threshold: Array, left: Array, right: Array, missing_left: Array, value: Array
    ) -> None:
        self.feature, self.threshold = feature, threshold
        self.left, self.right = left, right
        self.missing_left = missing_left
        self.value = value


class _Graph:
    """A graph in the making; the last name is what follows next."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.last = "features"

    def constant(self, values: Any) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> None:
        """Add an operator to what came last."""
        name = f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.last, *inputs], [name], domain=domain, **attributes))
        self.last = name

    def finish(self, outputs: int) -> bytes:
        self.nodes[-1].output[0] = "predictions"
        graph = helper.make_graph(
            self.nodes,
            "model",
            [helper.make_tensor_value_info("features", _DOUBLE, [None, self.width])],
            [helper.make_tensor_value_info("predictions", _DOUBLE, [None, outputs])],
            self.constants,
        )
        opsets = [helper.make_opsetid(*opset) for opset in _OPSETS]
        data: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION).SerializeToString()
        return data


def write_exact(model: Any, width: int) -> bytes:
    """Return a model as ONNX in double precision: one input ``features``, one output ``predictions``.

    Args:
        model: A fitted model, or a pipeline of one.
        width: How many features it takes.

    Raises:
        NotKnownError: It has a part that is not known here.
    """
    graph = _Graph(width)
    try:
        return graph.finish(_write(model, graph))
    except AttributeError as error:  # a private name of scikit-learn may go in another release
        raise NotKnownError(str(error)) from error


def _write(model: Any, graph: _Graph) -> int:
    """Add a model's operators and return how many outputs it has."""
    kind = type(model)
    if kind is Pipeline:
        *steps, (_, last) = model.steps
        for _, step in steps:
            _write_transform(step, graph)
        return _write(last, graph)
    if kind in _BOOSTERS:
        return _write_boosting(model, graph)
    if kind is GradientBoostingRegressor:
        return _write_gradient_boosting(model, graph)
    if kind in _FORESTS:
        return _write_forest(model, [tree.tree_ for tree in model.estimators_], graph)
    if kind in _TREES:
        return _write_forest(model, [model.tree_], graph)
    if kind in _LINEAR:
        return _write_linear(model, graph)
    raise NotKnownError(f"{kind.__name__} is not written in double precision")


def _write_transform(step: Any, graph: _Graph) -> None:
    kind = type(step)
    if step is None or step == "passthrough":
        return
    if kind is StandardScaler:
        if step.with_mean:
            graph.add("Sub", graph.constant(step.mean_.astype(np.float64)))
        if step.with_std:
            graph.add("Div", graph.constant(step.scale_.astype(np.float64)))
    elif kind is MinMaxScaler and not step.clip:
        graph.add("Mul", graph.constant(step.scale_.astype(np.float64)))
        graph.add("Add", graph.constant(step.min_.astype(np.float64)))
    elif kind is SimpleImputer and not step.add_indicator and _is_nan(step.missing_values):
        fills = np.asarray(step.statistics_, dtype=np.float64)
        if np.isnan(fills).any():
            raise NotKnownError("an imputer without a value for each column")
        given = graph.last
        graph.add("IsNaN")
        is_missing = graph.last
        graph.nodes.append(
            helper.make_node("Where", [is_missing, graph.constant(fills), given], [f"value{len(graph.nodes)}"])
        )
        graph.last = f"value{len(graph.nodes) - 1}"
    else:
        raise NotKnownError(f"{kind.__name__} is not written in double precision")


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value


def _write_linear(model: Any, graph: _Graph) -> int:
    is_classifier = type(model) is LogisticRegression
    weights = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64))
    graph.add("MatMul", graph.constant(weights.T))
    graph.add("Add", graph.constant(np.ravel(model.intercept_).astype(np.float64)))
    if is_classifier:
        graph.add("Sigmoid") if len(weights) == 1 else graph.add("Softmax", axis=1)
    return len(weights)


def _write_boosting(model: Any, graph: _Graph) -> int:
    if model.is_categorical_ is not None or model._preprocessor is not None:
        raise NotKnownError("a booster with categories")
    outputs = int(model.n_trees_per_iteration_)
    trees, targets = [], []
    for iteration in model._predictors:
        for target, predictor in enumerate(iteration):
            nodes = predictor.nodes
            is_leaf = nodes["is_leaf"].astype(bool)
            trees.append(
                _Tree(
                    nodes["feature_idx"].astype(np.int64),
                    nodes["num_threshold"].astype(np.float64),
                    np.where(is_leaf, -1, nodes["left"].astype(np.int64)),
                    np.where(is_leaf, -1, nodes["right"].astype(np.int64)),
                    nodes["missing_go_to_left"].astype(bool),
                    nodes["value"].astype(np.float64).reshape(-1, 1),
                )
            )
            targets.append(target)
    _add_trees(trees, targets, outputs, graph)
    graph.add("Add", graph.constant(np.ravel(model._baseline_prediction).astype(np.float64)))
    link = type(model._loss.link).__name__
    if link == "LogitLink":
        graph.add("Sigmoid")
    elif link == "MultinomialLogit":
        graph.add("Softmax", axis=1)
    elif link == "LogLink":
        graph.add("Exp")
    elif link != "IdentityLink":
        raise NotKnownError(f"a loss with {link}")
    return outputs


def _write_gradient_boosting(model: Any, graph: _Graph) -> int:
    if model.init is not None:
        raise NotKnownError("a booster that begins with another model")
    trees = [_of_sklearn(tree.tree_, model.learning_rate) for tree in model.estimators_[:, 0]]
    _round_to_float32(graph)
    _add_trees(trees, [0] * len(trees), 1, graph)
    graph.add("Add", graph.constant(np.ravel(model.init_.constant_).astype(np.float64)))
    return 1


def _write_forest(model: Any, found: Sequence[Any], graph: _Graph) -> int:
    if model.n_outputs_ != 1:
        raise NotKnownError("a forest with several outputs")
    trees = [_of_sklearn(tree) for tree in found]
    outputs: int = trees[0].value.shape[1]
    _round_to_float32(graph)
    _add_trees(trees, [None] * len(trees), outputs, graph)
    if len(trees) > 1:
        graph.add("Div", graph.constant(np.float64(len(trees))))
    return outputs


def _round_to_float32(graph: _Graph) -> None:
    """These models turn what they are given into float32 before they compare it with thresholds in double."""
    graph.add("Cast", to=TensorProto.FLOAT)
    graph.add("Cast", to=_DOUBLE)


def _of_sklearn(tree: Any, factor: float = 1.0) -> _Tree:
    values = np.asarray(tree.value[:, 0, :], dtype=np.float64) * factor
    missing = getattr(tree, "missing_go_to_left", np.zeros(tree.node_count)).astype(bool)
    left, right = tree.children_left.astype(np.int64), tree.children_right.astype(np.int64)
    return _Tree(tree.feature.astype(np.int64), tree.threshold.astype(np.float64), left, right, missing, values)


def _add_trees(trees: Sequence[_Tree], targets: Sequence[int | None], outputs: int, graph: _Graph) -> None:
    """Add trees whose leaves give one target, or all (None): each leaf of these is written once for every target."""
    if any(target is None for target in targets) and outputs > 1:
        # A leaf of the operator has one target, so a tree with several is written once for each.
        trees = [_only(tree, at) for tree in trees for at in range(outputs)]
        targets = [at for _ in targets for at in range(outputs)]
    parts: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    roots, leaves = [], 0
    for tree, target in zip(trees, targets, strict=True):
        if tree.left[0] < 0:
            tree = _with_root(tree)
        is_leaf = tree.left < 0
        inner = ~is_leaf
        start = sum(map(len, parts["feature"]))
        place = np.where(is_leaf, np.cumsum(is_leaf) - 1 + leaves, np.cumsum(inner) - 1 + start)
        roots.append(start)
        parts["feature"].append(tree.feature[inner])
        parts["threshold"].append(tree.threshold[inner])
        parts["true"].append(place[tree.left[inner]])
        parts["true_leaf"].append(is_leaf[tree.left[inner]])
        parts["false"].append(place[tree.right[inner]])
        parts["false_leaf"].append(is_leaf[tree.right[inner]])
        parts["missing"].append(tree.missing_left[inner])
        parts["weight"].append(tree.value[is_leaf, 0])
        parts["target"].append(np.full(is_leaf.sum(), target or 0))
        leaves += int(is_leaf.sum())
    columns = {name: np.concatenate(found) for name, found in parts.items()}
    ints = {name: columns[name].astype(np.int64).tolist() for name in columns if name not in ("threshold", "weight")}
    graph.add(
        "TreeEnsemble",
        domain="ai.onnx.ml",
        n_targets=outputs,
        aggregate_function=_SUM,
        post_transform=0,
        tree_roots=roots,
        nodes_featureids=ints["feature"],
        nodes_truenodeids=ints["true"],
        nodes_trueleafs=ints["true_leaf"],
        nodes_falsenodeids=ints["false"],
        nodes_falseleafs=ints["false_leaf"],
        nodes_missing_value_tracks_true=ints["missing"],
        leaf_targetids=ints["target"],
        nodes_splits=numpy_helper.from_array(columns["threshold"], "nodes_splits"),
        nodes_modes=numpy_helper.from_array(
            np.full(len(ints["feature"]), _LESS_OR_EQUAL, dtype=np.uint8), "nodes_modes"
        ),
        leaf_weights=numpy_helper.from_array(columns["weight"], "leaf_weights"),
    )


_COLUMNS = ("feature", "threshold", "true", "true_leaf", "false", "false_leaf", "missing", "weight", "target")


def _only(tree: _Tree, at: int) -> _Tree:
    value = tree.value[:, at : at + 1]
    return _Tree(tree.feature, tree.threshold, tree.left, tree.right, tree.missing_left, value)


def _with_root(tree: _Tree) -> _Tree:
    """Return a tree that is a single leaf with a split whose both sides are that leaf."""
    return _Tree(
        np.zeros(3, dtype=np.int64),
        np.zeros(3),
        np.array([1, -1, -1]),
        np.array([2, -1, -1]),
        np.zeros(3, dtype=bool),
        np.repeat(tree.value, 3, axis=0),
    )
