"""PyTorch's modules, exported as programs that run without the code that made them."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from flyball.domain.registry.runtimes import ModelNotSavedError, PredictionFailedError, Predictor
from flyball.domain.registry.signatures import Arranger, Signature
from flyball.runtimes.arrays import to_array
from flyball.runtimes.outputs import Array, require_numbers, require_probabilities, to_predictions
from flyball.runtimes.pickles import dump_model, load_model

_PROGRAM = "model.pt2"
_FACTS = "facts.json"
_SAME = 1e-5


class TorchRuntime:
    """Implements `Runtime` for PyTorch.

    A module takes one float32 tensor ``(n_rows, n_features)`` with NaN for null and gives values ``(n_rows,)`` or
    ``(n_rows, 1)``; of classes it gives probabilities: of the positive one, or one column for each. The exported
    program answers requests where it gives what the module gives; a module that cannot be exported is kept as a pickle.
    """

    def save(self, model: Any, folder: Path, signature: Signature, reference: pl.DataFrame) -> None:
        """See `Runtime.save`."""
        kind = type(model).__name__
        require_numbers(kind, signature)
        dump_model(model, folder)
        was_training = model.training
        model.eval()
        try:
            expected = TorchPredictor(model, signature).predict(reference)
            reason = _export(model, folder / _PROGRAM, signature, reference, expected)
        except PredictionFailedError as error:
            raise ModelNotSavedError(kind, error.message) from error
        finally:
            model.train(was_training)
        require_probabilities(kind, signature, expected)
        facts = {"is_exported": not reason, "reason": reason}
        (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")

    def load(self, folder: Path) -> Any:
        """See `Runtime.load`."""
        return load_model(folder)

    def predictor(self, folder: Path, signature: Signature) -> Predictor:
        """See `Runtime.predictor`."""
        if json.loads((folder / _FACTS).read_text(encoding="utf-8"))["is_exported"]:
            return TorchPredictor(_load_program(folder / _PROGRAM), signature)
        return TorchPredictor(load_model(folder).eval(), signature)


class TorchPredictor:
    """Implements `Predictor` with a module or an exported program."""

    def __init__(self, compute: Callable[[torch.Tensor], torch.Tensor], signature: Signature) -> None:
        self._compute = compute
        self._signature = signature
        self._arrange = Arranger(signature)

    def predict(self, frame: pl.DataFrame) -> Array:
        """See `Predictor.predict`."""
        return self.predict_array(to_array(self._arrange(frame)))

    def predict_array(self, inputs: Array) -> Array:
        """See `array_form`."""
        try:
            with torch.inference_mode():
                raw = self._compute(torch.from_numpy(inputs.astype(np.float32))).numpy()
        except Exception as error:
            raise PredictionFailedError("module", _first_line(error)) from error
        return to_predictions(raw, self._signature, len(inputs), "module")


def _load_program(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compute: Callable[[torch.Tensor], torch.Tensor] = torch.export.load(path).module()
        return compute


def _export(model: Any, path: Path, signature: Signature, reference: pl.DataFrame, expected: Array) -> str:
    """Write the module as a program for any number of rows; return why not, if that fails or it answers otherwise."""
    rows = to_array(signature.arrange(reference))
    example = torch.from_numpy(np.repeat(rows[:1], 3, axis=0).astype(np.float32))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shapes = ({0: torch.export.Dim("rows")},)
            torch.export.save(torch.export.export(model, (example,), dynamic_shapes=shapes), path)
        program = TorchPredictor(_load_program(path), signature)
        found = program.predict(reference)
        single = program.predict(reference.head(1))
    except Exception as error:  # noqa: BLE001  (whatever a module does that a program cannot)
        path.unlink(missing_ok=True)
        return _first_line(error)
    pairs = ((found, expected), (single, expected[:1]))
    if all(np.allclose(one, other, rtol=_SAME, atol=_SAME) for one, other in pairs):
        return ""
    path.unlink(missing_ok=True)
    return "the exported program answers otherwise than the module"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
