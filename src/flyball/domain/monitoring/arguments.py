"""Checks of the arguments of monitors, made where a project declares them."""

from datetime import timedelta
from math import isfinite

from flyball.core.durations import format_duration, parse_duration
from flyball.core.errors import InvalidInputError


def check_duration(monitor: str, argument: str, value: str | timedelta) -> timedelta:
    """Return a duration longer than nothing.

    Raises:
        InvalidInputError: It is not; the monitor and the argument are named.
    """
    if not isinstance(value, str | timedelta):
        raise InvalidInputError(f"{monitor}({argument}={value!r}) must be a duration", hint="Such as 1h or 50ms.")
    duration = parse_duration(value, what=f"{monitor}'s {argument}")
    if duration <= timedelta():
        raise InvalidInputError(f"{monitor}({argument}={value!r}) must be longer than nothing")
    return duration


def check_window(monitor: str, value: str | timedelta, *, at_least: timedelta) -> timedelta:
    """Return a window that is long enough.

    Raises:
        InvalidInputError: It is not; the monitor and the argument are named.
    """
    window = check_duration(monitor, "window", value)
    if window < at_least:
        raise InvalidInputError(
            f"{monitor}(window={format_duration(window)!r}) must be at least {format_duration(at_least)}"
        )
    return window


def check_number(monitor: str, argument: str, value: float | None) -> float | None:
    """Return a finite number, or None where none is given.

    Raises:
        InvalidInputError: It is not; the monitor and the argument are named.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise InvalidInputError(f"{monitor}({argument}={value!r}) must be a number")
    return float(value)


def check_positive(monitor: str, argument: str, value: float | None) -> float | None:
    """Return a number above 0, or None where none is given.

    Raises:
        InvalidInputError: It is not; the monitor and the argument are named.
    """
    number = check_number(monitor, argument, value)
    if number is not None and number <= 0:
        raise InvalidInputError(f"{monitor}({argument}={value!r}) must be greater than 0")
    return number


def check_share(monitor: str, argument: str, value: float | None) -> float | None:
    """Return a share from 0 to 1, or None where none is given.

    Raises:
        InvalidInputError: It is not; the monitor and the argument are named.
    """
    number = check_number(monitor, argument, value)
    if number is not None and not 0 <= number <= 1:
        raise InvalidInputError(
            f"{monitor}({argument}={value!r}) must be a share between 0 and 1", hint="Write 0.01 for 1%."
        )
    return number


def check_count(monitor: str, argument: str, value: int) -> int:
    """Return a whole number of at least 1.

    Raises:
        InvalidInputError: It is not; the monitor and the argument are named.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidInputError(f"{monitor}({argument}={value!r}) must be a whole number of at least 1")
    return value
