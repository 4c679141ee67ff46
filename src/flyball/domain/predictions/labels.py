"""Labels: what turned out, in every version, and how their rows find the predictions they belong to."""

import hashlib
import math
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import msgspec

from flyball.core.durations import format_instant
from flyball.core.errors import InvalidInputError, NotFoundError

LabelValue = bool | int | float | str | None
_encode = msgspec.json.Encoder(order="deterministic").encode


class PredictionNotFoundError(NotFoundError):
    """No prediction has that id."""

    code = "predictions/not-found"

    def __init__(self, prediction_id: str) -> None:
        super().__init__(f"no prediction has the id {prediction_id!r}", hint="An answer carries it as prediction_id.")


class LabelValueError(InvalidInputError):
    """A label's value is not one that can be compared with predictions."""

    code = "predictions/label-value"


class LabelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """What was said, at one time, about how a prediction turned out.

    Attributes:
        endpoint: Who predicted.
        prediction_id: The prediction that was answered.
        value: How it turned out; None takes back what was said before.
        at: When it held in the world.
        known_at: When it became known; of the versions known at an instant the last one counts.
        source: Where it comes from, such as a table's name or ``api``.
    """

    endpoint: str
    prediction_id: str
    value: LabelValue
    at: datetime
    known_at: datetime
    source: str


class GivenLabel(msgspec.Struct, frozen=True, kw_only=True):
    """A label given by a prediction's id. ``at`` and ``known_at`` are now by default."""

    prediction_id: str
    value: LabelValue
    at: datetime | None = None
    known_at: datetime | None = None


class LabelProblem(msgspec.Struct, frozen=True, kw_only=True):
    """Why one label was not kept.

    Attributes:
        label: The prediction's id, or the keys of the label's row.
        message: What is wrong with it.
    """

    label: str
    message: str


class LabelReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of many labels.

    Attributes:
        added: Versions that were new.
        known_already: Versions that had been kept before.
        unmatched: Rows for which there is no prediction.
        refused: Labels that cannot be kept, and why.
    """

    added: int = 0
    known_already: int = 0
    unmatched: int = 0
    refused: tuple[LabelProblem, ...] = ()


def check_value(value: Any) -> LabelValue:
    """Return a label's value in the form in which it is kept: numbers as float, yes and no as 1 and 0.

    Raises:
        LabelValueError: It is NaN, infinite, or neither a number, a bool nor text.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        number = float(value)
        if math.isfinite(number):
            return number
    raise LabelValueError(
        f"a label must be a finite number, true, false or text, but {value!r} was given",
        hint="Leave out labels that are not known yet.",
    )


def check_same_kind(value: LabelValue, kept: LabelValue, endpoint: str) -> None:
    """Refuse text among numbers and numbers among text.

    Raises:
        LabelValueError: ``value`` is of another kind than a label that the endpoint has already.
    """
    if value is None or kept is None or isinstance(value, str) == isinstance(kept, str):
        return
    kinds = ("text", "numbers") if isinstance(kept, str) else ("numbers", "text")
    raise LabelValueError(
        f"the labels of {endpoint!r} are {kinds[0]}, but {value!r} was given", hint="Check the column or the unit."
    )


def key_value(value: Any) -> Any:
    """Return a key's value in the form in which it is logged and compared: JSON, instants as text in UTC."""
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def match_hash(endpoint: str, keys: Mapping[str, Any]) -> int:
    """Return 64 bits that stand for an endpoint and the values of key columns, as a signed number."""
    text = _encode([endpoint, dict(keys)])
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big", signed=True)
