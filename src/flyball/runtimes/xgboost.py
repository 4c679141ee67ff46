"""XGBoost's boosters and its scikit-learn classes, kept in XGBoost's own JSON."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import xgboost

from flyball.domain.registry.explaining import RawAttributions
from flyball.domain.registry.runtimes import ModelNotSavedError, PredictionFailedError, Predictor
from flyball.domain.registry.signatures import Arranger, Signature
from flyball.runtimes.arrays import to_array
from flyball.runtimes.attributions import PipelineAttributions, booster_trees
from flyball.runtimes.outputs import Array, require_numbers, to_predictions

_MODEL = "model.json"
_FACTS = "facts.json"


class XgboostRuntime:
    """Implements `Runtime` for XGBoost; features are numbers and flags."""

    def save(self, model: Any, folder: Path, signature: Signature, reference: pl.DataFrame) -> None:
        """See `Runtime.save`."""
        kind = type(model).__name__
        require_numbers(kind, signature)
        if not hasattr(xgboost, kind):
            raise ModelNotSavedError(kind, "only XGBoost's own classes can be kept, not a subclass of them")
        booster = model if isinstance(model, xgboost.Booster) else model.get_booster()
        (folder / _MODEL).write_bytes(booster.save_raw("json"))
        (folder / _FACTS).write_text(json.dumps({"class": kind}), encoding="utf-8")

    def load(self, folder: Path) -> Any:
        """See `Runtime.load`."""
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        model = getattr(xgboost, facts["class"])()
        model.load_model(folder / _MODEL)
        return model

    def predictor(self, folder: Path, signature: Signature) -> Predictor:
        """See `Runtime.predictor`."""
        booster = xgboost.Booster()
        booster.load_model(folder / _MODEL)
        return XgboostPredictor(booster, signature)

    def attributions(self, folder: Path, signature: Signature, reference: pl.DataFrame) -> RawAttributions:
        """See `Attributing.attributions`."""
        booster = xgboost.Booster()
        booster.load_model(folder / _MODEL)
        booster.set_param({"nthread": 1})
        features = range(len(signature.features.names))
        return PipelineAttributions(
            [], booster_trees(booster, _answering(booster)), features, signature, to_array, reference
        )


class XgboostPredictor:
    """Implements `Predictor` with a booster."""

    def __init__(self, booster: xgboost.Booster, signature: Signature) -> None:
        booster.set_param({"nthread": 1})
        self._booster = booster
        self._signature = signature
        self._arrange = Arranger(signature)
        self._trees = _answering(booster)

    def predict(self, frame: pl.DataFrame) -> Array:
        """See `Predictor.predict`."""
        return self.predict_array(to_array(self._arrange(frame)))

    def predict_array(self, inputs: Array) -> Array:
        """See `array_form`."""
        try:
            raw = self._booster.inplace_predict(inputs, iteration_range=self._trees, validate_features=False)
        except (ValueError, xgboost.core.XGBoostError) as error:
            raise PredictionFailedError("Booster", str(error).partition("\n")[0]) from error
        return to_predictions(raw, self._signature, len(inputs), "Booster")


def _answering(booster: xgboost.Booster) -> tuple[int, int]:
    """Return which rounds answer: up to the best one, where training stopped early."""
    best = booster.attr("best_iteration")
    return (0, int(best) + 1) if best is not None else (0, 0)
