"""Models answer in many shapes; a predictor answers in one."""

from typing import Any

import numpy as np

from flyball.domain.registry.runtimes import PredictionFailedError
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
