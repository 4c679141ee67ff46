"""scikit-learn's estimators and pipelines, and those of libraries that build on it."""

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from threadpoolctl import ThreadpoolController

from flyball.domain.registry.explaining import RawAttributions
from flyball.domain.registry.runtimes import ModelNotSavedError, PredictionFailedError, Predictor
from flyball.domain.registry.signatures import Arranger, Signature
from flyball.runtimes.arrays import A_FEW, to_array
from flyball.runtimes.attributions import attribute_estimator
from flyball.runtimes.outputs import Array, are_numbers, to_predictions
from flyball.runtimes.pickles import dump_model, load_model
from flyball.runtimes.rows import Predict, compile_row

_FACTS = "facts.json"
# Below so many rows, starting threads saves little, and on a busy machine each of a booster's many short loops waits
# for all of them: measured, at a load of nine on two cores, at 20 ms instead of 2 for one row, 1,050 instead of 130 for
# 8,000.
_FEW_ROWS = 10_000
_ROUNDING = 1e-12


class SklearnRuntime:
    """Implements `Runtime` for scikit-learn.

    The model is fed as cheaply as gives the same predictions. Most estimators only turn a frame into an array, which
    costs up to half of a single row's time; whether this one can be given the array is proven on the reference.
    """

    def save(self, model: Any, folder: Path, signature: Signature, reference: pl.DataFrame) -> None:
        """See `Runtime.save`."""
        dump_model(model, folder)
        arranged = signature.arrange(reference)
        form, expected = _prove_input(model, signature, arranged)
        facts = {"input": form, "is_compiled": _prove_compiled(model, signature, arranged, expected)}
        (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")

    def load(self, folder: Path) -> Any:
        """See `Runtime.load`."""
        return load_model(folder)

    def predictor(self, folder: Path, signature: Signature) -> Predictor:
        """See `Runtime.predictor`."""
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        model = load_model(folder)
        _use_one_thread(model)
        is_array = facts["input"] == "array"
        compiled = compile_row(model) if facts["is_compiled"] else None
        return SklearnPredictor(_without_names(model) if is_array else model, signature, is_array, compiled)

    def attributions(self, folder: Path, signature: Signature, reference: pl.DataFrame) -> RawAttributions | None:
        """See `Attributing.attributions`."""
        is_array = json.loads((folder / _FACTS).read_text(encoding="utf-8"))["input"] == "array"
        model = load_model(folder)
        _use_one_thread(model)
        return attribute_estimator(
            _without_names(model) if is_array else model,
            signature,
            reference,
            to_array if is_array else lambda frame: frame,
        )


class SklearnPredictor:
    """Implements `Predictor` with an estimator in memory, and with its arithmetic alone where there are few rows."""

    def __init__(self, model: Any, signature: Signature, is_array: bool, compiled: Predict | None = None) -> None:
        self._model = model
        self._signature = signature
        self._arrange = Arranger(signature)
        self._is_array = is_array
        self._compiled = compiled
        self._compute = model.predict if signature.task == "regression" else model.predict_proba
        self._threads = ThreadpoolController().select(user_api="openmp")
        takes_arrays = is_array and are_numbers(signature) and not signature.categories
        self.predict_array = self._predict_array if takes_arrays else None

    def predict(self, frame: pl.DataFrame) -> Array:
        """See `Predictor.predict`."""
        arranged = self._arrange(frame)
        try:
            if self._compiled is not None and len(frame) <= A_FEW:
                return np.array([self._compiled(row) for row in arranged.rows()], dtype=np.float64)
            return self._run(to_array(arranged) if self._is_array else arranged)
        except (TypeError, ValueError) as error:
            raise PredictionFailedError(type(self._model).__name__, str(error).partition("\n")[0]) from error

    def _predict_array(self, inputs: Array) -> Array:
        try:
            if self._compiled is not None and len(inputs) <= A_FEW:
                return np.array([self._compiled(row) for row in inputs], dtype=np.float64)
            return self._run(inputs)
        except (TypeError, ValueError) as error:
            raise PredictionFailedError(type(self._model).__name__, str(error).partition("\n")[0]) from error

    def _run(self, inputs: Any) -> Array:
        if len(inputs) < _FEW_ROWS:
            with self._threads.limit(limits=1):
                raw = self._compute(inputs)
        else:
            raw = self._compute(inputs)
        return to_predictions(raw, self._signature, len(inputs), type(self._model).__name__)


def _prove_input(model: Any, signature: Signature, reference: pl.DataFrame) -> tuple[str, Array]:
    """Return ``array`` if the model, given arrays, answers as it does when given frames, else ``frame``; and how."""
    by_array, array_problem = _try(_without_names(model), signature, reference, is_array=True)
    by_frame, frame_problem = _try(model, signature, reference, is_array=False)
    if by_frame is None:
        if by_array is None:
            raise ModelNotSavedError(type(model).__name__, f"it cannot predict its training rows: {frame_problem}")
        return "array", by_array
    if by_array is not None and not array_problem and np.array_equal(by_array, by_frame, equal_nan=True):
        return "array", by_array
    return "frame", by_frame


def _try(model: Any, signature: Signature, reference: pl.DataFrame, *, is_array: bool) -> tuple[Array | None, str]:
    """Return the predictions, and what was wrong with them: an error, or that the model warned of its input."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            predictions = SklearnPredictor(model, signature, is_array).predict(reference)
        except Exception as error:  # noqa: BLE001  (an estimator given another kind of input may raise anything)
            return None, f"{type(error).__name__}: {error}"
    problem = next((str(warning.message) for warning in caught if "feature names" in str(warning.message)), "")
    return predictions, problem


def _prove_compiled(model: Any, signature: Signature, reference: pl.DataFrame, expected: Array) -> bool:
    """Tell whether the model's arithmetic alone answers as the model does, on every row, to the last digits."""
    compiled = compile_row(model) if signature.task != "multiclass" and not signature.categories else None
    if compiled is None:
        return False
    try:
        found = np.array([compiled(row) for row in reference.rows()], dtype=np.float64)
    except (TypeError, ValueError, LookupError):
        return False
    return np.allclose(found, expected, rtol=_ROUNDING, atol=_ROUNDING)


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
