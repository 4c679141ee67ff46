"""The one way into webhooks, and what the registry's events tell them."""

import uuid
from collections.abc import Mapping
from typing import Any

from flyball.core.clock import Clock
from flyball.core.durations import format_instant, to_us
from flyball.core.encoding import to_json
from flyball.domain.journal.events import Event
from flyball.domain.journal.service import Journal
from flyball.domain.monitoring import delivery_store
from flyball.domain.monitoring import webhook_store as store
from flyball.domain.monitoring.deliveries import Receiver, cursor_of
from flyball.domain.monitoring.webhooks import (
    Answer,
    Message,
    Poster,
    Webhook,
    WebhookEvent,
    WebhookNotFoundError,
    example_of,
)
from flyball.domain.registry import client_store
from flyball.domain.registry.models import PROMPT_TAG, ClientVersion, RegisteredModel
from flyball.domain.registry.versions import parse_ref
from flyball.domain.tracking.pages import read_token, write_token
from flyball.storage.db import Database, Transaction

_PROMPT_TEXT = "mlflow.prompt.text"
_KINDS = (
    "registry.model.created",
    "registry.model.tagged",
    "registry.model.untagged",
    "registry.version.created",
    "registry.version.tagged",
    "registry.version.untagged",
    "registry.alias.moved",
)


class WebhookService:
    """Keeps webhooks, and turns events into what they are told.

    Args:
        db: Where they are kept.
        journal: Where events are read, and where webhooks' own changes go.
        clock: Tells when.
        poster: Posts.
    """

    def __init__(self, db: Database, journal: Journal, clock: Clock, poster: Poster) -> None:
        self._db = db
        self._journal = journal
        self._clock = clock
        self._poster = poster

    def check(self, url: str) -> None:
        """Check that an address may be posted to; looks its host up. See `Poster.check`."""
        self._poster.check(url)

    def create(
        self,
        tx: Transaction,
        name: str,
        url: str,
        events: tuple[WebhookEvent, ...],
        *,
        description: str = "",
        secret: str = "",
        is_active: bool = True,
    ) -> Webhook:
        """Add a webhook; it is told what happens from now on."""
        now_us = to_us(self._clock.now())
        webhook = Webhook(
            id=str(uuid.uuid4()),
            name=name,
            description=description,
            url=url,
            events=events,
            secret=secret,
            is_active=is_active,
            created_at_us=now_us,
            updated_at_us=now_us,
        )
        store.put_webhook(tx, webhook)
        delivery_store.insert_notifier(tx, receiver_name(webhook.id), self._clock.now())
        self._begin_here(tx, self._tell(tx, "created", webhook), webhook)
        return webhook

    def get(self, webhook_id: str) -> Webhook:
        """Return a webhook.

        Raises:
            WebhookNotFoundError: There is none.
        """
        with self._db.read() as tx:
            return _require(tx, webhook_id)

    def list_page(self, limit: int, token: str) -> tuple[list[Webhook], str]:
        """Return a page of webhooks from the oldest on, and the token of the next one.

        Raises:
            PageTokenError: The token is of another listing.
        """
        after = read_token(["webhooks"], token, [int, str]) if token else None
        with self._db.read() as tx:
            found = store.list_webhooks(tx, after, limit + 1)
        shown = found[:limit]
        if len(found) <= limit:
            return shown, ""
        return shown, write_token(["webhooks"], [shown[-1].created_at_us, shown[-1].id])

    def update(self, tx: Transaction, webhook_id: str, changes: Mapping[str, Any]) -> Webhook:
        """Change a webhook's fields; one that becomes active again is told what happens from then on.

        Raises:
            WebhookNotFoundError: There is none.
        """
        before = _require(tx, webhook_id)
        fields = {name: getattr(before, name) for name in Webhook.__struct_fields__}
        webhook = Webhook(**fields | dict(changes) | {"updated_at_us": to_us(self._clock.now())})
        store.put_webhook(tx, webhook)
        number = self._tell(tx, "changed", webhook)
        if webhook.is_active and not before.is_active:
            self._begin_here(tx, number, webhook)
        return webhook

    def delete(self, tx: Transaction, webhook_id: str) -> None:
        """Remove a webhook.

        Raises:
            WebhookNotFoundError: There is none.
        """
        webhook = _require(tx, webhook_id)
        store.delete_webhook(tx, webhook_id)
        self._tell(tx, "deleted", webhook)

    def test(self, webhook_id: str, event: WebhookEvent | None) -> Answer:
        """Tell a webhook of an example, of its first event by default, and return what it answers.

        Raises:
            WebhookNotFoundError: There is none.
            BackendError: It cannot be told.
        """
        webhook = self.get(webhook_id)
        event = event or webhook.events[0]
        at = format_instant(self._clock.now())
        return self._poster.post(webhook, Message(str(uuid.uuid4()), _write(event, at, example_of(event))))

    def receivers(self) -> dict[str, Receiver]:
        """Return those that are told at present, by the names under which the courier knows them."""
        with self._db.read() as tx:
            return {receiver_name(webhook.id): _WebhookReceiver(self, webhook) for webhook in store.list_active(tx)}

    def tell(self, webhook: Webhook, event: Event) -> None:
        """Tell a webhook of an event of the journal, if that is one that it wants.

        Raises:
            BackendError: It cannot be told.
        """
        with self._db.read() as tx:
            found = _translate(tx, event)
        if found is not None and found[0] in webhook.events:
            # The same event has the same id whenever it is told.
            message_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{webhook.id}/{event.seq}"))
            body = _write(found[0], format_instant(event.recorded_at), found[1])
            self._poster.post(webhook, Message(message_id, body))

    def _begin_here(self, tx: Transaction, number: int, webhook: Webhook) -> None:
        self._journal.move_cursor(tx, cursor_of(receiver_name(webhook.id)), number)

    def _tell(self, tx: Transaction, what: str, webhook: Webhook) -> int:
        data = {"name": webhook.name, "events": [f"{event.entity}.{event.action}" for event in webhook.events]}
        return self._journal.append(tx, f"monitoring.webhook.{what}", f"webhook/{webhook.id}", data, actor="mlflow").seq


class _WebhookReceiver:
    """Implements `Receiver` for one webhook."""

    kinds = _KINDS

    def __init__(self, service: WebhookService, webhook: Webhook) -> None:
        self._service = service
        self._webhook = webhook

    def send(self, event: Event) -> None:
        """See `Receiver.send`."""
        self._service.tell(self._webhook, event)


def receiver_name(webhook_id: str) -> str:
    """Return the name under which the courier knows a webhook."""
    return f"mlflow-webhook:{webhook_id}"


def _require(tx: Transaction, webhook_id: str) -> Webhook:
    found = store.find_webhook(tx, webhook_id)
    if found is None:
        raise WebhookNotFoundError(webhook_id)
    return found


def _write(event: WebhookEvent, at: str, data: Mapping[str, Any]) -> bytes:
    return to_json({"entity": event.entity, "action": event.action, "timestamp": at, "data": data})


def _translate(tx: Transaction, event: Event) -> tuple[WebhookEvent, dict[str, Any]] | None:
    """Return an event in clients' words; None for what they have no word for."""
    name: str = event.data["model"]
    model = client_store.find_model(tx, name)
    is_prompt = bool(event.data.get("is_prompt")) if model is None else PROMPT_TAG in model.tags
    thing = "prompt" if is_prompt else "model"
    match event.kind.split(".")[1:]:
        case ["model", "created"]:
            kind = "prompt" if is_prompt else "registered_model"
            return WebhookEvent(kind, "created"), _describe_model(name, model)
        case ["model", ("tagged" | "untagged") as what]:
            return (WebhookEvent("prompt_tag", _TAG[what]), {"name": name, **_tag(event, what)}) if is_prompt else None
        case ["version", "created"]:
            number = parse_ref(event.data["version"])[1]
            version = client_store.find_version(tx, name, number)
            return WebhookEvent(f"{thing}_version", "created"), _describe_version(event, number, version, is_prompt)
        case ["version", ("tagged" | "untagged") as what]:
            number = parse_ref(event.data["version"])[1]
            data = {"name": name, "version": str(number), **_tag(event, what)}
            return WebhookEvent(f"{thing}_version_tag", _TAG[what]), data
        case ["alias", "moved"]:
            kind = "prompt_alias" if is_prompt else "model_version_alias"
            data = {"name": name, "alias": event.data["alias"]}
            if event.data["to"] is None:
                return WebhookEvent(kind, "deleted"), data
            return WebhookEvent(kind, "created"), data | {"version": str(parse_ref(event.data["to"])[1])}
    return None


_TAG = {"tagged": "set", "untagged": "deleted"}


def _tag(event: Event, what: str) -> dict[str, Any]:
    data = event.data
    return {"key": data["key"]} | ({"value": data["value"]} if what == "tagged" else {})


def _describe_model(name: str, model: RegisteredModel | None) -> dict[str, Any]:
    tags: Mapping[str, str] = model.tags if model is not None else {}
    return {"name": name, "tags": dict(tags), "description": (model.description or None) if model is not None else None}


def _describe_version(event: Event, number: int, found: ClientVersion | None, is_prompt: bool) -> dict[str, Any]:
    tags = dict(found.tags) if found is not None else {}
    data: dict[str, Any] = {"name": event.data["model"], "version": str(number)}
    if is_prompt:
        data["template"] = tags.pop(_PROMPT_TEXT, "")
    else:
        data |= {"source": event.data.get("source", ""), "run_id": event.data.get("run") or None}
    return data | {"tags": tags, "description": (found.version.description or None) if found is not None else None}
