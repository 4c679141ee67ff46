"""Webhooks that clients of the MLflow protocol set up: what they are told of the registry."""

import re
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from flyball.core.errors import InvalidInputError, NotFoundError
from flyball.domain.tracking.client_runs import ItemInvalidError, check_value

MAX_URL_LENGTH = 2_048
MAX_TEXT_LENGTH = 1_000
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_ACTIONS: dict[str, tuple[str, ...]] = {
    "registered_model": ("created",),
    "model_version": ("created",),
    "model_version_tag": ("set", "deleted"),
    "model_version_alias": ("created", "deleted"),
    "prompt": ("created",),
    "prompt_version": ("created",),
    "prompt_tag": ("set", "deleted"),
    "prompt_version_tag": ("set", "deleted"),
    "prompt_alias": ("created", "deleted"),
}
# Enumerations come by name or by number, as the JSON of Protocol Buffers allows.
_ENTITY_NUMBERS = dict(enumerate(_ACTIONS, start=1))
_ACTION_NUMBERS = {1: "created", 2: "updated", 3: "deleted", 4: "set"}


class WebhookEvent(msgspec.Struct, frozen=True):
    """What happened, in the clients' words: ``model_version`` and ``created``, for instance."""

    entity: str
    action: str


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """An address, and what it is told.

    Attributes:
        secret: Signs what is sent; empty for none. It is never told.
        is_active: Whether it is told anything at present.
    """

    id: str
    name: str
    description: str
    url: str
    events: tuple[WebhookEvent, ...]
    secret: str
    is_active: bool
    created_at_us: int
    updated_at_us: int


class Message(msgspec.Struct, frozen=True):
    """What a webhook is told once.

    Attributes:
        id: The same each time that the same thing is told.
    """

    id: str
    body: bytes


class Answer(msgspec.Struct, frozen=True):
    """What a receiver answered to a test."""

    status: int
    body: str


class Poster(Protocol):
    """Posts what webhooks are told."""

    def check(self, url: str) -> None:
        """Check that an address may be posted to.

        Raises:
            InvalidInputError: It cannot be found, or belongs to a network that is not public.
        """
        ...

    def post(self, webhook: Webhook, message: Message) -> Answer:
        """Post a message, signed, and return what came back.

        Raises:
            BackendUnavailableError: It could not be told now; trying again may help.
            BackendError: The address may not be posted to any more.
        """
        ...


class WebhookNotFoundError(NotFoundError):
    """There is no such webhook."""

    code = "monitoring/webhook-not-found"

    def __init__(self, webhook_id: str) -> None:
        super().__init__(f"Webhook with ID {webhook_id[:100]} not found")


class WebhookAddressError(InvalidInputError):
    """A webhook's address cannot be posted to."""

    code = "monitoring/webhook-address"

    def __init__(self, url: str, reason: str, *, hint: str = "") -> None:
        # A path or a query may hold a secret.
        parts = urlsplit(url)
        super().__init__(f"Invalid webhook URL with the host {(parts.hostname or '')[:200]!r}: {reason}", hint=hint)


def check_name(name: str) -> str:
    """Return a webhook's name if it is one.

    Raises:
        ItemInvalidError: It is none.
    """
    if not _NAME.fullmatch(name):
        raise ItemInvalidError(
            "name", name, "it must have 1 to 63 letters, digits, dots, underscores and hyphens, and begin and end with"
            " a letter or digit",
        )  # fmt: skip
    return name


def check_url(url: str) -> str:
    """Return a webhook's address if it is one.

    Raises:
        WebhookAddressError: It is none.
        ItemInvalidError: It is too long.
    """
    check_value(url, MAX_URL_LENGTH, "url")
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError as error:
        raise WebhookAddressError("", str(error)) from error
    if parts.scheme not in ("http", "https") or not parts.hostname or not has_port:
        raise WebhookAddressError(url, "it must begin with http:// or https:// and have a host")
    if parts.username or parts.password:
        raise WebhookAddressError(url, "it must not hold a user's name or password")
    if not url.isascii() or any(sign <= " " or sign == "\x7f" for sign in url):
        raise WebhookAddressError(url, "it must be percent-encoded")
    return url


def read_event(entity: str | int, action: str | int) -> WebhookEvent:
    """Return an event by the names, or numbers, that clients give it.

    Raises:
        ItemInvalidError: There is none of that name, or the entity has no such action.
    """
    named = _ENTITY_NUMBERS.get(entity, "") if isinstance(entity, int) else entity.lower()
    if named not in _ACTIONS:
        raise ItemInvalidError("events.entity", str(entity), f"There are {', '.join(_ACTIONS)}")
    done = _ACTION_NUMBERS.get(action, "") if isinstance(action, int) else action.lower()
    if done not in _ACTIONS[named]:
        raise ItemInvalidError("events.action", str(action), f"Of {named} there are {', '.join(_ACTIONS[named])}")
    return WebhookEvent(named, done)


def check_events(events: Sequence[WebhookEvent]) -> tuple[WebhookEvent, ...]:
    """Return events without those that come twice.

    Raises:
        InvalidInputError: There are none.
    """
    if not events:
        raise InvalidInputError(
            "Webhook events cannot be empty", hint="Say at least one, such as model_version.created."
        )
    return tuple(dict.fromkeys(events))


def example_of(event: WebhookEvent) -> dict[str, Any]:
    """Return what a test tells of an event."""
    data: dict[str, Any] = {"name": "example"}
    entity, action = event.entity, event.action
    if "version" in entity or entity == "prompt_alias":
        data["version"] = "1"
    if entity.endswith("_tag"):
        data |= {"key": "example_key"} | ({"value": "example_value"} if action == "set" else {})
    elif entity.endswith("_alias"):
        data["alias"] = "example_alias"
        if action == "deleted":
            del data["version"]
    else:
        data |= {"tags": {"example_key": "example_value"}, "description": "An example"}
        if entity == "model_version":
            data |= {"source": "models:/example/1", "run_id": None}
        if entity == "prompt_version":
            data["template"] = "Hello {{name}}!"
    return data
