"""The one way to ask who somebody is and what they may do."""

from collections.abc import Mapping, Sequence

from flyball.domain.access.users import RoleMissingError, UnknownUserError, User


class AccessService:
    """Knows the users of the settings.

    Args:
        users: User names with their roles, as in ``[users]`` of ``flyball.toml``: ``ana = ["risk-officer"]``.
    """

    def __init__(self, users: Mapping[str, Sequence[str]]) -> None:
        self._users = {name: User(name=name, roles=tuple(roles)) for name, roles in users.items()}

    def get_user(self, name: str) -> User:
        """Return a user.

        Raises:
            UnknownUserError: The settings name no such user.
        """
        user = self._users.get(name)
        if user is None:
            raise UnknownUserError(name, sorted(self._users))
        return user

    def list_holders(self, role: str) -> list[str]:
        """Return the names of those who have a role, sorted."""
        return sorted(user.name for user in self._users.values() if role in user.roles)

    def require_role(self, user: str, role: str) -> User:
        """Return the user if they have the role.

        Raises:
            UnknownUserError: The settings name no such user.
            RoleMissingError: The user has not the role; the message says who has.
        """
        found = self.get_user(user)
        if role not in found.roles:
            raise RoleMissingError(found, role, self.list_holders(role))
        return found
