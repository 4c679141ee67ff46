"""Ctrl-C and SIGTERM while a run is on: it ends in order, and is recorded as cancelled."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Tells whether somebody asked the run to stop."""

    is_requested = False


@contextmanager
def watching_interrupts(wake: Callable[[], None], *, at_once: bool) -> Iterator[Interrupt]:
    """Note the first SIGINT or SIGTERM of the block instead of dying of it; the second raises KeyboardInterrupt.

    Args:
        wake: Called from the signal handler.
        at_once: Raise at the first: the step runs in this very thread, so nobody would look at the note.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield interrupt
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if at_once or interrupt.is_requested:
            raise KeyboardInterrupt
        interrupt.is_requested = True
        wake()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
