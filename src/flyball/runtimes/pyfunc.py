"""Plain Python: any object with ``predict``, a function, or a model written for MLflow's ``PythonModel``."""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from flyball.domain.registry.runtimes import EachForm, PredictionFailedError, Predictor
from flyball.domain.registry.signatures import Arranger, Signature
from flyball.runtimes.outputs import Array, require_probabilities, to_predictions
from flyball.runtimes.pickles import dump_model, load_model


class PyfuncRuntime:
    """Implements `Runtime` for plain Python.

    The model is given a Polars frame with its features. Where there are classes, ``predict_proba`` is preferred to
    ``predict``; ``predict(context, frame)`` is called with a context of None. A model may yield its
    answers, one for each row in order, instead of returning them all.
    """

    def save(self, model: Any, folder: Path, signature: Signature, reference: pl.DataFrame) -> None:
        """See `Runtime.save`."""
        predictions = PyfuncPredictor(model, signature).predict(reference)
        require_probabilities(type(model).__name__, signature, predictions)
        dump_model(model, folder)

    def load(self, folder: Path) -> Any:
        """See `Runtime.load`."""
        return load_model(folder)

    def predictor(self, folder: Path, signature: Signature) -> Predictor:
        """See `Runtime.predictor`."""
        return PyfuncPredictor(load_model(folder), signature)


class PyfuncPredictor:
    """Implements `Predictor` with a Python object.

    Attributes:
        predict_each: See `each_form`; None where the model does not yield.
    """

    def __init__(self, model: Any, signature: Signature) -> None:
        self._kind = type(model).__name__
        self._signature = signature
        self._arrange = Arranger(signature)
        self._compute, is_generator = _find_compute(model, signature)
        self.predict_each: EachForm | None = self._predict_each if is_generator else None

    def predict(self, frame: pl.DataFrame) -> Array:
        """See `Predictor.predict`."""
        arranged = self._arrange(frame)
        try:
            raw = self._compute(arranged)
            raw = list(raw) if isinstance(raw, Iterator) else raw
        except Exception as error:
            raise PredictionFailedError(self._kind, f"{type(error).__name__}: {error}") from error
        if isinstance(raw, pl.Series | pl.DataFrame):
            raw = raw.to_numpy()
        return to_predictions(raw, self._signature, len(frame), self._kind)

    def _predict_each(self, frame: pl.DataFrame) -> Iterator[Array]:
        arranged = self._arrange(frame)
        try:
            for raw in self._compute(arranged):
                yield to_predictions([raw], self._signature, 1, self._kind)
        except PredictionFailedError:
            raise
        except Exception as error:
            raise PredictionFailedError(self._kind, f"{type(error).__name__}: {error}") from error


def _find_compute(model: Any, signature: Signature) -> tuple[Callable[[pl.DataFrame], Any], bool]:
    """Return what answers, and whether it yields its answers."""
    if signature.task != "regression" and callable(getattr(model, "predict_proba", None)):
        compute: Callable[..., Any] = model.predict_proba
    else:
        compute = getattr(model, "predict", model)
    is_generator = inspect.isgeneratorfunction(compute) or inspect.isgeneratorfunction(
        getattr(compute, "__call__", None)  # noqa: B004 - an object that is called may yield, too
    )
    parameters = list(inspect.signature(compute).parameters)
    if parameters and parameters[0] == "context":
        return (lambda frame: compute(None, frame)), is_generator
    return compute, is_generator
