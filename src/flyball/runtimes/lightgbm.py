"""LightGBM's boosters and its scikit-learn classes, kept in LightGBM's own text, so that serving unpickles nothing."""

import json
from pathlib import Path
from typing import Any

import lightgbm
import polars as pl

from flyball.domain.registry.explaining import RawAttributions
from flyball.domain.registry.runtimes import ModelNotSavedError, PredictionFailedError, Predictor
from flyball.domain.registry.signatures import Arranger, Signature
from flyball.runtimes.arrays import to_array
from flyball.runtimes.attributions import PipelineAttributions, lightgbm_trees
from flyball.runtimes.outputs import Array, require_numbers, require_probabilities, to_predictions
from flyball.runtimes.pickles import dump_model, load_model

_MODEL = "model.txt"
_FACTS = "facts.json"


class LightgbmRuntime:
    """Implements `Runtime` for LightGBM; features are numbers and flags."""

    def save(self, model: Any, folder: Path, signature: Signature, reference: pl.DataFrame) -> None:
        """See `Runtime.save`."""
        kind = type(model).__name__
        require_numbers(kind, signature)
        if not hasattr(lightgbm, kind):
            raise ModelNotSavedError(kind, "only LightGBM's own classes can be kept, not a subclass of them")
        booster = model if isinstance(model, lightgbm.Booster) else model.booster_
        rounds = booster.best_iteration if booster.best_iteration > 0 else booster.current_iteration()
        booster.save_model(folder / _MODEL, num_iteration=rounds)
        (folder / _FACTS).write_text(json.dumps({"class": kind}), encoding="utf-8")
        if not isinstance(model, lightgbm.Booster):
            dump_model(model, folder)  # for the project's own code alone; requests are answered by the text
        require_probabilities(kind, signature, self.predictor(folder, signature).predict(reference))

    def load(self, folder: Path) -> Any:
        """See `Runtime.load`."""
        kind = json.loads((folder / _FACTS).read_text(encoding="utf-8"))["class"]
        return lightgbm.Booster(model_file=folder / _MODEL) if kind == "Booster" else load_model(folder)

    def predictor(self, folder: Path, signature: Signature) -> Predictor:
        """See `Runtime.predictor`."""
        return LightgbmPredictor(lightgbm.Booster(model_file=folder / _MODEL), signature)

    def attributions(self, folder: Path, signature: Signature, reference: pl.DataFrame) -> RawAttributions:
        """See `Attributing.attributions`."""
        trees = lightgbm_trees(lightgbm.Booster(model_file=folder / _MODEL))
        features = range(len(signature.features.names))
        return PipelineAttributions([], trees, features, signature, to_array, reference)


class LightgbmPredictor:
    """Implements `Predictor` with a booster."""

    def __init__(self, booster: lightgbm.Booster, signature: Signature) -> None:
        self._booster = booster
        self._signature = signature
        self._arrange = Arranger(signature)

    def predict(self, frame: pl.DataFrame) -> Array:
        """See `Predictor.predict`."""
        return self.predict_array(to_array(self._arrange(frame)))

    def predict_array(self, inputs: Array) -> Array:
        """See `array_form`."""
        try:
            raw = self._booster.predict(inputs, num_threads=1, validate_features=False)
        except (ValueError, lightgbm.basic.LightGBMError) as error:
            raise PredictionFailedError("Booster", str(error).partition("\n")[0]) from error
        return to_predictions(raw, self._signature, len(inputs), "Booster")
