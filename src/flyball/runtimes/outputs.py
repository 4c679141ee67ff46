"""Models answer in many shapes; a predictor answers in one."""

from typing import Any

import numpy as np

from flyball.domain.registry.runtimes import ModelNotSavedError, PredictionFailedError
from flyball.domain.registry.signatures import Signature

Array = np.ndarray[Any, Any]


def to_predictions(raw: Any, signature: Signature, rows: int, kind: str) -> Array:
    """Return a model's raw answer as float64: ``(n,)``, or ``(n, n_classes)`` for several classes.

    Args:
        raw: Values, or one or two columns of probabilities for two classes, or one column for each class.
        signature: Tells the task and the classes.
        rows: How many rows were asked for.
        kind: The model's class, for the error.

    Raises:
        PredictionFailedError: The shape or the type is another.
    """
    try:
        values = np.asarray(raw, dtype=np.float64)
    except (TypeError, ValueError) as error:
        wanted = "probabilities" if signature.classes else "numbers"
        raise PredictionFailedError(kind, f"it answers {raw!r:.80} instead of {wanted}") from error
    width = len(signature.classes) if signature.task == "multiclass" else 1
    if signature.task == "binary" and values.shape == (rows, 2):
        values = values[:, 1]
    elif width == 1 and values.shape == (rows, 1):
        values = values[:, 0]
    expected = (rows,) if width == 1 else (rows, width)
    if values.shape != expected:
        raise PredictionFailedError(
            kind, f"it answers with the shape {values.shape}, where {expected} holds {signature.output}"
        )
    return values


def are_numbers(signature: Signature) -> bool:
    """Tell whether all features are numbers or flags, so that rows can be one array."""
    return all(field.dtype in ("int", "float", "bool") for field in signature.features.fields)


def require_numbers(kind: str, signature: Signature) -> None:
    """Refuse text for a model that only takes numbers.

    Raises:
        ModelNotSavedError: A feature is text; it is named.
    """
    if texts := [field.name for field in signature.features.fields if field.dtype == "string"]:
        raise ModelNotSavedError(
            kind,
            f"its features {', '.join(texts)} are text",
            hint="Encode them in a scikit-learn Pipeline around it.",
        )


def require_probabilities(kind: str, signature: Signature, predictions: Array) -> None:
    """Refuse a model that answers scores where a classifier must answer probabilities.

    Raises:
        ModelNotSavedError: A prediction lies outside 0 and 1, or those of all classes do not add up to 1.
    """
    if not signature.classes:
        return
    within = np.all((predictions >= 0) & (predictions <= 1) | np.isnan(predictions))
    if within and (predictions.ndim == 1 or np.allclose(predictions.sum(axis=1), 1, atol=1e-3, equal_nan=True)):
        return
    raise ModelNotSavedError(
        kind,
        "it answers scores, not probabilities",
        hint="End it in a sigmoid or softmax, or train it with such an objective.",
    )
