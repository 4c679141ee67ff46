"""Every notifier of ours passes the checks that a plugin author runs."""

import io
import json
from collections.abc import Callable, Iterator

import pytest

from flyball.core.errors import InvalidInputError, UnknownNameError
from flyball.domain.monitoring.notifiers import Notifier, open_notifiers
from flyball.notifiers.console import ConsoleNotifier
from flyball.notifiers.webhook import WebhookNotifier
from flyball.testing.notifiers import NOTIFIER_CHECKS, Rig
from tests.notifiers.receiver import Receiver, receiving


class ConsoleRig:
    def __init__(self) -> None:
        self._stream = io.StringIO()

    def open(self) -> Notifier:
        return ConsoleNotifier(stream=self._stream)

    def open_broken(self) -> Notifier:
        closed = io.StringIO()
        closed.close()
        return ConsoleNotifier(stream=closed)

    def arrived(self) -> list[str]:
        return self._stream.getvalue().splitlines()


class WebhookRig:
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def open(self) -> Notifier:
        return WebhookNotifier(self._receiver.url)

    def open_broken(self) -> Notifier:
        self._receiver.answers = [500]
        return self.open()

    def arrived(self) -> list[str]:
        return [json.dumps(body, ensure_ascii=False) for body in self._receiver.bodies]


@pytest.fixture(params=["console", "webhook"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    if request.param == "console":
        yield ConsoleRig()
    else:
        with receiving() as receiver:
            yield WebhookRig(receiver)


@pytest.mark.parametrize("check", NOTIFIER_CHECKS, ids=lambda check: check.__name__)
def test_notifier(check: Callable[[Rig], None], rig: Rig) -> None:
    check(rig)


def test_notifiers_are_found_by_their_entry_points() -> None:
    found = open_notifiers(["console", "webhook:http://127.0.0.1:9/alerts"])
    assert isinstance(found["console"], ConsoleNotifier)
    assert isinstance(found["webhook:http://127.0.0.1:9/alerts"], WebhookNotifier)


def test_an_unknown_notifier_is_refused_with_the_close_name() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'webhook'"):
        open_notifiers(["webhok:http://127.0.0.1"])


def test_an_address_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="takes no address"):
        open_notifiers(["console:stdout"])
    with pytest.raises(InvalidInputError, match="not an address"):
        open_notifiers(["webhook:ftp://example.org"])
