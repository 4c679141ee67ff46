"""How a version's status changes, as a law."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyball.core.errors import InvalidInputError
from flyball.domain.registry.versions import (
    Change,
    Status,
    StatusForbidsError,
    check_model_name,
    make_ref,
    next_status,
    parse_ref,
)


def plain_rule(status: Status, change: Change) -> Status | None:
    """The whole table, written out."""
    gates = {"its gates failed": "rejected", "its gates passed, and approval is automatic": "approved"}
    gates["its gates passed, and a role must approve"] = "awaiting-approval"
    table = {(status.value, text): target for text, target in gates.items() if status != "archived"}
    table["awaiting-approval", "it is approved"] = "approved"
    table["awaiting-approval", "it is rejected"] = "rejected"
    if status != "archived":
        table[status.value, "it is archived"] = "archived"
    target = table.get((status.value, change.value))
    return Status(target) if target else None


@given(st.lists(st.sampled_from(Change)))
def test_every_walk_follows_the_table(changes: list[Change]) -> None:
    status = Status.CANDIDATE
    for change in changes:
        expected = plain_rule(status, change)
        if expected is None:
            with pytest.raises(StatusForbidsError):
                next_status("m/1", status, change)
        else:
            status = next_status("m/1", status, change)
            assert status is expected


@given(st.lists(st.sampled_from(Change)))
def test_nobody_is_approved_without_gates_that_passed(changes: list[Change]) -> None:
    status, passed = Status.CANDIDATE, False
    for change in changes:
        try:
            status = next_status("m/1", status, change)
        except StatusForbidsError:
            continue
        if change in (Change.GATES_FAILED, Change.GATES_PASSED, Change.GATES_PASSED_AWAITING):
            passed = change is not Change.GATES_FAILED
        assert status is not Status.APPROVED or passed


def test_refusals_say_what_to_do() -> None:
    with pytest.raises(StatusForbidsError, match="Its gates say no: auc is 0; it must be more"):
        next_status("m/1", Status.REJECTED, Change.APPROVED, ["auc is 0", "it must be more"])
    with pytest.raises(StatusForbidsError, match="Who had to sign it said no"):
        next_status("m/1", Status.REJECTED, Change.APPROVED)
    with pytest.raises(StatusForbidsError, match="train a new one"):
        next_status("m/1", Status.ARCHIVED, Change.APPROVED)


@given(st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,20}\Z"), st.integers(1, 10**6))
def test_a_reference_is_read_as_it_is_written(model: str, number: int) -> None:
    assert parse_ref(make_ref(check_model_name(model), number)) == (model, number)


@pytest.mark.parametrize("text", ["credit", "credit/", "/3", "credit/x", "credit/0", "credit/-1", "credit/³", ""])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="NAME/NUMBER"):
        parse_ref(text)


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "über", "a b", "x" * 101])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="not a name for a model"):
        check_model_name(name)
