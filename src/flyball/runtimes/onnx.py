"""ONNX Runtime: models that are ONNX, and scikit-learn models that convert to it."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from flyball.domain.registry.runtimes import PredictionFailedError, Predictor
from flyball.domain.registry.signatures import Arranger, Signature
from flyball.runtimes.arrays import to_array
from flyball.runtimes.outputs import Array, are_numbers, to_predictions

FILE_NAME = "model.onnx"
_ONE_INPUT = "features"
_NUMBERS: dict[str, Any] = {"tensor(double)": np.float64, "tensor(float)": np.float32, "tensor(int64)": np.int64}


class OnnxRuntime:
    """Implements `Runtime` for ONNX, and `Converter`."""

    precisions = ("float64", "float32")

    def save(self, model: Any, folder: Path, signature: Signature, reference: pl.DataFrame) -> None:
        """See `Runtime.save`; the model is an ``onnx.ModelProto``."""
        (folder / FILE_NAME).write_bytes(model.SerializeToString())

    def load(self, folder: Path) -> Any:
        """See `Runtime.load`."""
        import onnx

        return onnx.load_model_from_string((folder / FILE_NAME).read_bytes())

    def predictor(self, folder: Path, signature: Signature) -> Predictor:
        """See `Runtime.predictor`."""
        return OnnxPredictor((folder / FILE_NAME).read_bytes(), signature)

    def convert(self, model: Any, folder: Path, signature: Signature, reference: pl.DataFrame, precision: str) -> None:
        """See `Converter.convert`. One tensor of all features, or one input a column where some are text."""
        if precision == "float64" and are_numbers(signature) and not signature.categories:
            from flyball.runtimes.onnx_trees import NotKnownError, write_exact

            with suppress(NotKnownError):
                data = write_exact(model, len(signature.features.fields))
                (folder / FILE_NAME).write_bytes(data)
                return
        from skl2onnx import to_onnx
        from skl2onnx.common import data_types

        number = data_types.DoubleTensorType if precision == "float64" else data_types.FloatTensorType
        fields = signature.features.fields
        # A model that picks columns by name needs each as an input of its own.
        if any(field.dtype == "string" for field in fields):
            text = data_types.StringTensorType
            inputs = [(field.name, (text if field.dtype == "string" else number)([None, 1])) for field in fields]
        else:
            inputs = [(_ONE_INPUT, number([None, len(fields)]))]
        options = {"zipmap": False} if signature.task != "regression" else None
        converted = to_onnx(model, initial_types=inputs, options=options)
        (folder / FILE_NAME).write_bytes(converted.SerializeToString())


class OnnxPredictor:
    """Implements `Predictor` with an inference session on one thread."""

    def __init__(self, model: bytes, signature: Signature) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only; the rest is for those who write graphs
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._signature = signature
        self._arrange = Arranger(signature)
        self._inputs = {put.name: put.type for put in self._session.get_inputs()}
        # Classifiers give the chosen class first and the probabilities last.
        self._output = self._session.get_outputs()[-1].name
        kinds = list(self._inputs.values())
        is_matrix = len(kinds) == 1 and kinds[0] in _NUMBERS and not signature.categories
        self.predict_array = self._predict_array if is_matrix and are_numbers(signature) else None
        self._name, self._type = next(iter(self._inputs)), _NUMBERS.get(kinds[0], np.float32)

    def predict(self, frame: pl.DataFrame) -> Array:
        """See `Predictor.predict`."""
        arranged = self._arrange(frame)
        try:
            raw = self._session.run([self._output], self._feed(arranged))[0]
        except (ValueError, TypeError, Fail, InvalidArgument, RuntimeException) as error:
            raise PredictionFailedError("ONNX graph", str(error).partition("\n")[0]) from error
        return to_predictions(raw, self._signature, len(frame), "ONNX graph")

    def _predict_array(self, inputs: Array) -> Array:
        try:
            raw = self._session.run([self._output], {self._name: inputs.astype(self._type, copy=False)})[0]
        except (ValueError, TypeError, Fail, InvalidArgument, RuntimeException) as error:
            raise PredictionFailedError("ONNX graph", str(error).partition("\n")[0]) from error
        return to_predictions(raw, self._signature, len(inputs), "ONNX graph")

    def _feed(self, frame: pl.DataFrame) -> dict[str, Array]:
        if (len(self._inputs) == 1 and len(frame.columns) > 1) or list(self._inputs) == [_ONE_INPUT]:
            ((name, kind),) = self._inputs.items()
            return {name: to_array(frame).astype(_NUMBERS.get(kind, np.float32), copy=False)}
        return {name: _column(frame.get_column(name), kind) for name, kind in self._inputs.items()}


def _column(series: pl.Series, kind: str) -> Array:
    if kind == "tensor(string)":
        # ONNX has no null text.
        return np.asarray(series.cast(pl.String).fill_null("").to_list(), dtype=object).reshape(-1, 1)
    return series.cast(pl.Float64).to_numpy().astype(_NUMBERS.get(kind, np.float32), copy=False).reshape(-1, 1)
