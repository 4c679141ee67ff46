"""What goes on beside a measurement."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def repeating(every_s: float, act: Callable[[], T]) -> Iterator[list[T]]:
    """Do something again and again in a thread; what it gave is in the list."""
    given: list[T] = []
    is_over = threading.Event()

    def repeat() -> None:
        while not is_over.wait(every_s):
            given.append(act())

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield given
    finally:
        is_over.set()
        thread.join()
