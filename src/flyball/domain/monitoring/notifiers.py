"""How alerts reach people: the port that notifiers implement."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec

from flyball.core.durations import format_instant
from flyball.core.plugins import Plugins

GROUP = "flyball.notifiers"
"""The entry points' group: name → class, called with the address in the settings (empty where none is given)."""


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to tell.

    Attributes:
        id: The number of the journal's event; the same one may be told twice, so receivers can drop the second.
        what: ``raised`` or ``resolved``.
        endpoint: Where.
        monitor: The monitor's name.
        family: ``drift``, ``performance``, ``quality`` or ``service``.
        at: When it happened.
        message: What happened, in words.
        details: The event's data: value, limit, window, worst column, version.
    """

    id: int
    what: Literal["raised", "resolved"]
    endpoint: str
    monitor: str
    family: str
    at: datetime
    message: str
    details: dict[str, Any] = {}

    @property
    def headline(self) -> str:
        """One line for people."""
        sign = "ALERT" if self.what == "raised" else "resolved"
        return f"{format_instant(self.at)} {sign} {self.endpoint} {self.monitor}: {self.message}"


class Notifier(Protocol):
    """Tells people. Each must pass ``flyball.testing.notifiers.NOTIFIER_CHECKS``."""

    def send(self, notification: Notification) -> None:
        """Tell one thing, or raise; it may be called again with the same one.

        Raises:
            BackendUnavailableError: It could not be told now; trying again may help.
            BackendError: It was refused; trying again as it is will not help.
        """
        ...


class NotifierFactory(Protocol):
    """What an entry point of the group names."""

    def __call__(self, address: str) -> Notifier:
        """Make a notifier for an address.

        Raises:
            InvalidInputError: The address cannot be used.
        """
        ...


def open_notifiers(specs: Sequence[str], plugins: Plugins[NotifierFactory] | None = None) -> dict[str, Notifier]:
    """Return the notifiers of the settings, by what the settings call them.

    Args:
        specs: ``name`` or ``name:address``, such as ``console`` or ``webhook:https://example.org/alerts``.
        plugins: Where names are looked up; the installed ones by default.

    Raises:
        UnknownNameError: No installed package brings a notifier of that name.
        InvalidInputError: The address cannot be used.
    """
    plugins = plugins or Plugins(GROUP, "notifier")
    notifiers: dict[str, Notifier] = {}
    for spec in specs:
        name, _, address = spec.partition(":")
        notifiers[spec] = plugins.get(name)(address)
    return notifiers
