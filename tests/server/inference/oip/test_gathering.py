"""Calls over gRPC wait for each other only where others come."""

import asyncio
from collections.abc import Sequence

import pytest

from flyball.core.clock import monotonic_s
from flyball.server.inference.oip.gathering import Gathering


class Work:
    """Doubles numbers, and notes how many came together."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, calls: Sequence[int]) -> list[int]:
        self.sizes.append(len(calls))
        if -1 in calls:
            raise ValueError("no")
        return [call * 2 for call in calls]


async def ask_one_by_one(gathering: Gathering[int, int], count: int) -> list[int]:
    return [await gathering.answer(number) for number in range(count)]


def test_one_client_alone_hardly_ever_waits() -> None:
    work = Work()
    gathering = Gathering(work)
    waits = 0

    async def run() -> None:
        nonlocal waits
        for number in range(200):
            begun_s = monotonic_s()
            assert await gathering.answer(number) == number * 2
            waits += monotonic_s() - begun_s > 0.0009

    asyncio.run(run())
    assert work.sizes == [1] * 200
    assert waits >= 200 // 50 - 1  # it does look round now and then


def test_clients_that_come_together_are_answered_together_and_get_their_own() -> None:
    work = Work()
    gathering = Gathering(work)

    async def run() -> list[list[int]]:
        return await asyncio.gather(*(ask_one_by_one(gathering, 100) for _ in range(16)))

    assert asyncio.run(run()) == [[number * 2 for number in range(100)]] * 16
    assert sum(work.sizes) == 1_600
    assert len(work.sizes) < 400


def test_when_the_others_leave_the_last_one_soon_waits_for_nobody() -> None:
    work = Work()
    gathering = Gathering(work)

    async def run() -> int:
        await asyncio.gather(*(ask_one_by_one(gathering, 50) for _ in range(16)))
        before = len(work.sizes)
        await ask_one_by_one(gathering, 10)
        return before

    before = asyncio.run(run())
    assert work.sizes[before:] == [1] * 10
    assert gathering._expected == 1


def test_an_error_reaches_each_who_waited_and_nobody_else() -> None:
    gathering = Gathering(Work())

    async def run() -> None:
        await asyncio.gather(*(ask_one_by_one(gathering, 60) for _ in range(8)))
        answers = await asyncio.gather(*map(gathering.answer, [1, 2, -1, 3, 4, 5, 6, 7]), return_exceptions=True)
        assert any(isinstance(answer, ValueError) for answer in answers)
        assert await gathering.answer(21) == 42

    asyncio.run(run())


def test_who_leaves_while_waiting_does_not_spoil_the_others() -> None:
    gathering = Gathering(Work())

    async def run() -> None:
        await asyncio.gather(*(ask_one_by_one(gathering, 60) for _ in range(8)))
        waiting = [asyncio.ensure_future(gathering.answer(number)) for number in range(7)]
        await asyncio.sleep(0)
        waiting[3].cancel()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(found[3], asyncio.CancelledError)
        assert [found[at] for at in (0, 1, 2, 4, 5, 6)] == [0, 2, 4, 8, 10, 12]

    asyncio.run(run())


@pytest.mark.parametrize("count", [1, 5, 33, 100])
def test_any_number_at_once_is_answered(count: int) -> None:
    gathering = Gathering(Work())

    async def run() -> list[int]:
        return await asyncio.gather(*map(gathering.answer, range(count)))

    assert asyncio.run(run()) == [2 * number for number in range(count)]
