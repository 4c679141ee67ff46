"""Requests that wait for a thread: who shares a call, who is not computed any more, and who is not held up."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest

from flyball.server.inference.apart import MOST_WAITING, Apart
from flyball.server.inference.costs import Costs, Watch
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.messages import DisconnectedError, Reply
from flyball.server.inference.together import Asked
from flyball.server.problems import TimedOutError, TooBusyError

PATH = "/predict/slow"


class Model:
    """Takes a time for each call, and one for each request; remembers how many came together."""

    def __init__(self, call_s: float, request_s: float) -> None:
        self.call_s, self.request_s = call_s, request_s
        self.calls: list[int] = []

    def alone(self) -> Reply:
        return self.compute(1)[0]

    def together(self, asked: Sequence[Asked], _defer: Any) -> list[Reply | None]:
        return list(self.compute(len(asked)))

    def compute(self, count: int) -> list[Reply]:
        self.calls.append(count)
        until_s = time.thread_time() + self.call_s + self.request_s * count
        while time.thread_time() < until_s:
            sum(range(1_000))
        return [Reply(200, b"")] * count


Run = Callable[[Callable[[Apart], Awaitable[Any]]], Any]


@pytest.fixture
def opened() -> Iterator[list[Apart]]:
    made: list[Apart] = []
    yield made
    for apart in made:
        apart.close()


def asked() -> Asked:
    return Asked("slow", None, b"", Exchange())  # type: ignore[arg-type]


def ask_all(model: Model, count: int, opened: list[Apart], *, rounds: int = 4, has_batching: bool = True) -> None:
    async def users() -> None:
        apart = Apart(10.0, model.together if has_batching else None, processors=1)
        opened.append(apart)

        async def user() -> None:
            for _ in range(rounds):
                assert (await apart.answer(PATH, 10, model.alone, asked())).status == 200

        await apart.answer(PATH, 10, model.alone, asked())
        await asyncio.gather(*(user() for _ in range(count)))

    asyncio.run(users())


def test_requests_that_wait_share_a_call_where_one_more_costs_little(opened: list[Apart]) -> None:
    model = Model(call_s=0.025, request_s=0.0002)
    ask_all(model, 12, opened)
    assert sum(model.calls) == 49
    assert len(model.calls) < 30
    assert max(model.calls) >= 4


def test_nobody_waits_for_others_where_each_costs_as_much_as_alone(opened: list[Apart]) -> None:
    model = Model(call_s=0.0005, request_s=0.025)
    ask_all(model, 8, opened, rounds=3)
    assert sum(model.calls) == 25
    assert sum(count > 1 for count in model.calls) <= 4, "it is tried, and then not done"


def test_without_batching_each_is_computed_alone(opened: list[Apart]) -> None:
    model = Model(call_s=0.022, request_s=0.0)
    ask_all(model, 4, opened, rounds=2, has_batching=False)
    assert model.calls == [1] * 9


class Hanging:
    """A model that does not return until it is told to."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.begun = 0

    def answer(self) -> str:
        self.begun += 1
        self.go_on.wait(20)
        return "late"


def test_a_model_that_hangs_keeps_its_own_threads_only(opened: list[Apart]) -> None:
    hanging = Hanging()

    async def users() -> None:
        apart = Apart(0.3)
        opened.append(apart)
        stuck = [asyncio.create_task(apart.answer("/hangs", 10, hanging.answer)) for _ in range(20)]
        await asyncio.sleep(0.05)
        assert await apart.answer("/works", 10, lambda: "at once") == "at once"
        assert apart.waiting == 16
        results = await asyncio.gather(*stuck, return_exceptions=True)
        assert all(isinstance(found, TimedOutError) for found in results)
        assert apart.waiting == 0
        hanging.go_on.set()
        await asyncio.sleep(0.1)
        assert hanging.begun == 4, "who waited too long is not computed any more"
        assert await apart.answer("/hangs", 10, lambda: "again") == "again"

    asyncio.run(users())


def test_who_left_is_not_computed_any_more(opened: list[Apart]) -> None:
    hanging = Hanging()

    async def users() -> None:
        apart = Apart(5.0)
        opened.append(apart)
        left = asyncio.Event()
        stuck = [asyncio.create_task(apart.answer("/hangs", 10, hanging.answer)) for _ in range(4)]
        leaving = asyncio.create_task(apart.answer("/hangs", 10, hanging.answer, None, left.wait))
        await asyncio.sleep(0.05)
        left.set()
        with pytest.raises(DisconnectedError):
            await leaving
        hanging.go_on.set()
        assert await asyncio.gather(*stuck) == ["late"] * 4
        assert hanging.begun == 4

    asyncio.run(users())


def test_too_many_for_one_address_are_refused_and_others_are_not(opened: list[Apart]) -> None:
    hanging = Hanging()

    async def users() -> None:
        apart = Apart(5.0)
        opened.append(apart)
        stuck = [asyncio.create_task(apart.answer("/hangs", 10, hanging.answer)) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0.05)
        with pytest.raises(TooBusyError):
            await apart.answer("/hangs", 10, hanging.answer)
        assert await apart.answer("/works", 10, lambda: "at once") == "at once"
        hanging.go_on.set()
        await asyncio.gather(*stuck)

    asyncio.run(users())


def test_an_error_reaches_who_asked(opened: list[Apart]) -> None:
    async def user() -> None:
        apart = Apart(5.0)
        opened.append(apart)
        with pytest.raises(ZeroDivisionError):
            await apart.answer(PATH, 10, lambda: 1 / 0)

    asyncio.run(user())


def watch(took_s: float, processor_s: float) -> Watch:
    made = Watch()
    made.took_s, made.processor_s = took_s, processor_s
    return made


def test_costs_are_those_of_the_processor_where_it_is_what_calls_wait_for() -> None:
    costs = Costs()
    costs.note(1, watch(0.030, 0.029), is_undisturbed=True)
    assert costs.is_bound
    # Four at a time on one processor: each takes four times as long, and costs no more.
    costs.note(1, watch(0.120, 0.030), is_undisturbed=False)
    costs.note(8, watch(0.240, 0.235), is_undisturbed=True)
    assert not costs.is_worth_sharing
    assert costs.most == 1


def test_costs_are_time_where_a_model_waits_for_something_else() -> None:
    costs = Costs()
    costs.note(1, watch(0.200, 0.001), is_undisturbed=True)
    costs.note(8, watch(0.210, 0.001), is_undisturbed=True)
    assert not costs.is_bound
    assert costs.is_worth_sharing
    assert costs.most == 32


def test_what_did_not_gain_is_tried_again_after_a_while() -> None:
    costs = Costs()
    costs.note(1, watch(0.03, 0.03), is_undisturbed=True)
    costs.note(4, watch(0.12, 0.12), is_undisturbed=True)
    assert costs.most == 1
    for _ in range(100):
        costs.note(1, watch(0.03, 0.03), is_undisturbed=True)
    assert costs.most > 1
