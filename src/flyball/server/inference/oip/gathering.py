"""Calls over gRPC that come at the same time are answered together.

grpcio hands calls over one by one, so nobody sees how many more are on their way. Now and then one call waits a
millisecond to find out. Where several came in that time, as many are waited for from then on, for so long as others
keep coming; where not, nobody waits. Who is answered together shares a call of the model and a write to the log, and
finds the code in the processor's cache.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
_MOST_TOGETHER = 32
_LEAST_TOGETHER = 4
_LOOK_ROUND_S = 0.001
_TRIED_EVERY = 50


class Gathering(Generic[T, R]):
    """Collects calls. Used by one thread.

    Args:
        work: Answers calls together, in order.
    """

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R]]) -> None:
        self._work = work
        self._calls: list[T] = []
        self._futures: list[asyncio.Future[R]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._usual = self._expected = 1
        self._since_tried = 0

    async def answer(self, call: T) -> R:
        """Return the answer to a call; raises what answering raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._calls.append(call)
        self._futures.append(future)
        if len(self._calls) >= self._expected:
            self._flush()
        elif self._timer is None:
            self._timer = loop.call_later(_LOOK_ROUND_S, self._look_round, len(self._calls))
        return await future

    def _look_round(self, before: int) -> None:
        came = len(self._calls)
        if came > before:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_ROUND_S, self._look_round, came)
            return
        # One pause does not mean that nobody comes any more; several do.
        usual = max(came, self._usual // 2)
        self._usual = self._expected = usual if usual >= _LEAST_TOGETHER else 1
        self._flush()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._since_tried += 1
        if self._since_tried >= _TRIED_EVERY:
            self._since_tried = 0
            self._expected = _MOST_TOGETHER
        calls, futures = self._calls, self._futures
        self._calls, self._futures = [], []
        try:
            answers = self._work(calls)
        except Exception as error:  # noqa: BLE001 - raised again to each who waits
            for future in futures:
                if not future.done():
                    future.set_exception(error)
            return
        for future, answer in zip(futures, answers, strict=True):
            if not future.done():
                future.set_result(answer)
