"""scikit-learn's estimators and pipelines, and those of libraries that build on it."""

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from threadpoolctl import ThreadpoolController

from flyball.domain.registry.runtimes import ModelNotSavedError, PredictionFailedError, Predictor
from flyball.domain.registry.signatures import Arranger, Signature
from flyball.runtimes.outputs import Array, to_predictions
from flyball.runtimes.pickles import dump_model, load_model

_FACTS = "facts.json"
# Below so many rows, starting threads costs more than they save.
_FEW_ROWS = 512
# So few are converted fastest by way of Python.
_A_FEW = 8


class SklearnRuntime:
    """Implements `Runtime` for scikit-learn.

    The model is fed as cheaply as gives the same predictions. Most estimators only turn a frame into an array, which
    costs up to half of a single row's time; whether this one can be given the array is proven on the reference.
    """

    def save(self, model: Any, folder: Path, signature: Signature, reference: pl.DataFrame) -> None:
        """See `Runtime.save`."""
        dump_model(model, folder)
        facts = {"input": _prove_input(model, signature, signature.arrange(reference))}
        (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")

    def load(self, folder: Path) -> Any:
        """See `Runtime.load`."""
        return load_model(folder)

    def predictor(self, folder: Path, signature: Signature) -> Predictor:
        """See `Runtime.predictor`."""
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        model = load_model(folder)
        _use_one_thread(model)
        if facts["input"] == "array":
            return SklearnPredictor(_without_names(model), signature, is_array=True)
        return SklearnPredictor(model, signature, is_array=False)


class SklearnPredictor:
    """Implements `Predictor` with an estimator in memory."""

    def __init__(self, model: Any, signature: Signature, *, is_array: bool) -> None:
        self._model = model
        self._signature = signature
        self._arrange = Arranger(signature)
        self._is_array = is_array
        self._compute = model.predict if signature.task == "regression" else model.predict_proba
        self._threads = ThreadpoolController().select(user_api="openmp")

    def predict(self, frame: pl.DataFrame) -> Array:
        """See `Predictor.predict`."""
        arranged = self._arrange(frame)
        inputs = to_array(arranged) if self._is_array else arranged
        try:
            if len(frame) < _FEW_ROWS:
                with self._threads.limit(limits=1):
                    raw = self._compute(inputs)
            else:
                raw = self._compute(inputs)
        except (TypeError, ValueError) as error:
            raise PredictionFailedError(type(self._model).__name__, str(error).partition("\n")[0]) from error
        return to_predictions(raw, self._signature, len(frame), type(self._model).__name__)


def to_array(frame: pl.DataFrame) -> Array:
    """Return numbers and flags as float64 rows, nulls as NaN; anything else as objects."""
    if all(dtype.is_numeric() or dtype == pl.Boolean for dtype in frame.dtypes):
        if len(frame) <= _A_FEW:
            return np.array(frame.rows(), dtype=np.float64).reshape(len(frame), frame.width)
        if any(dtype != pl.Float64 for dtype in frame.dtypes):
            frame = frame.cast(pl.Float64)
        return frame.to_numpy(order="c")
    return np.asarray(frame.to_numpy(), dtype=object)


def _prove_input(model: Any, signature: Signature, reference: pl.DataFrame) -> str:
    """Return ``array`` if the model, given arrays, answers as it does when given frames; else ``frame``."""
    by_array, array_problem = _try(_without_names(model), signature, reference, is_array=True)
    by_frame, frame_problem = _try(model, signature, reference, is_array=False)
    if by_frame is None and by_array is None:
        raise ModelNotSavedError(type(model).__name__, f"it cannot predict its training rows: {frame_problem}")
    if by_array is None:
        return "frame"
    if by_frame is None or np.array_equal(by_array, by_frame, equal_nan=True):
        return "array" if by_frame is None or not array_problem else "frame"
    return "frame"


def _try(model: Any, signature: Signature, reference: pl.DataFrame, *, is_array: bool) -> tuple[Array | None, str]:
    """Return the predictions, and what was wrong with them: an error, or that the model warned of its input."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            predictions = SklearnPredictor(model, signature, is_array=is_array).predict(reference)
        except Exception as error:  # noqa: BLE001  (an estimator given another kind of input may raise anything)
            return None, f"{type(error).__name__}: {error}"
    problem = next((str(warning.message) for warning in caught if "feature names" in str(warning.message)), "")
    return predictions, problem


def _without_names(model: Any) -> Any:
    """Return a shallow copy that does not compare column names, which `Signature.arrange` has put in order."""
    bare = copy.copy(model)
    if "feature_names_in_" in vars(bare):
        del bare.feature_names_in_
    steps = getattr(bare, "steps", None)
    if isinstance(steps, list) and steps:
        (name, first), *rest = steps
        bare.steps = [(name, first if isinstance(first, str) else _without_names(first)), *rest]
    return bare


def _use_one_thread(model: Any) -> None:
    parameters = model.get_params(deep=True) if hasattr(model, "get_params") else {}
    jobs = {name: 1 for name, value in parameters.items() if name.rpartition("__")[2] == "n_jobs" and value is not None}
    if jobs:
        model.set_params(**jobs)
