"""One measured value, as it is kept."""

import reprlib
from typing import Any, NamedTuple

from flyball.core.errors import InvalidInputError


class Point(NamedTuple):
    """A metric's value at a step and a time; a tuple, since thousands of them come in one request.

    Attributes:
        value: May be NaN or infinite.
        source: The pipeline step that measured it; empty for clients.
        model_id: The logged model that it judges.
        dataset_name: The dataset that it was measured on.
        dataset_digest: The dataset's digest.
    """

    name: str
    value: float
    logged_at_us: int
    step: int = 0
    source: str = ""
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


HistoryRow = tuple[int, int, float, int, str | None, str | None, str | None, str]
"""A point of one metric as it is read: time (us), step, value, whether it is NaN, model id, dataset's name and digest,
source. A plain tuple, since a page has 100,000 of them."""


_STEPS = range(-(2**63), 2**63)
"""What databases hold."""


def check_number(name: str, value: Any) -> float:
    """Return the value of a metric as a number.

    Raises:
        InvalidInputError: It is none.
    """
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"metric {name!r} is {_shown(value)}, which is no number") from error


def check_step(name: str, step: Any) -> int:
    """Return the step of a metric as a whole number.

    Raises:
        InvalidInputError: It is none, or has more than 64 bits.
    """
    try:
        found = int(step)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"the step of metric {name!r} is {_shown(step)}, which is no whole number") from error
    if isinstance(step, float) and step != found:
        raise InvalidInputError(f"the step of metric {name!r} is {_shown(step)}, which is no whole number")
    if found not in _STEPS:
        raise InvalidInputError(f"the step of metric {name!r} is {_shown(step)}; it has more than 64 bits")
    return found


def _shown(value: Any) -> str:
    return reprlib.repr(value)
