"""What one cannot do keeps no other from its turn, and is told all the same."""

import logging

import pytest

from flyball.core.errors import BackendError, InvalidInputError
from flyball.domain.loop.failures import Failures


def test_all_is_tried_and_the_first_error_is_raised(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    done = []
    for number in range(5):
        with failures.passing():
            if number in (1, 2):
                raise BackendError(f"number {number} is broken", hint="")
            if number == 3:
                raise InvalidInputError("number 1 is broken")
            done.append(number)
    assert done == [0, 4]
    with caplog.at_level(logging.WARNING), pytest.raises(BackendError, match="number 1"):
        failures.tell()
    assert [record.getMessage() for record in caplog.records] == ["flyball/backend: number 2 is broken"]


def test_a_fault_of_ours_stops_no_other_part_and_is_what_is_raised(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    done = []
    for number in range(3):
        with failures.passing():
            if number == 0:
                raise InvalidInputError("the first cannot be done")
            done.append(1 / (number - 1))
    assert done == [1.0]
    with caplog.at_level(logging.WARNING), pytest.raises(ZeroDivisionError):
        failures.tell()
    assert [record.getMessage() for record in caplog.records] == ["flyball/invalid-input: the first cannot be done"]


def test_nothing_is_told_where_nothing_failed() -> None:
    Failures().tell()
