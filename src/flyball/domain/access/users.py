"""Users and roles as values, and what is said when somebody lacks one."""

from collections.abc import Sequence
from difflib import get_close_matches

import msgspec

from flyball.core.errors import NotPermittedError


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person or a program that acts under a name.

    Attributes:
        name: As written in the settings, such as ``ana``.
        roles: What the user may do, in the words of the project, such as ``risk-officer``.
    """

    name: str
    roles: tuple[str, ...] = ()

    @property
    def actor(self) -> str:
        """How the journal names the user."""
        return f"user/{self.name}"


class UnknownUserError(NotPermittedError):
    """Nobody of that name is in the settings."""

    code = "access/unknown-user"

    def __init__(self, name: str, known: Sequence[str]) -> None:
        close = get_close_matches(name, known, n=1)
        if close:
            found = f"did you mean {close[0]!r}?"
        else:
            found = f"there is {', '.join(sorted(known))}" if known else "there is none"
        super().__init__(
            f"no user is named {name!r}; {found}",
            hint=f'Add the user to flyball.toml, under [users]: {name} = ["ROLE"]',
        )


class RoleMissingError(NotPermittedError):
    """The user does not have the role that this needs."""

    code = "access/role-missing"

    def __init__(self, user: User, role: str, holders: Sequence[str]) -> None:
        has = f"whose roles are {', '.join(user.roles)}" if user.roles else "who has no role"
        who = f"{', '.join(holders)} has it" if len(holders) == 1 else f"{', '.join(holders)} have it"
        hint = (
            f"Ask one of them, or give {user.name!r} the role in flyball.toml, under [users]."
            if holders
            else f'Give somebody the role in flyball.toml, under [users]: {user.name} = ["{role}"]'
        )
        super().__init__(
            f"{user.name!r}, {has}, may not do this: it needs the role {role!r}; {who if holders else 'nobody has it'}",
            hint=hint,
        )
