"""Webhooks of the registry: set up, listed, changed, tried, removed."""

import asyncio
from typing import Any

import msgspec

from flyball.core.errors import BackendError
from flyball.domain.monitoring.webhooks import (
    MAX_TEXT_LENGTH,
    Webhook,
    WebhookEvent,
    check_events,
    check_name,
    check_url,
    read_event,
)
from flyball.domain.tracking.client_runs import ItemInvalidError, check_value
from flyball.server.mlflow.experiments import read_limit
from flyball.server.mlflow.requests import Int64, Request
from flyball.server.mlflow.routing import MAX_BODY_BYTES, Route, Work, read, stream, write
from flyball.workspace.home import Home

MAX_PAGE = 1_000
_A = "/api/2.0/mlflow/webhooks"
_STATUSES: dict[str | int, bool] = {"ACTIVE": True, 1: True, "DISABLED": False, 2: False}


class EventFields(msgspec.Struct):
    """What happened, in the clients' words."""

    entity: str | int
    action: str | int


class Creation(msgspec.Struct):
    """A webhook to be set up."""

    name: str
    url: str
    events: list[EventFields]
    description: str | None = None
    secret: str | None = None
    status: str | int | None = None


class Update(msgspec.Struct):
    """What changes of a webhook."""

    name: str | None = None
    url: str | None = None
    events: list[EventFields] | None = None
    description: str | None = None
    secret: str | None = None
    status: str | int | None = None


class Listing(msgspec.Struct):
    """A page of webhooks."""

    max_results: Int64 | None = None
    page_token: str | None = None


class Trial(msgspec.Struct):
    """What a webhook is told to try it."""

    event: EventFields | None = None


async def create(home: Home, request: Request) -> Any:
    """Set a webhook up."""
    await request.read_body(MAX_BODY_BYTES)
    fields = request.decode(Creation)
    changes = _read_changes(fields)
    await asyncio.to_thread(home.webhooks.check, changes["url"])
    made = await request.commit(
        lambda tx: home.webhooks.create(
            tx,
            changes["name"],
            changes["url"],
            changes["events"],
            description=changes.get("description", ""),
            secret=changes.get("secret", ""),
            is_active=changes.get("is_active", True),
        )
    )
    return {"webhook": _write(made)}


def get(home: Home, request: Request) -> Any:
    """Return a webhook."""
    return {"webhook": _write(home.webhooks.get(request.values["webhook_id"]))}


def list_page(home: Home, request: Request) -> Any:
    """Return a page of webhooks."""
    fields = request.decode(Listing)
    found, token = home.webhooks.list_page(read_limit(fields.max_results, 100, MAX_PAGE), fields.page_token or "")
    return {"webhooks": [_write(webhook) for webhook in found]} | ({"next_page_token": token} if token else {})


async def update(home: Home, request: Request) -> Any:
    """Change a webhook."""
    await request.read_body(MAX_BODY_BYTES)
    webhook_id, changes = request.values["webhook_id"], _read_changes(request.decode(Update))
    if "url" in changes:
        await asyncio.to_thread(home.webhooks.check, changes["url"])
    return {"webhook": _write(await request.commit(lambda tx: home.webhooks.update(tx, webhook_id, changes)))}


def delete(home: Home, request: Request) -> Work:
    """Remove a webhook."""
    webhook_id = request.values["webhook_id"]
    return lambda tx: home.webhooks.delete(tx, webhook_id)


def test(home: Home, request: Request) -> Any:
    """Tell a webhook of an example, and return what it answers."""
    fields = request.decode(Trial)
    event = read_event(fields.event.entity, fields.event.action) if fields.event else None
    try:
        answer = home.webhooks.test(request.values["webhook_id"], event)
    except BackendError as error:
        return {"result": {"success": False, "error_message": error.message}}
    result = {"success": answer.status < 400, "response_status": answer.status, "response_body": answer.body}
    return {"result": result}


def _read_changes(fields: Creation | Update) -> dict[str, Any]:
    """Return the fields of a webhook that a request names, checked."""
    changes: dict[str, Any] = {}
    if fields.name is not None:
        changes["name"] = check_name(fields.name)
    if fields.url is not None:
        changes["url"] = check_url(fields.url)
    if fields.events is not None:
        changes["events"] = check_events([read_event(event.entity, event.action) for event in fields.events])
    for name in ("description", "secret"):
        text = getattr(fields, name)
        if text is not None:
            check_value(text, MAX_TEXT_LENGTH, name)
            changes[name] = text
    if fields.status is not None:
        if fields.status not in _STATUSES:
            raise ItemInvalidError("status", str(fields.status), "There are ACTIVE and DISABLED")
        changes["is_active"] = _STATUSES[fields.status]
    return changes


def _write(webhook: Webhook) -> dict[str, Any]:
    """Return a webhook as clients read it; its secret is never told."""
    return {
        "webhook_id": webhook.id,
        "name": webhook.name,
        "description": webhook.description,
        "url": webhook.url,
        "events": [_write_event(event) for event in webhook.events],
        "status": "ACTIVE" if webhook.is_active else "DISABLED",
        "creation_timestamp": webhook.created_at_us // 1000,
        "last_updated_timestamp": webhook.updated_at_us // 1000,
    }


def _write_event(event: WebhookEvent) -> dict[str, str]:
    return {"entity": event.entity.upper(), "action": event.action.upper()}


ROUTES: tuple[Route, ...] = (
    stream("POST", _A, create),
    read("GET", _A, list_page),
    read("GET", _A + "/{webhook_id}", get),
    stream("PATCH", _A + "/{webhook_id}", update),
    write("DELETE", _A + "/{webhook_id}", delete),
    read("POST", _A + "/{webhook_id}/test", test),
)
