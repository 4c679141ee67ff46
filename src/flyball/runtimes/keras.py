"""Keras models, kept in Keras's own format, which holds no code that would run when it is loaded."""

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import polars as pl

from flyball.domain.registry.runtimes import ModelNotSavedError, PredictionFailedError, Predictor
from flyball.domain.registry.signatures import Arranger, Signature
from flyball.runtimes.arrays import to_array
from flyball.runtimes.outputs import Array, require_numbers, require_probabilities, to_predictions

_MODEL = "model.keras"


class KerasRuntime:
    """Implements `Runtime` for Keras 3, on the backend that ``KERAS_BACKEND`` names.

    A model takes one float32 array ``(n_rows, n_features)`` with NaN for null and gives values, or probabilities of the
    positive class or of each.
    """

    def save(self, model: Any, folder: Path, signature: Signature, reference: pl.DataFrame) -> None:
        """See `Runtime.save`."""
        kind = type(model).__name__
        require_numbers(kind, signature)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # between Keras and its backend, nobody else's affair
            model.save(folder / _MODEL)
        try:
            predictor = self.predictor(folder, signature)
        except (TypeError, ValueError) as error:
            reason = f"Keras does not load it again: {str(error).partition(chr(10))[0]}"
            raise ModelNotSavedError(kind, reason) from error
        require_probabilities(kind, signature, predictor.predict(reference))

    def load(self, folder: Path) -> Any:
        """See `Runtime.load`."""
        return keras.saving.load_model(folder / _MODEL, compile=False, safe_mode=True)

    def predictor(self, folder: Path, signature: Signature) -> Predictor:
        """See `Runtime.predictor`."""
        return KerasPredictor(self.load(folder), signature)


class KerasPredictor:
    """Implements `Predictor` with a Keras model."""

    def __init__(self, model: Any, signature: Signature) -> None:
        self._model = model
        self._signature = signature
        self._arrange = Arranger(signature)

    def predict(self, frame: pl.DataFrame) -> Array:
        """See `Predictor.predict`."""
        return self.predict_array(to_array(self._arrange(frame)))

    def predict_array(self, inputs: Array) -> Array:
        """See `array_form`."""
        try:
            # `Model.predict` is made for data sets: its set-up takes longer than a few rows do.
            raw = self._model(inputs.astype(np.float32), training=False)
            raw = raw.detach().cpu().numpy() if hasattr(raw, "detach") else np.asarray(raw)
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise PredictionFailedError(type(self._model).__name__, reason) from error
        return to_predictions(raw, self._signature, len(inputs), type(self._model).__name__)
