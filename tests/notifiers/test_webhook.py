"""The webhook against a real server: what it sends, and what it makes of each way to fail."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from flyball.core.errors import BackendError, BackendUnavailableError
from flyball.domain.monitoring.notifiers import Notification
from flyball.notifiers.webhook import WebhookNotifier
from tests.notifiers.receiver import Receiver, receiving

ALERT = Notification(
    id=7,
    what="raised",
    endpoint="credit",
    monitor="drift",
    family="drift",
    at=datetime(2026, 3, 1, 14, 5, tzinfo=UTC),
    message="income drifted",
    details={"value": 0.31},
)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def test_the_body_is_the_notification_as_json(receiver: Receiver) -> None:
    WebhookNotifier(receiver.url).send(ALERT)
    assert receiver.bodies == [
        {
            "id": 7,
            "what": "raised",
            "endpoint": "credit",
            "monitor": "drift",
            "family": "drift",
            "at": "2026-03-01T14:05:00Z",
            "message": "income drifted",
            "details": {"value": 0.31},
        }
    ]
    assert receiver.headers[0]["Content-Type"] == "application/json"
    assert receiver.headers[0]["Idempotency-Key"] == "7"


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_server_in_trouble_is_worth_another_try(receiver: Receiver, status: int) -> None:
    receiver.answers = [status]
    with pytest.raises(BackendUnavailableError, match=f"127.0.0.1 answered {status}"):
        WebhookNotifier(receiver.url).send(ALERT)


@pytest.mark.parametrize("status", [400, 401, 404, 302])
def test_a_refusal_is_final(receiver: Receiver, status: int) -> None:
    receiver.answers = [status]
    with pytest.raises(BackendError, match=f"answered {status}") as raised:
        WebhookNotifier(receiver.url).send(ALERT)
    assert not isinstance(raised.value, BackendUnavailableError)
    assert receiver.bodies == []


def test_a_slow_server_is_not_waited_for(receiver: Receiver) -> None:
    receiver.delay.clear()
    with pytest.raises(BackendUnavailableError, match="timed out"):
        WebhookNotifier(receiver.url, timeout_s=0.1).send(ALERT)


def test_nobody_listening_is_worth_another_try() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(BackendUnavailableError, match="cannot be reached"):
        WebhookNotifier(f"http://127.0.0.1:{port}/").send(ALERT)


def test_errors_do_not_tell_the_secret_in_the_address(receiver: Receiver) -> None:
    receiver.answers = [500]
    with pytest.raises(BackendError) as raised:
        WebhookNotifier(receiver.url).send(ALERT)
    assert "secret" not in raised.value.message
