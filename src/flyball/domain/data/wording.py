"""Values in words: how messages write them, and how JSON can carry them."""

import math
from datetime import UTC, date, datetime
from typing import Any

from flyball.core.durations import format_instant

_LONGEST_VALUE = 60


def format_number(value: float) -> str:
    """Write a measured number to about four digits, large ones with their thousands: 0.4712, 2,085, 507,900."""
    return f"{value:,.0f}" if math.isfinite(value) and abs(value) >= 1_000 else f"{value:.4g}"


def format_value(value: Any) -> str:
    """Write a value as people do: 33 for 33.0, text in quotes, instants in ISO 8601, at most 60 signs."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "infinity" if value > 0 else "-infinity"
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, datetime):
        return format_instant(value if value.tzinfo else value.replace(tzinfo=UTC))
    if isinstance(value, date):
        return value.isoformat()
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def plain_value(value: Any) -> Any:
    """Return a value as JSON can carry it: what JSON cannot, such as NaN or an instant, is written out."""
    if isinstance(value, float):
        return value if math.isfinite(value) else format_value(value)
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else format_value(value)
    return value if isinstance(value, str | None) else format_value(value)
