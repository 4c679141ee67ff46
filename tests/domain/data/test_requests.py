"""A live request is checked against a schema, all problems at once."""

import math
from typing import Any

import pytest

from flyball.core.encoding import to_json
from flyball.domain.data.requests import RequestSchema
from flyball.domain.data.schemas import Field, Schema

SCHEMA = Schema(
    (
        Field(name="income", dtype="float", nullable=False),
        Field(name="term", dtype="int", nullable=False),
        Field(name="city", dtype="string"),
        Field(name="is_new", dtype="bool", nullable=False),
        Field(name="at", dtype="datetime", nullable=False),
    )
)
GOOD: dict[str, Any] = {"income": 1.5, "term": 12, "city": "Paris", "is_new": True, "at": "2026-03-01 14:05"}


def messages(request: dict[str, Any], **options: Any) -> list[str]:
    schema = RequestSchema(SCHEMA, optional=["at"], ignored=["customer_id"])
    return [violation.message for violation in schema.check(request, **options)]


@pytest.mark.parametrize(
    "change",
    [{}, {"income": 3}, {"city": None}, {"at": "2026-03-01"}, {"at": None}, {"customer_id": 7}],
    ids=lambda change: str(change),
)
def test_a_fitting_request_has_no_problem(change: dict[str, Any]) -> None:
    assert messages({**GOOD, **change}) == []


def test_an_optional_field_may_be_absent() -> None:
    assert messages({name: value for name, value in GOOD.items() if name != "at"}) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"income": "much"}, "income must be a float, but 'much' was given"),
        ({"income": True}, "income must be a float, but true was given"),
        ({"income": math.nan}, "income must be a number, but NaN was given"),
        ({"income": -math.inf}, "income must be a finite number, but -infinity was given"),
        ({"income": 10**400}, "income must be a finite number"),
        ({"income": None}, "income must not be null, but null was given"),
        ({"term": 12.5}, "term must be an int, but 12.5 was given"),
        ({"term": 12.0}, "term must be an int, but 12.0 was given"),
        ({"term": True}, "term must be an int, but true was given"),
        ({"term": 2**63}, "term must be an int of 64 bits"),
        ({"is_new": 1}, "is_new must be a bool, but 1 was given"),
        ({"city": ["Paris"]}, "city must be a string, but ['Paris'] was given"),
        ({"at": "soon"}, "at must be a datetime, but 'soon' was given"),
        ({"incom": 1}, "incom was given, but no field is named so; did you mean 'income'?"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_given(change: dict[str, Any], message: str) -> None:
    found = messages({**GOOD, **change})
    assert len(found) == 1
    assert found[0].startswith(message)


def test_all_problems_are_told_at_once_with_their_paths() -> None:
    assert messages({"income": math.nan, "term": "x", "extra": 1}, path="rows[3]") == [
        "rows[3].income must be a number, but NaN was given",
        "rows[3].term must be an int, but 'x' was given",
        "rows[3].city must be given as a string, but it is missing",
        "rows[3].is_new must be given as a bool, but it is missing",
        "rows[3].extra was given, but no field is named so",
    ]


def test_a_checked_request_becomes_a_typed_frame() -> None:
    frame = SCHEMA.frame([GOOD, {**GOOD, "income": 3, "city": None}])
    assert frame.schema == SCHEMA.to_polars()
    assert frame["income"].to_list() == [1.5, 3.0]


@pytest.mark.parametrize("value", [math.nan, 10**400, ["a"], {"a": 1}, 1e400, "x" * 1000])
def test_a_violation_can_be_answered_as_json(value: Any) -> None:
    violations = RequestSchema(SCHEMA).check({**GOOD, "term": value})
    assert len(violations) == 1
    assert to_json(violations)
    assert len(violations[0].message) < 150
