"""Every field of every address takes whatever is sent: a refusal says why and changes nothing; never a 500."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from flyball.core.settings import Settings
from flyball.server.mlflow.app import MlflowApp
from flyball.server.mlflow.routing import Kind, Route
from flyball.workspace.home import Home
from tests.server.mlflow.calls import Calls, Reply
from tests.server.mlflow.sweeping import (
    BAD_BODIES,
    BAD_SEGMENTS,
    BAD_VALUES,
    CODES,
    MORE_VALUES,
    Literal,
    World,
    named_routes,
    places_of,
    put,
    type_of,
)

_TAKING = ("delete", "complete", "abort", "restore")
ROUTES = dict(named_routes())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    settings = Settings(webhooks_to_private_addresses=True)
    home = Home(tmp_path, tmp_path / "home", settings=settings, is_durable=False)
    yield home
    home.db.close()


@pytest.fixture(params=ROUTES.values(), ids=ROUTES)
def route(request: pytest.FixtureRequest) -> Route:
    found: Route = request.param
    return found


class Sweep:
    """Sends one bad request after the other to an address, and looks at the store after each refusal."""

    def __init__(self, home: Home, calls: Calls, route: Route) -> None:
        self._home = home
        self._calls = calls
        self._route = route
        self.world = World(home, calls)
        self._mark, self._state = self.world.mark(), self.world.state()

    def send(self, fields: Any, what: object, **places: str) -> None:
        reply = self.world.send(self._route, fields, **places)
        told = (self._route.method, self._route.path, what, reply.status, reply.body[:300])
        if reply.status == 200:
            self._go_on()
            return
        assert is_refusal(reply), told
        if self._route.kind is not Kind.READ and (mark := self.world.mark()) != self._mark:
            assert self.world.state() == self._state, told
            self._mark = mark

    def _go_on(self) -> None:
        """Look at what was accepted, and replace what it took away."""
        if self._route.method == "DELETE" or any(word in self._route.path for word in _TAKING):
            self.world = World(self._home, self._calls)
        if self._route.kind is not Kind.READ:
            self._mark, self._state = self.world.mark(), self.world.state()


def prove_good(world: World, route: Route, type_: type[Any]) -> Any:
    """Return fields that an address takes, so that what is said of bad ones is of them."""
    good = world.good(route, type_)
    if route.path.endswith("restore"):
        world.send(ROUTES[f"POST {route.path.removesuffix('restore')}delete"], good)
    accepted = world.send(route, good)
    assert accepted.status == 200, (good, accepted.body)
    return good


def is_refusal(reply: Reply) -> bool:
    """Tell whether an answer is one that clients understand."""
    answer = reply.json() if reply.status in CODES else {}
    return bool(answer) and answer["error_code"] in CODES[reply.status] and len(answer["message"]) > 10


@pytest.mark.parametrize("values", [BAD_VALUES, pytest.param(MORE_VALUES, marks=pytest.mark.slow)], ids=["few", "more"])
def test_each_field_takes_whatever_comes(home: Home, calls: Calls, route: Route, values: Sequence[str]) -> None:
    type_ = type_of(home, route)
    if type_ is None:
        pytest.skip("it reads no fields")
    good = prove_good(World(home, calls), route, type_)
    sweep = Sweep(home, calls, route)
    for place in places_of(good):
        for value in values:
            sweep.send(put(sweep.world.good(route, type_), place, Literal(value)), (place, value[:80]))


def test_each_body_is_read_or_refused(home: Home, calls: Calls, route: Route) -> None:
    if route.method == "GET" or "/parts/" in route.path:
        pytest.skip("it has no body of fields")
    has_fields = type_of(home, route) is not None
    sweep = Sweep(home, calls, route)
    for body in BAD_BODIES:
        sweep.send(body, body[:80])
        if has_fields:
            reply = sweep.world.send(route, body)
            assert reply.error == (400, "INVALID_PARAMETER_VALUE"), (body[:80], reply.body)
            assert "JSON" in reply.json()["message"] or "nested" in reply.json()["message"]


def test_each_name_in_an_address_may_be_anything(home: Home, calls: Calls, route: Route) -> None:
    names = [name for name in ("trace_id", "assessment_id", "model_id", "webhook_id", "key", "upload_id", "number")
             if f"{{{name}}}" in route.path]  # fmt: skip
    if not names:
        pytest.skip("it has no names")
    type_ = type_of(home, route)
    sweep = Sweep(home, calls, route)
    for name in names:
        for segment in BAD_SEGMENTS:
            fields: Any = b"part" if "/parts/" in route.path else sweep.world.good(route, type_) if type_ else {}
            sweep.send(fields, segment[:80], **{name: segment})


@pytest.fixture
def calls(home: Home) -> Iterator[Calls]:
    app = MlflowApp(home)
    yield Calls(app)
    app.close()


@pytest.mark.parametrize("path", ["/api/2.0/mlflow/runs/fly", "/api/2.0/mlflow/gateway-proxy", "/api/9.9/x", "/api/"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def test_what_is_not_there_says_so(calls: Calls, method: str, path: str) -> None:
    reply = calls.send(method, path, json.dumps({"name": "x"}).encode())
    assert reply.error == (404, "ENDPOINT_NOT_FOUND")
    assert path in reply.json()["message"]
