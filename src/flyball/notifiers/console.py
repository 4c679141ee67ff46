"""Alerts as lines on the console."""

import sys
from typing import TextIO

from flyball.core.errors import BackendError, InvalidInputError
from flyball.domain.monitoring.notifiers import Notification


class ConsoleNotifier:
    """Writes one line an alert to standard error, which never mixes with a command's result.

    Args:
        address: Must be empty.
        stream: Where to write instead.

    Raises:
        InvalidInputError: An address is given.
    """

    def __init__(self, address: str = "", *, stream: TextIO | None = None) -> None:
        if address:
            raise InvalidInputError(
                f"the notifier console takes no address, but {address!r} was given",
                hint='Write "console" in the settings.',
            )
        self._stream = stream

    def send(self, notification: Notification) -> None:
        """See `Notifier.send`."""
        stream = self._stream or sys.stderr
        try:
            stream.write(f"{notification.headline}\n")
            stream.flush()
        except (OSError, ValueError) as error:
            raise BackendError(f"the console cannot be written: {error}") from error
