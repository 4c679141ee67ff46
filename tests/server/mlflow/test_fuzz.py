"""Every field of every address takes whatever is sent: a refusal says why and changes nothing; never a 500."""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyball.core.settings import Settings
from flyball.server.mlflow.app import MlflowApp
from flyball.server.mlflow.routing import Kind, Route
from flyball.storage.catalog import list_shapes
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
NAMES = ("trace_id", "assessment_id", "model_id", "webhook_id", "key", "upload_id", "number")
ROUTES = dict(named_routes())
TYPES = {name: type_ for name, route in ROUTES.items() if (type_ := type_of(route)) is not None}
WITH_BODIES = [name for name, route in ROUTES.items() if route.method != "GET" and "/parts/" not in name]
WITH_NAMES = [name for name in ROUTES if any(f"{{{part}}}" in name for part in NAMES)]


def by_area(names: Iterable[str]) -> Any:
    """Return names of addresses by what they are about: one store is enough for each."""
    areas: dict[str, list[str]] = {}
    for name in names:
        found = re.search(r"/mlflow(?:-artifacts)?/([a-z-]+)", name)
        areas.setdefault(found[1] if found else "others", []).append(name)
    return [pytest.param(found, id=area) for area, found in areas.items()]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    allowing = Settings(webhooks_to_private_addresses=True)
    home = Home(tmp_path, tmp_path / "home", settings=allowing, is_durable=False)
    yield home
    home.db.close()


class Sweep:
    """Sends one bad request after the other to an address, and looks at the store after each refusal."""

    def __init__(self, home: Home, calls: Calls, route: Route) -> None:
        self._home = home
        self._calls = calls
        self._route = route
        self.world = World(home, calls)
        self.look()

    def look(self) -> None:
        """Remember how things stand."""
        self._mark, self._state = self.world.mark(), self.world.state()

    def send(self, fields: Any, what: object, **places: str) -> Reply:
        reply = self.world.send(self._route, fields, **places)
        told = (self._route.method, self._route.path, what, reply.status, reply.body[:300])
        if reply.status == 200:
            self._go_on()
            return reply
        assert is_refusal(reply), told
        if self._route.kind is not Kind.READ and (mark := self.world.mark()) != self._mark:
            assert self.world.state() == self._state, told
            self._mark = mark
        return reply

    def _go_on(self) -> None:
        """Look at what was accepted, and replace what it took away."""
        if self._route.method == "DELETE" or any(word in self._route.path for word in _TAKING):
            self.world = World(self._home, self._calls)
        if self._route.kind is not Kind.READ:
            self.look()


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
@pytest.mark.parametrize("names", by_area(TYPES))
def test_each_field_takes_whatever_comes(home: Home, calls: Calls, names: Sequence[str], values: Sequence[str]) -> None:
    for name in names:
        route, type_ = ROUTES[name], TYPES[name]
        good = prove_good(World(home, calls), route, type_)
        sweep = Sweep(home, calls, route)
        for place in places_of(good):
            for value in values:
                sweep.send(put(sweep.world.good(route, type_), place, Literal(value)), (place, value[:80]))


@pytest.mark.parametrize("values", [BAD_VALUES, pytest.param(MORE_VALUES, marks=pytest.mark.slow)], ids=["few", "more"])
def test_each_field_of_a_span_takes_whatever_comes(home: Home, calls: Calls, values: Sequence[str]) -> None:
    route = ROUTES["POST /v1/traces"]
    sweep = Sweep(home, calls, route)
    good = sweep.world.spans()
    assert sweep.world.send(route, good).status == 200
    sweep.look()
    for place in places_of(good):
        for value in values:
            sweep.send(put(good, place, Literal(value)), (place, value[:80]))


@given(body=st.binary(max_size=80), is_protobuf=st.booleans())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_of_spans_break_anything(calls: Calls, body: bytes, is_protobuf: bool) -> None:
    media_type = "application/x-protobuf" if is_protobuf else "application/json"
    for encoding in ("", "gzip", "deflate", "br"):
        headers = {"x-mlflow-experiment-id": "0"} | ({"content-encoding": encoding} if encoding else {})
        reply = calls.send("POST", "/v1/traces", body, media_type, headers=headers)
        assert reply.status == 200 or is_refusal(reply), (encoding, body, reply.body)


@pytest.mark.usefixtures("without_garbage")
@pytest.mark.parametrize("names", by_area(WITH_BODIES))
def test_each_body_is_read_or_refused(home: Home, calls: Calls, names: Sequence[str]) -> None:
    for name in names:
        sweep = Sweep(home, calls, ROUTES[name])
        for body in BAD_BODIES:
            reply = sweep.send(body, body[:80])
            if name in TYPES:
                assert reply.error == (400, "INVALID_PARAMETER_VALUE"), (name, body[:80], reply.body)
                assert "JSON" in reply.json()["message"] or "nested" in reply.json()["message"]


@pytest.mark.parametrize("names", by_area(WITH_NAMES))
def test_each_name_in_an_address_may_be_anything(home: Home, calls: Calls, names: Sequence[str]) -> None:
    for name in names:
        route, type_ = ROUTES[name], TYPES.get(name)
        sweep = Sweep(home, calls, route)
        for part in NAMES:
            for segment in BAD_SEGMENTS if f"{{{part}}}" in name else ():
                fields: Any = b"part" if "/parts/" in name else sweep.world.good(route, type_) if type_ else {}
                sweep.send(fields, segment[:80], **{part: segment})


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_mixture_of_good_and_bad_fields_breaks_anything(home: Home, calls: Calls, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(list(TYPES)))
    sweep = Sweep(home, calls, ROUTES[name])
    fields: Any = sweep.world.good(ROUTES[name], TYPES[name])
    places = [place for place in places_of(fields) if len(place) == 1 or data.draw(st.booleans())]
    for place in data.draw(st.lists(st.sampled_from(places), max_size=4, unique=True)) if places else ():
        # What is within a value that was replaced already is gone.
        with suppress(LookupError, TypeError):
            fields = put(fields, place, Literal(json.dumps(data.draw(_values))))
    for place in data.draw(st.sets(st.sampled_from(list(fields)), max_size=2)) if fields else ():
        del fields[place]
    sweep.send(fields, fields)


def pages(world: World) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """Yield every address that gives pages, with a request that has several and another one."""
    a = "/api/2.0/mlflow/"
    mine = {"experiment_ids": [world.experiment]}
    yield "POST", f"{a}experiments/search", {}, {"filter": "name != 'x'"}
    yield "POST", f"{a}runs/search", mine, mine | {"filter": "tags.k = 'v'"}
    yield "POST", f"{a}registered-models/search", {}, {"filter": "name != 'x'"}
    yield "POST", f"{a}model-versions/search", {}, {"order_by": ["name DESC"]}
    yield "POST", f"{a}logged-models/search", mine, mine | {"filter": "name != 'x'"}
    place = {"locations": [{"mlflow_experiment": {"experiment_id": world.experiment}}]}
    yield "POST", "/api/3.0/mlflow/traces/search", place, place | {"filter": "status = 'OK'"}
    yield "GET", f"{a}webhooks", {}, {}
    yield (
        "GET",
        f"{a}metrics/get-history",
        {"run_id": world.run, "metric_key": "m"},
        {"run_id": world.run, "metric_key": "n"},
    )


def test_a_token_of_nobody_or_of_another_search_is_refused(home: Home, calls: Calls) -> None:
    world = World(home, calls)
    World(home, calls)
    world.add_more()

    def ask(method: str, path: str, fields: Any, token: str, limit: int = 1) -> Reply:
        asked = fields | {"max_results": limit, "page_token": token}
        if method == "GET":
            return calls.send(method, f"{path}?{urlencode(asked)}")
        return calls.send(method, path, json.dumps(asked).encode())

    searches = list(pages(world))
    tokens = []
    for method, path, fields, _ in searches:
        page = ask(method, path, fields, "")
        assert page.status == 200, (path, page.body)
        tokens.append(page.json()["next_page_token"])
        assert ask(method, path, fields, tokens[-1]).status == 200
    for (method, path, fields, other), mine in zip(searches, tokens, strict=True):
        made_up = [mine[:-4], mine + "AAAA", mine[::-1], "0", "x" * 5_000, "é", "AA==", "\0", "-1", mine.lower()]
        changed = base64.urlsafe_b64decode(mine)
        made_up += [base64.urlsafe_b64encode(changed[:-1] + bytes([changed[-1] ^ 1])).decode()]
        for token in [*made_up, *(token for token in tokens if token != mine)]:
            reply = ask(method, path, fields, token)
            assert reply.error == (400, "INVALID_PARAMETER_VALUE"), (path, token, reply.body)
            assert "token" in reply.json()["message"]
        if fields != other:
            assert ask(method, path, other, mine).error == (400, "INVALID_PARAMETER_VALUE"), path


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("experiments/create", {"name": "x"}),
        ("runs/create", {"experiment_id": "0"}),
        ("registered-models/create", {"name": "x"}),
        ("model-versions/create", {"name": "m", "source": "s3://x/y"}),
        ("logged-models", {"experiment_id": "0"}),
    ],
)
def test_ten_thousand_tags_are_all_kept_and_more_are_refused(
    home: Home, calls: Calls, path: str, fields: dict[str, Any]
) -> None:
    calls.post("registered-models/create", name="m")
    tags = [{"key": f"t{number}", "value": "v"} for number in range(10_001)]

    def count_tags() -> int:
        with home.db.read() as tx:
            names = [shape.name for shape in list_shapes() if shape.name.endswith("_tag")]
            return sum(tx.value(f"SELECT count(*) FROM {name} WHERE value = 'v'") for name in names)

    assert calls.refused(path, **fields, tags=tags).error == (400, "INVALID_PARAMETER_VALUE")
    assert count_tags() == 0
    calls.post(path, **fields, tags=tags[:10_000])
    assert count_tags() == 10_000


@pytest.fixture
def calls(home: Home) -> Iterator[Calls]:
    app = MlflowApp(home)
    yield Calls(app)
    app.close()


def test_what_is_not_there_says_so(calls: Calls) -> None:
    for path in ("/api/2.0/mlflow/runs/fly", "/api/2.0/mlflow/gateway-proxy", "/api/9.9/x", "/api/"):
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
            reply = calls.send(method, path, json.dumps({"name": "x"}).encode())
            assert reply.error == (404, "ENDPOINT_NOT_FOUND")
            assert path in reply.json()["message"]
