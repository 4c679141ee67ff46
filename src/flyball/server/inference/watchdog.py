"""Ends a process whose event loop stands still: whoever waits for it waits in vain, and another can take its place."""

import faulthandler
import sys


class Watchdog:
    """Waits for the event loop's sign of life, in a thread that needs nothing of Python: not even a call into a library
    that never returns holds it up. The end is written to standard error, with where every thread stood.

    Args:
        patience_s: So long may it be silent; for ever if it is 0.
    """

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s

    def feed(self) -> None:
        """Give a sign of life; the first one starts the watch."""
        if self.patience_s > 0:
            faulthandler.dump_traceback_later(self.patience_s, exit=True, file=sys.__stderr__ or sys.stderr)

    def stop(self) -> None:
        """End the watch."""
        faulthandler.cancel_dump_traceback_later()
