"""Rows that are answered one after the other, each as soon as its model has yielded it."""

import logging
from collections.abc import Generator, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flyball.core.errors import FlyballError
from flyball.domain.predictions.records import PredictionStatus
from flyball.domain.registry.runtimes import EachForm
from flyball.domain.serving.loaded import FeatureLookup, LoadedVersion
from flyball.domain.serving.scoring import (
    ModelFailedError,
    OnViolation,
    Scored,
    check_request,
    fail_rows,
    prepare_inputs,
    take_output,
)

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_log = logging.getLogger("flyball.serving")


def score_each(
    loaded: LoadedVersion,
    form: EachForm,
    lookup: FeatureLookup,
    rows: Sequence[Any],
    at: Sequence[datetime],
    on_violation: OnViolation = "refuse",
) -> Generator[Scored, None, None]:
    """Do what `score_rows` does, and yield each row, in order, once its model has yielded it.

    A model that raises has failed for the row that it was at and for all after it. Whoever closes the iterator ends
    the model's work.
    """
    results = [check_request(loaded, row, on_violation) for row in rows]
    good = [number for number, result in enumerate(results) if result.status is PredictionStatus.OK]
    answers, failure = _begin(loaded, form, lookup, rows, at, results, good)
    try:
        for result in results:
            if result.status is PredictionStatus.OK:
                failure = failure or _take_next(loaded, answers, result)
                if failure is not None:
                    fail_rows([result], failure)
            yield result
    finally:
        close = getattr(answers, "close", None)
        if close is not None:
            close()


def _begin(
    loaded: LoadedVersion,
    form: EachForm,
    lookup: FeatureLookup,
    rows: Sequence[Any],
    at: Sequence[datetime],
    results: Sequence[Scored],
    good: Sequence[int],
) -> tuple[Iterator["Array"], FlyballError | None]:
    if not good:
        return iter(()), None
    try:
        inputs = prepare_inputs(
            loaded,
            lookup,
            [rows[number] for number in good],
            [at[number] for number in good],
            [results[number] for number in good],
        )
        return form(inputs), None
    except Exception as error:  # noqa: BLE001 - the project's own code runs here
        return iter(()), _explain(loaded, error)


def _take_next(loaded: LoadedVersion, answers: Iterator["Array"], result: Scored) -> FlyballError | None:
    """Note what the model yields for a row; return why it yields nothing."""
    try:
        output = next(answers, None)
        if output is None:
            return ModelFailedError(loaded.ref, "it yielded fewer predictions than there are rows")
        take_output(loaded, output, [result])
    except Exception as error:  # noqa: BLE001 - the model's own code runs here
        return _explain(loaded, error)
    return None


def _explain(loaded: LoadedVersion, error: Exception) -> FlyballError:
    if isinstance(error, FlyballError):
        return error
    _log.warning("%s failed", loaded.ref, exc_info=error)
    return ModelFailedError(loaded.ref, f"{type(error).__name__}: {error}")
