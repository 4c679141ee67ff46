"""What each feature added to a prediction: attributions that sum to the prediction minus a base value.

The port, the proof that exact attributions fit the model that answers, and sampling for models without an exact form.

The base value is what the model would answer without knowing the row; attributions are Shapley values (Lundberg and
Lee, "A Unified Approach to Interpreting Model Predictions", NeurIPS 2017).
"""

import logging
from collections.abc import Sequence
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from flyball.domain.registry.reference import SAMPLE_ROWS, sample_rows
from flyball.domain.registry.runtimes import Predictor, Runtime
from flyball.domain.registry.signatures import Signature

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    Array = np.ndarray[Any, Any]

SAMPLED = "sampled"
"""The method's name where attributions are estimated."""
BUDGET = 1_000
"""How many times the model computes at most for one row's sampled attributions, once for each way and feature."""
_FEWEST_WAYS = 2
_MOST_WAYS = 64
_SEED = 20_170_522
_PROOF_ROWS = 100
# Boosters add up in single precision; two sums of a thousand terms differ by about this much.
_PROOF_TOLERANCE = 1e-4
_CHUNK_ROWS = 50_000
_SAMPLED_ROWS = 300
_log = logging.getLogger("flyball.explaining")


class Scale(StrEnum):
    """In what attributions are measured, and so what their sum and the base value give."""

    VALUE = "value"
    PROBABILITY = "probability"
    LOG_ODDS = "log-odds"


class Attributions(msgspec.Struct, frozen=True, kw_only=True):
    """What the features added, for some rows.

    Attributes:
        values: ``(n_rows, n_features)``, in the order of the signature's features.
        base: ``(n_rows,)``; rows of one class share theirs.
        classes: For each row, the number of the class that is explained; None but for more than two classes.
    """

    values: "Array"
    base: "Array"
    classes: "Array | None" = None


class RawAttributions(Protocol):
    """Exact attributions as a model's library computes them. Safe to call from several threads."""

    method: str
    """How they are computed, in a word or two, such as ``exact trees``."""

    def attribute(self, frame: "pl.DataFrame") -> "tuple[Array, Array]":
        """Return what each feature added to each output, and the base value of each output.

        Args:
            frame: At least the signature's features.

        Returns:
            ``(n_rows, n_outputs, n_features)`` and ``(n_outputs,)``; one output, or one for each class.
        """
        ...


class Attributing(Protocol):
    """A runtime that knows an exact form for some of its models has this beside `Runtime`."""

    def attributions(self, folder: Path, signature: Signature, reference: "pl.DataFrame") -> RawAttributions | None:
        """Return the exact form for the model in a folder; None where there is none, or what it needs is missing.

        Args:
            folder: As `Runtime.save` filled it.
            signature: What the model takes and gives.
            reference: Rows that stand for the training data.
        """
        ...


class Explainer(Protocol):
    """Tells what each feature added to a model's predictions. Safe to call from several threads."""

    method: str
    scale: Scale

    def explain(self, frame: "pl.DataFrame") -> Attributions:
        """Explain rows.

        Args:
            frame: At least the signature's features.

        Raises:
            PredictionFailedError: The model refuses the rows.
        """
        ...


def open_explainer(
    runtime: Runtime, folder: Path, signature: Signature, reference: "pl.DataFrame", predictor: Predictor
) -> Explainer:
    """Return the best explainer of a model: exact where its runtime has a form that is proven, else sampled.

    Args:
        runtime: Runs the model.
        folder: Where its files are.
        signature: What it takes and gives.
        reference: Rows that stand for the training data.
        predictor: The model that answers, whose predictions are explained.
    """
    find = getattr(runtime, "attributions", None)
    if find is not None and len(reference):
        try:
            raw: RawAttributions | None = find(folder, signature, reference)
            scale = None if raw is None else _prove(raw, signature, reference.head(_PROOF_ROWS), predictor)
        except Exception:  # noqa: BLE001 - a library's explainer may raise anything for a model it does not know
            _log.info("no exact attributions for this model, so they are sampled", exc_info=True)
            raw, scale = None, None
        if raw is not None and scale is not None:
            return ExactExplainer(raw, scale, signature, predictor)
    return SampledExplainer(signature, reference, predictor)


def _prove(raw: RawAttributions, signature: Signature, reference: "pl.DataFrame", predictor: Predictor) -> Scale | None:
    """Return the scale on which base values and attributions sum to what the model answers; None where none does."""
    import numpy as np

    values, base = raw.attribute(reference)
    sums = values.sum(axis=2) + base
    expected = np.asarray(predictor.predict(reference), dtype=np.float64)
    if expected.ndim == 1:
        if sums.shape[1] != 1:
            return None
        sums = sums[:, 0]
    plain = Scale.VALUE if signature.task == "regression" else Scale.PROBABILITY
    candidates = {plain: sums}
    if signature.task != "regression":
        candidates[Scale.LOG_ODDS] = _to_probabilities(sums)
    for scale, found in candidates.items():
        if found.shape == expected.shape and np.allclose(found, expected, rtol=_PROOF_TOLERANCE, atol=_PROOF_TOLERANCE):
            return scale
    return None


def _to_probabilities(scores: "Array") -> "Array":
    import numpy as np

    if scores.ndim == 1:
        with np.errstate(over="ignore"):
            found: Array = 1 / (1 + np.exp(-scores))
        return found
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


class ExactExplainer:
    """Implements `Explainer` with an exact form that was proven against the model."""

    def __init__(self, raw: RawAttributions, scale: Scale, signature: Signature, predictor: Predictor) -> None:
        self.method = raw.method
        self.scale = scale
        self._raw = raw
        self._is_multiclass = signature.task == "multiclass"
        self._predictor = predictor

    def explain(self, frame: "pl.DataFrame") -> Attributions:
        """See `Explainer.explain`."""
        import numpy as np

        values, base = self._raw.attribute(frame)
        if not self._is_multiclass:
            return Attributions(values=values[:, 0, :], base=np.full(len(frame), float(base[0])))
        classes = np.asarray(self._predictor.predict(frame)).argmax(axis=1)
        return Attributions(values=values[np.arange(len(frame)), classes, :], base=base[classes], classes=classes)


class SampledExplainer:
    """Implements `Explainer` for any model, by changing one feature after the other from a training row's to the row's.

    Each way begins at a row of the reference and takes over the row's features in some order; what a feature's change
    does to the prediction, averaged over all ways, estimates its Shapley value without bias (Castro, Gomez and Tejada,
    Computers & Operations Research 36, 2009). Each order is also gone backwards, which halves the noise or better
    (Mitchell et al., Journal of Machine Learning Research 23, 2022). The steps of a way telescope, so the sum is exact
    whatever the budget. The same row always gets the same attributions: all rows share their ways.

    Args:
        signature: What the model takes and gives.
        reference: Rows that stand for the training data.
        predictor: The model.
        budget: How often the model may compute for one row.
    """

    method = SAMPLED

    def __init__(
        self, signature: Signature, reference: "pl.DataFrame", predictor: Predictor, *, budget: int = BUDGET
    ) -> None:
        self.scale = Scale.VALUE if signature.task == "regression" else Scale.PROBABILITY
        self._names = signature.features.names
        self._reference = reference.select(self._names)
        self._predictor = predictor
        self._is_multiclass = signature.task == "multiclass"
        ways = min(_MOST_WAYS, budget // (len(self._names) + 1))
        self.ways = max(_FEWEST_WAYS, ways - ways % 2)

    @property
    def evaluations(self) -> int:
        """How many times the model computes for one row."""
        return self.ways * (len(self._names) + 1)

    @cached_property
    def _plan(self) -> "tuple[pl.DataFrame, Array, Array]":
        """Return the rows where ways begin, ``(ways,)`` which of them, and ``(ways, features)`` their orders."""
        import numpy as np

        dice = np.random.default_rng(_SEED)
        half = self.ways // 2
        rows = len(self._reference)
        chosen = dice.choice(rows, size=half, replace=rows < half)
        orders = np.array([dice.permutation(len(self._names)) for _ in range(half)]).reshape(half, len(self._names))
        starts = np.concatenate([np.arange(half), np.arange(half)])
        return self._reference[chosen.tolist()], starts, np.concatenate([orders, orders[:, ::-1]])

    def explain(self, frame: "pl.DataFrame") -> Attributions:
        """See `Explainer.explain`."""
        import numpy as np

        per_chunk = max(1, _CHUNK_ROWS // max(1, self.evaluations))
        parts = [self._explain_some(frame.slice(begin, per_chunk)) for begin in range(0, len(frame), per_chunk)]
        classes = [part.classes for part in parts if part.classes is not None]
        return Attributions(
            values=np.concatenate([part.values for part in parts]),
            base=np.concatenate([part.base for part in parts]),
            classes=np.concatenate(classes) if classes else None,
        )

    def _explain_some(self, frame: "pl.DataFrame") -> Attributions:
        import numpy as np

        _, _, orders = self._plan
        rows, features = len(frame), len(self._names)
        answers = np.asarray(self._predictor.predict(self._walk(frame)), dtype=np.float64)
        classes = None
        if self._is_multiclass:
            answers = answers.reshape(rows, self.ways * (features + 1), -1)
            # Each way ends at the row itself.
            classes = answers[:, features, :].argmax(axis=1)
            answers = answers[np.arange(rows), :, classes]
        answers = answers.reshape(rows, self.ways, features + 1)
        values = np.zeros((rows, features))
        for way, order in enumerate(orders):
            values[:, order] += np.diff(answers[:, way, :], axis=1)
        return Attributions(values=values / self.ways, base=answers[:, :, 0].mean(axis=1), classes=classes)

    def _walk(self, frame: "pl.DataFrame") -> "pl.DataFrame":
        """Return every step of every way of every row, ``rows x ways x (features + 1)`` of them."""
        import numpy as np
        import polars as pl

        begins, starts, orders = self._plan
        rows, features = len(frame), len(self._names)
        places = np.argsort(orders, axis=1)
        steps = np.arange(features + 1)
        own = np.arange(rows)[:, None, None]
        columns = []
        for number, name in enumerate(self._names):
            is_own = places[:, number, None] < steps
            index = np.where(is_own[None], own, rows + starts[None, :, None]).ravel()
            both = frame.get_column(name).append(begins.get_column(name).cast(frame.schema[name]))
            columns.append(both.gather(index))
        return pl.DataFrame(columns)


def attribute_rows(explainer: Explainer, frame: "pl.DataFrame", names: Sequence[str]) -> "pl.DataFrame":
    """Return one column of attributions for each feature, of some rows spread over a frame.

    Args:
        explainer: Explains the rows.
        frame: At least the signature's features.
        names: The signature's features, in order.

    Raises:
        PredictionFailedError: The model refuses the rows.
    """
    import polars as pl

    some = sample_rows(frame, _SAMPLED_ROWS if explainer.method == SAMPLED else SAMPLE_ROWS)
    found = explainer.explain(some)
    return pl.DataFrame({name: found.values[:, number] for number, name in enumerate(names)})
