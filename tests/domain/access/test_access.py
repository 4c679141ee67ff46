"""Who may do what, and what is said to those who may not."""

import pytest

from flyball.core.errors import NotPermittedError
from flyball.domain.access.service import AccessService
from flyball.domain.access.users import RoleMissingError, UnknownUserError

USERS = {"ana": ["risk-officer"], "bob": ["engineer"], "eve": []}


def test_a_user_with_the_role_may() -> None:
    user = AccessService(USERS).require_role("ana", "risk-officer")
    assert (user.name, user.actor) == ("ana", "user/ana")


def test_a_user_without_the_role_is_told_the_role_and_who_has_it() -> None:
    with pytest.raises(RoleMissingError) as error:
        AccessService(USERS).require_role("bob", "risk-officer")
    assert isinstance(error.value, NotPermittedError)
    assert error.value.message == (
        "'bob', whose roles are engineer, may not do this: it needs the role 'risk-officer'; ana has it"
    )


def test_a_role_that_nobody_has_is_told_with_the_way_to_give_it() -> None:
    with pytest.raises(RoleMissingError) as error:
        AccessService(USERS).require_role("eve", "auditor")
    assert "'eve', who has no role" in error.value.message
    assert "nobody has it" in error.value.message
    assert 'eve = ["auditor"]' in error.value.hint


@pytest.mark.parametrize(
    ("users", "name", "found"),
    [(USERS, "anna", "did you mean 'ana'?"), (USERS, "zoe", "there is ana, bob, eve"), ({}, "ana", "there is none")],
)
def test_an_unknown_user_is_refused(users: dict[str, list[str]], name: str, found: str) -> None:
    with pytest.raises(UnknownUserError, match=r"flyball\.toml") as error:
        AccessService(users).require_role(name, "risk-officer")
    assert found in error.value.message


def test_holders_are_listed_in_order() -> None:
    assert AccessService({"b": ["x"], "a": ["x", "y"]}).list_holders("x") == ["a", "b"]
