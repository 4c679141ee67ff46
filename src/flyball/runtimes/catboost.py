"""CatBoost's models, kept in CatBoost's own format; features may be text."""

import json
from pathlib import Path
from typing import Any

import catboost
import polars as pl

from flyball.domain.registry.explaining import RawAttributions
from flyball.domain.registry.runtimes import ModelNotSavedError, PredictionFailedError, Predictor
from flyball.domain.registry.signatures import Arranger, Signature
from flyball.runtimes.arrays import to_array
from flyball.runtimes.outputs import Array, are_numbers, require_probabilities, to_predictions

_MODEL = "model.cbm"
_FACTS = "facts.json"


class CatboostRuntime:
    """Implements `Runtime` for CatBoost."""

    def save(self, model: Any, folder: Path, signature: Signature, reference: pl.DataFrame) -> None:
        """See `Runtime.save`."""
        kind = type(model).__name__
        if not hasattr(catboost, kind):
            raise ModelNotSavedError(kind, "only CatBoost's own classes can be kept, not a subclass of them")
        model.save_model(str(folder / _MODEL))
        (folder / _FACTS).write_text(json.dumps({"class": kind}), encoding="utf-8")
        require_probabilities(kind, signature, self.predictor(folder, signature).predict(reference))

    def load(self, folder: Path) -> Any:
        """See `Runtime.load`."""
        kind = json.loads((folder / _FACTS).read_text(encoding="utf-8"))["class"]
        return getattr(catboost, kind)().load_model(str(folder / _MODEL))

    def predictor(self, folder: Path, signature: Signature) -> Predictor:
        """See `Runtime.predictor`."""
        return CatboostPredictor(catboost.CatBoost().load_model(str(folder / _MODEL)), signature)

    def attributions(self, folder: Path, signature: Signature, reference: pl.DataFrame) -> RawAttributions:
        """See `Attributing.attributions`."""
        return CatboostAttributions(catboost.CatBoost().load_model(str(folder / _MODEL)), signature)


class CatboostAttributions:
    """Implements `RawAttributions`: CatBoost computes the attributions of its trees itself."""

    method = "exact trees"

    def __init__(self, model: catboost.CatBoost, signature: Signature) -> None:
        self._model = model
        self._arrange = Arranger(signature)
        self._categories = list(model.get_cat_feature_indices())

    def attribute(self, frame: pl.DataFrame) -> tuple[Array, Array]:
        """See `RawAttributions.attribute`."""
        arranged = self._arrange(frame)
        rows = [list(row) for row in arranged.iter_rows()] if self._categories else to_array(arranged)
        pool = catboost.Pool(rows, cat_features=self._categories or None)
        found = self._model.get_feature_importance(pool, type="ShapValues", thread_count=1)
        values = found[:, None, :] if found.ndim == 2 else found
        return values[:, :, :-1], values[0, :, -1]


class CatboostPredictor:
    """Implements `Predictor` with a model of CatBoost."""

    def __init__(self, model: catboost.CatBoost, signature: Signature) -> None:
        self._model = model
        self._signature = signature
        self._arrange = Arranger(signature)
        # Categories come as they are, also those that are numbers: an array of floats would change them.
        self._has_categories = bool(model.get_cat_feature_indices())
        self._kind = "Probability" if signature.classes else "RawFormulaVal"
        is_matrix = are_numbers(signature) and not signature.categories and not self._has_categories
        self.predict_array = self._predict_rows if is_matrix else None

    def predict(self, frame: pl.DataFrame) -> Array:
        """See `Predictor.predict`."""
        arranged = self._arrange(frame)
        rows = [list(row) for row in arranged.iter_rows()] if self._has_categories else to_array(arranged)
        return self._predict_rows(rows)

    def _predict_rows(self, rows: Any) -> Array:
        try:
            raw = self._model.predict(rows, prediction_type=self._kind, thread_count=1)
        except (ValueError, catboost.CatBoostError) as error:
            raise PredictionFailedError("CatBoost model", str(error).partition("\n")[0]) from error
        return to_predictions(raw, self._signature, len(rows), "CatBoost model")
