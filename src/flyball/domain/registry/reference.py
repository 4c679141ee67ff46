"""What live traffic is compared with: a sample of the training rows and the binned profile of inputs and outputs."""

from typing import TYPE_CHECKING, Any

import msgspec

from flyball.domain.data.profiles import Profile
from flyball.domain.registry.signatures import Signature

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

PREDICTION = "prediction"
"""The column under which a profile counts predictions; a multiclass prediction is its likeliest class, as text."""

SAMPLE_ROWS = 1_000


class ReferenceProfile(msgspec.Struct, frozen=True, kw_only=True):
    """The distributions of a model's inputs and outputs when it was made.

    Attributes:
        features: Of the training rows.
        predictions: Of the model's answers, in the column `PREDICTION`: on rows it was not trained on where the
            pipeline evaluated it on such, else on the training rows.
        label: Of the label in the training rows.
        is_held_out: Whether ``predictions`` is of rows that the model was not trained on.
        attributions: Of what each feature added to the predictions of the reference sample, where they are watched.
    """

    features: Profile
    predictions: Profile
    label: Profile
    is_held_out: bool = False
    attributions: Profile | None = None


def sample_rows(frame: "pl.DataFrame", rows: int = SAMPLE_ROWS) -> "pl.DataFrame":
    """Return at most ``rows`` rows, evenly spread over the frame in its order, so the same ones each time."""
    if len(frame) <= rows:
        return frame
    return frame[[index * len(frame) // rows for index in range(rows)]]


def prediction_frame(signature: Signature, predictions: "np.ndarray[Any, Any]") -> "pl.DataFrame":
    """Return predictions as one column `PREDICTION` to profile: numbers, or the likeliest class as text."""
    import polars as pl

    if signature.task != "multiclass":
        return pl.DataFrame({PREDICTION: predictions})
    names = [str(label) for label in signature.classes]
    return pl.DataFrame({PREDICTION: [names[index] for index in predictions.argmax(axis=1)]})
