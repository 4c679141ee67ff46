"""What a model takes and gives: its features in their order, and the task that tells what its output means."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from flyball.core.errors import InvalidInputError
from flyball.domain.data.schemas import DType, Schema, dtype_name

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    Array = np.ndarray[Any, Any]

Task = Literal["binary", "multiclass", "regression"]
ClassLabel = bool | int | float | str
_OUTPUTS: dict[str, str] = {
    "binary": "the probability of the positive class, {classes[1]!r}",
    "multiclass": "the probability of each class: {classes}",
    "regression": "the value of {label!r}",
}


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """What goes into a model and what comes out.

    Attributes:
        features: The features in the order in which the model takes them.
        categories: For features that the model knows as a category (Polars Enum or Categorical): its values.
        task: ``binary``, ``multiclass`` or ``regression``.
        label: The name of the label.
        label_dtype: The label's type.
        classes: The classes in the order of the model's output; the second of two is the positive one.
    """

    features: Schema
    categories: dict[str, tuple[str, ...]] = {}
    task: Task
    label: str
    label_dtype: DType
    classes: tuple[ClassLabel, ...] = ()

    @property
    def output(self) -> str:
        """What a prediction is, in words."""
        return _OUTPUTS[self.task].format(classes=list(self.classes), label=self.label)

    def arrange(self, frame: "pl.DataFrame") -> "pl.DataFrame":
        """Return the features of a frame in the model's order and types.

        Raises:
            SchemaMismatchError: A feature is missing or has another type.
        """
        import polars as pl

        arranged = self.features.fit(frame, what="the model's input")
        if not self.categories:
            return arranged
        return arranged.with_columns(
            pl.col(name).cast(pl.Enum(list(values)), strict=False) for name, values in self.categories.items()
        )


class Arranger:
    """Does what `Signature.arrange` does, at a tenth of its cost where the types are right already.

    Args:
        signature: What the model takes.
    """

    def __init__(self, signature: Signature) -> None:
        import polars as pl

        self._signature = signature
        types = signature.features.to_polars()
        types.update({name: pl.Enum(list(values)) for name, values in signature.categories.items()})
        self._names, self._dtypes = types.names(), types.dtypes()

    def __call__(self, frame: "pl.DataFrame") -> "pl.DataFrame":
        """See `Signature.arrange`."""
        import polars as pl

        arranged = frame
        if frame.columns != self._names:
            try:
                arranged = pl.DataFrame([frame.get_column(name) for name in self._names])
            except pl.exceptions.ColumnNotFoundError:
                return self._signature.arrange(frame)
        return arranged if arranged.dtypes == self._dtypes else self._signature.arrange(frame)


class SignatureError(InvalidInputError):
    """The model does not fit the data that it is said to be trained on."""

    code = "registry/signature"


class NoProbabilitiesError(InvalidInputError):
    """A classifier that cannot say how sure it is cannot be watched or rolled out well."""

    code = "registry/no-probabilities"

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"{kind} is a classifier without predict_proba, but endpoints answer with probabilities",
            hint=f"Wrap it: sklearn.calibration.CalibratedClassifierCV({kind}(...)).",
        )


def infer_signature(model: object, frame: "pl.DataFrame", features: Sequence[str], label: str) -> Signature:
    """Derive a model's signature from the model and the data that it was trained on.

    Args:
        model: A fitted model.
        frame: The training rows; its column types become the signature's.
        features: The columns that are features, in order.
        label: The column that is the label.

    Raises:
        SignatureError: The model was fitted on other columns.
        NoProbabilitiesError: It is a classifier without ``predict_proba``.
        UnsupportedColumnError: A feature has a type that cannot be served.
    """
    import polars as pl

    names = _model_features(model, list(features))
    chosen = frame.select(names)
    task, classes = _infer_task(model, frame.get_column(label))
    return Signature(
        features=Schema.of(chosen, nullable={name: chosen[name].null_count() > 0 for name in names}),
        categories={
            name: _categories(chosen.get_column(name))
            for name, dtype in chosen.schema.items()
            if isinstance(dtype, pl.Enum | pl.Categorical)
        },
        task=task,
        label=label,
        label_dtype=dtype_name(label, frame.schema[label]),
        classes=classes,
    )


def _model_features(model: object, features: list[str]) -> list[str]:
    kind = type(model).__name__
    fitted = getattr(model, "feature_names_in_", None)
    if fitted is not None:
        names = [str(name) for name in fitted]
        if unknown := [name for name in names if name not in features]:
            raise SignatureError(
                f"{kind} was fitted on {', '.join(map(repr, unknown))}, which the data does not have as features; "
                f"they are {', '.join(features)}",
                hint="Give fb.candidate the training set that the model was fitted on, as data=.",
            )
        return names
    count = getattr(model, "n_features_in_", None)
    if count is not None and int(count) != len(features):
        raise SignatureError(
            f"{kind} was fitted on {int(count)} columns, but the data has {len(features)} features: "
            f"{', '.join(features)}",
            hint="Fit it on data.X (a frame keeps the columns' names), and give that data to fb.candidate.",
        )
    return features


def _categories(column: "pl.Series") -> tuple[str, ...]:
    import polars as pl

    if isinstance(column.dtype, pl.Enum):
        return tuple(column.dtype.categories.to_list())
    return tuple(column.drop_nulls().cast(pl.String).unique().sort().to_list())


def _infer_task(model: object, label: "pl.Series") -> tuple[Task, tuple[ClassLabel, ...]]:
    classes = getattr(model, "classes_", None)
    if classes is not None and not _is_regressor(model):
        if not hasattr(model, "predict_proba"):
            raise NoProbabilitiesError(type(model).__name__)
        labels = tuple(value.item() if hasattr(value, "item") else value for value in classes)
        return ("binary" if len(labels) == 2 else "multiclass"), labels
    if _is_regressor(model):
        return "regression", ()
    return _task_of_label(label)


def _is_regressor(model: object) -> bool:
    tags = getattr(model, "__sklearn_tags__", None)
    if callable(tags):
        return bool(tags().estimator_type == "regressor")
    return getattr(model, "_estimator_type", None) == "regressor"


def _task_of_label(label: "pl.Series") -> tuple[Task, tuple[ClassLabel, ...]]:
    """Tell the task of a plain Python model by what it is meant to predict."""
    values = label.drop_nulls().unique().sort()
    if label.dtype.is_numeric():
        is_flag = label.dtype.is_integer() and set(values.to_list()) <= {0, 1}
        return ("binary", (0, 1)) if is_flag else ("regression", ())
    if str(label.dtype) == "Boolean":
        return "binary", (False, True)
    classes = tuple(str(value) for value in values)
    return ("binary" if len(classes) == 2 else "multiclass"), classes
