"""Webhooks of the registry: what may be set up, and what receivers are told."""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flyball.core.clock import SimulatedClock
from flyball.core.errors import BackendError
from flyball.core.settings import Settings
from flyball.domain.monitoring.courier import Courier
from flyball.domain.monitoring.deliveries import Patience
from flyball.domain.monitoring.webhooks import Message
from flyball.notifiers.signed_webhook import SignedPoster, is_public
from flyball.server.mlflow.app import MlflowApp
from flyball.workspace.home import Home
from tests.notifiers.receiver import Receiver, receiving
from tests.server.mlflow.calls import A, Calls

MISSING = (404, "RESOURCE_DOES_NOT_EXIST")
INVALID = (400, "INVALID_PARAMETER_VALUE")
EVERYTHING = [
    ("REGISTERED_MODEL", "CREATED"),
    ("MODEL_VERSION", "CREATED"),
    ("MODEL_VERSION_TAG", "SET"),
    ("MODEL_VERSION_TAG", "DELETED"),
    ("MODEL_VERSION_ALIAS", "CREATED"),
    ("MODEL_VERSION_ALIAS", "DELETED"),
    ("PROMPT", "CREATED"),
    ("PROMPT_VERSION", "CREATED"),
    ("PROMPT_TAG", "SET"),
    ("PROMPT_ALIAS", "CREATED"),
]
HASTY = Patience(tries=1, first_wait_s=0.0, first_pause=timedelta(seconds=30), rounds=2)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    settings = Settings(webhooks_to_private_addresses=True)
    clock = SimulatedClock(datetime(2026, 3, 1, tzinfo=UTC))
    home = Home(tmp_path, tmp_path / "home", settings=settings, is_durable=False, clock=clock)
    yield home
    home.db.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def create(calls: Calls, url: str, events: list[tuple[str, str]] | None = None, **fields: Any) -> dict[str, Any]:
    chosen = [{"entity": entity, "action": action} for entity, action in events or EVERYTHING]
    found: dict[str, Any] = calls.post("webhooks", **{"name": "hook", "url": url, "events": chosen} | fields)["webhook"]
    return found


def deliver(home: Home) -> int:
    return Courier(home.db, home.journal, home.clock, {}, HASTY, find_receivers=home.webhooks.receivers).deliver()


def told(receiver: Receiver) -> list[tuple[str, dict[str, Any]]]:
    return [(f"{body['entity']}.{body['action']}", body["data"]) for body in receiver.bodies]


def test_a_webhook_is_set_up_listed_changed_and_removed(calls: Calls, home: Home, receiver: Receiver) -> None:
    made = create(calls, receiver.url, [("MODEL_VERSION", "CREATED")], secret="s", description="d")
    assert "secret" not in made
    assert (made["status"], made["events"]) == ("ACTIVE", [{"entity": "MODEL_VERSION", "action": "CREATED"}])
    path = f"{A}webhooks/{made['webhook_id']}"
    assert calls.send("GET", path).json() == {"webhook": made}
    changed = calls.send("PATCH", path, b'{"status": "DISABLED", "name": "other"}').json()["webhook"]
    assert (changed["name"], changed["status"], changed["url"]) == ("other", "DISABLED", made["url"])
    for number in range(3):
        create(calls, receiver.url, name=f"n{number}")
    page = calls.get("webhooks", max_results=3)
    rest = calls.get("webhooks", max_results=3, page_token=page["next_page_token"])
    assert sorted(hook["name"] for hook in page["webhooks"] + rest["webhooks"]) == ["n0", "n1", "n2", "other"]
    assert calls.send("DELETE", path).status == 200
    for method, body in (("GET", b""), ("PATCH", b"{}"), ("DELETE", b"{}")):
        assert calls.send(method, path, body).error == MISSING
    assert calls.send("POST", f"{path}/test", b"{}").error == MISSING


def test_what_happens_in_the_registry_is_told_once_and_in_order(calls: Calls, home: Home, receiver: Receiver) -> None:
    calls.post("registered-models/create", name="before")
    create(calls, receiver.url)
    calls.post("registered-models/create", name="m", description="d", tags=[{"key": "a", "value": "b"}])
    calls.post("model-versions/create", name="m", source="s3://x/y", tags=[{"key": "c", "value": "d"}])
    calls.post("model-versions/set-tag", name="m", version="1", key="k", value="v")
    calls.send("DELETE", A + "model-versions/delete-tag", b'{"name": "m", "version": "1", "key": "k"}')
    calls.post("registered-models/alias", name="m", alias="champion", version="1")
    calls.send("DELETE", A + "registered-models/alias", b'{"name": "m", "alias": "champion"}')
    prompt = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
    calls.post("registered-models/create", name="p", tags=prompt)
    text = [*prompt, {"key": "mlflow.prompt.text", "value": "Hello"}]
    calls.post("model-versions/create", name="p", source="dummy-source", tags=text)
    deliver(home)
    calls.post("registered-models/set-tag", name="m", key="no", value="event")
    calls.post("registered-models/set-tag", name="p", key="k", value="v")
    deliver(home)
    assert deliver(home) == 0
    version = {"name": "m", "version": "1"}
    assert told(receiver) == [
        ("registered_model.created", {"name": "m", "tags": {"a": "b"}, "description": "d"}),
        (
            "model_version.created",
            {**version, "source": "s3://x/y", "run_id": None, "tags": {"c": "d"}, "description": None},
        ),
        ("model_version_tag.set", {**version, "key": "k", "value": "v"}),
        ("model_version_tag.deleted", {**version, "key": "k"}),
        ("model_version_alias.created", {**version, "alias": "champion"}),
        ("model_version_alias.deleted", {"name": "m", "alias": "champion"}),
        ("prompt.created", {"name": "p", "tags": prompt_tags(), "description": None}),
        (
            "prompt_version.created",
            {"name": "p", "version": "1", "template": "Hello", "tags": prompt_tags(), "description": None},
        ),
        ("prompt_tag.set", {"name": "p", "key": "k", "value": "v"}),
    ]


def prompt_tags() -> dict[str, str]:
    return {"mlflow.prompt.is_prompt": "true"}


def test_only_what_was_asked_for_is_told_and_only_while_it_is_active(
    calls: Calls, home: Home, receiver: Receiver
) -> None:
    made = create(calls, receiver.url, [("REGISTERED_MODEL", "CREATED")])
    path = f"{A}webhooks/{made['webhook_id']}"
    calls.post("registered-models/create", name="a")
    calls.post("model-versions/create", name="a", source="s3://x/y")
    deliver(home)
    calls.send("PATCH", path, b'{"status": "DISABLED"}')
    calls.post("registered-models/create", name="b")
    deliver(home)
    calls.send("PATCH", path, b'{"status": "ACTIVE"}')
    calls.post("registered-models/create", name="c")
    deliver(home)
    assert [data["name"] for _, data in told(receiver)] == ["a", "c"]


def test_what_is_told_is_signed(calls: Calls, home: Home, receiver: Receiver) -> None:
    create(calls, receiver.url, secret="hush")
    calls.post("registered-models/create", name="m")
    deliver(home)
    headers = {key.lower(): value for key, value in receiver.headers[0].items()}
    body = msgspec.json.encode(receiver.bodies[0])
    signed = f"{headers['x-mlflow-delivery-id']}.{headers['x-mlflow-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(b"hush", signed, hashlib.sha256).digest()).decode()
    assert headers["x-mlflow-signature"] == f"v1,{expected}"


def test_a_receiver_that_is_down_is_told_later_under_the_same_id(calls: Calls, home: Home, receiver: Receiver) -> None:
    create(calls, receiver.url)
    calls.post("registered-models/create", name="m")
    receiver.answers = [503]
    assert deliver(home) == 0
    assert isinstance(home.clock, SimulatedClock)
    home.clock.advance(timedelta(minutes=1))
    assert deliver(home) == 1
    assert [name for name, _ in told(receiver)] == ["registered_model.created"]


def test_a_receiver_that_stays_down_is_given_up_and_the_journal_tells(
    calls: Calls, home: Home, receiver: Receiver
) -> None:
    create(calls, receiver.url)
    calls.post("registered-models/create", name="m")
    receiver.answers = [503, 503]
    assert isinstance(home.clock, SimulatedClock)
    for _ in range(2):
        deliver(home)
        home.clock.advance(timedelta(minutes=1))
    (failed,) = home.journal.list_events(kinds=["monitoring.notification.failed"])
    assert failed.data["notifier"] == "mlflow-webhook"
    calls.post("registered-models/create", name="n")
    deliver(home)
    assert [data["name"] for _, data in told(receiver)] == ["n"]


def test_a_webhook_is_tried(calls: Calls, home: Home, receiver: Receiver) -> None:
    made = create(calls, receiver.url)
    path = f"{A}webhooks/{made['webhook_id']}/test"
    assert calls.send("POST", path, b"{}").json()["result"]["success"]
    alias = b'{"event": {"entity": "MODEL_VERSION_ALIAS", "action": "CREATED"}}'
    assert calls.send("POST", path, alias).json()["result"]["response_status"] == 200
    assert [name for name, _ in told(receiver)] == ["registered_model.created", "model_version_alias.created"]
    receiver.answers = [503, 404, 302]
    results = [calls.send("POST", path, b"{}").json()["result"] for _ in range(3)]
    assert (results[0]["success"], "503" in results[0]["error_message"]) == (False, True)
    assert (results[1]["success"], results[1]["response_status"]) == (False, 404)
    assert results[2]["response_status"] == 302  # redirects are not followed
    assert calls.send("POST", path, b'{"event": {"entity": "MODEL", "action": "SET"}}').error == INVALID


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "x" * 64},
        {"name": "-a"},
        {"events": []},
        {"events": [{"entity": "MODEL", "action": "CREATED"}]},
        {"events": [{"entity": "MODEL_VERSION", "action": "SET"}]},
        {"events": [{"entity": 99, "action": 1}]},
        {"events": "MODEL_VERSION"},
        {"url": ""},
        {"url": "ftp://example.org"},
        {"url": "http://"},
        {"url": "http://user:secret@127.0.0.1/"},
        {"url": "http://127.0.0.1:99999/"},
        {"url": "http://127.0.0.1/a b"},
        {"url": "http://127.0.0.1/\r\nHost: x"},
        {"url": "http://no-such-host.invalid/"},
        {"url": "http://127.0.0.1/" + "x" * 2_100},
        {"status": "PAUSED"},
        {"secret": "x" * 1_001},
    ],
)
def test_webhooks_that_cannot_be_set_up(calls: Calls, fields: dict[str, Any]) -> None:
    chosen = [{"entity": "MODEL_VERSION", "action": "CREATED"}]
    sound = {"name": "hook", "url": "http://127.0.0.1:9/", "events": chosen}
    assert calls.refused("webhooks", **sound | fields).error == INVALID
    assert calls.get("webhooks")["webhooks"] == []


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "10.0.0.1", "192.168.1.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]"),
        *("0.0.0.0", "127.1", "0177.0.0.1", "2130706433", "[fe80::1]", "[64:ff9b::a00:1]", "100.64.0.1"),
    ],
)
def test_private_addresses_are_refused_unless_they_are_allowed(tmp_path: Path, host: str) -> None:
    home = Home(tmp_path, tmp_path / "private", is_durable=False)
    app = MlflowApp(home)
    chosen = [{"entity": "MODEL_VERSION", "action": "CREATED"}]
    reply = Calls(app).refused("webhooks", name="hook", url=f"http://{host}:8080/x?token=secret", events=chosen)
    assert reply.error == INVALID
    assert "secret" not in json.dumps(reply.json())
    app.close()
    home.db.close()


def test_a_name_that_comes_to_mean_a_private_address_is_not_posted_to(
    calls: Calls, home: Home, receiver: Receiver
) -> None:
    """The setting may change, and names may: what counts is the address when it is connected to."""
    made = create(calls, receiver.url)
    poster = SignedPoster(home.clock)
    with pytest.raises(BackendError, match="not public"):
        poster.post(home.webhooks.get(made["webhook_id"]), Message("1", b"{}"))
    assert receiver.bodies == []


@pytest.mark.parametrize(("address", "expected"), [("8.8.8.8", True), ("2606:4700::1", True), ("224.0.0.1", False)])
def test_which_addresses_are_public(address: str, expected: bool) -> None:
    assert is_public(address) is expected
