"""Plain Python: any object with ``predict``, a function, or a model written for MLflow's ``PythonModel``."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from flyball.domain.registry.runtimes import PredictionFailedError, Predictor
from flyball.domain.registry.signatures import Arranger, Signature
from flyball.runtimes.outputs import Array, to_predictions
from flyball.runtimes.pickles import dump_model, load_model


class PyfuncRuntime:
    """Implements `Runtime` for plain Python.

    The model is given a Polars frame with its features. Where there are classes, ``predict_proba`` is preferred to
    ``predict``; ``predict(context, frame)`` is called with a context of None.
    """

    def save(self, model: Any, folder: Path, signature: Signature, reference: pl.DataFrame) -> None:
        """See `Runtime.save`."""
        PyfuncPredictor(model, signature).predict(reference)
        dump_model(model, folder)

    def load(self, folder: Path) -> Any:
        """See `Runtime.load`."""
        return load_model(folder)

    def predictor(self, folder: Path, signature: Signature) -> Predictor:
        """See `Runtime.predictor`."""
        return PyfuncPredictor(load_model(folder), signature)


class PyfuncPredictor:
    """Implements `Predictor` with a Python object."""

    def __init__(self, model: Any, signature: Signature) -> None:
        self._kind = type(model).__name__
        self._signature = signature
        self._arrange = Arranger(signature)
        self._compute = _find_compute(model, signature)

    def predict(self, frame: pl.DataFrame) -> Array:
        """See `Predictor.predict`."""
        arranged = self._arrange(frame)
        try:
            raw = self._compute(arranged)
        except Exception as error:
            raise PredictionFailedError(self._kind, f"{type(error).__name__}: {error}") from error
        if isinstance(raw, pl.Series | pl.DataFrame):
            raw = raw.to_numpy()
        return to_predictions(raw, self._signature, len(frame), self._kind)


def _find_compute(model: Any, signature: Signature) -> Callable[[pl.DataFrame], Any]:
    if signature.task != "regression" and callable(getattr(model, "predict_proba", None)):
        compute: Callable[..., Any] = model.predict_proba
    else:
        compute = getattr(model, "predict", model)
    parameters = list(inspect.signature(compute).parameters)
    if parameters and parameters[0] == "context":
        return lambda frame: compute(None, frame)
    return compute
