"""Adds to answers what each feature added to them; computed from the features as they were served."""

import logging
from collections.abc import Sequence
from typing import Any

import msgspec
import polars as pl

from flyball.core.errors import InvalidInputError
from flyball.domain.data.reports import Violation
from flyball.domain.predictions.records import Explanation, PredictionStatus
from flyball.domain.registry.explaining import Explainer
from flyball.domain.serving.loaded import LoadedVersion
from flyball.domain.serving.scoring import Scored

MOST_ROWS = 100
"""Explaining a row costs up to a thousand predictions."""
_log = logging.getLogger("flyball.serving")


class TooManyExplainedError(InvalidInputError):
    """A request asks for more explanations than are given at once."""

    code = "serving/explain-rows"

    def __init__(self, rows: int) -> None:
        super().__init__(
            f"a request may ask for the explanations of at most {MOST_ROWS} rows, but it holds {rows:,}",
            hint="Send fewer rows at once, or leave out explain=true.",
        )


def check_explainable(rows: int) -> None:
    """Refuse a request that asks for too many explanations.

    Raises:
        TooManyExplainedError: It does.
    """
    if rows > MOST_ROWS:
        raise TooManyExplainedError(rows)


def explain_rows(loaded: LoadedVersion, rows: Sequence[Scored]) -> None:
    """Give each row that has a prediction its explanation; where that fails, the row says so and keeps its answer."""
    good = [row for row in rows if row.status is PredictionStatus.OK]
    if not good or loaded.find_explainer is None:
        return
    try:
        explainer = loaded.find_explainer()
        explanations = explain(explainer, loaded, [bytes(row.features) for row in good])
    except Exception as error:  # noqa: BLE001 - the model's own code runs here, and its prediction stands
        _log.warning("explaining answers of %s failed", loaded.ref, exc_info=True)
        reason = f"no explanation: {type(error).__name__}: {error}"
        for row in good:
            row.violations = [*row.violations, Violation(column="", rule="explain", severity="warn", message=reason)]
        return
    for row, explanation in zip(good, explanations, strict=True):
        row.explanation = explanation


def explain(explainer: Explainer, loaded: LoadedVersion, features: Sequence[bytes]) -> list[Explanation]:
    """Return the explanations of rows by their inputs as they are logged, JSON objects."""
    names = loaded.signature.features.names
    found = explainer.explain(read_features(loaded.input_types, features))
    classes = loaded.signature.classes
    explained = [None] * len(features) if found.classes is None else [classes[number] for number in found.classes]
    return [
        Explanation(
            base=float(base),
            attributions=dict(zip(names, map(float, values), strict=True)),
            scale=explainer.scale.value,
            method=explainer.method,
            of_class=of_class,
        )
        for base, values, of_class in zip(found.base, found.values, explained, strict=True)
    ]


def read_features(types: pl.Schema, features: Sequence[bytes]) -> pl.DataFrame:
    """Return logged inputs as the frame that the model was given."""
    rows: list[dict[str, Any]] = [msgspec.json.decode(text) for text in features]
    written = {name: pl.String() if dtype.is_temporal() else dtype for name, dtype in types.items()}
    frame = pl.DataFrame(rows, schema=written, strict=False)
    return frame.with_columns(
        pl.col(name).str.to_datetime(time_zone="UTC", strict=False).cast(dtype)
        for name, dtype in types.items()
        if dtype.is_temporal()
    )
