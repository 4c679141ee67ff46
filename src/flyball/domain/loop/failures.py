"""What cannot be done in a turn of the loop, while all else is."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from flyball.core.errors import FlyballError

_log = logging.getLogger("flyball.loop")


class Failures:
    """Collects errors, so that what one endpoint or version cannot do keeps no other from its turn."""

    def __init__(self) -> None:
        self._found: dict[str, Exception] = {}

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Go on after the block, whatever it raises: a fault of ours in one part must not stop the others either."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  the edge of one part of a turn
            self._found.setdefault(error.message if isinstance(error, FlyballError) else repr(error), error)

    def tell(self) -> None:
        """Raise one error, if there was any; write the others to the log.

        Raises:
            Exception: The first that is a fault of ours.
            FlyballError: The first, where none is.
        """
        found = sorted(self._found.values(), key=_is_expected)
        for error in found[1:]:
            if isinstance(error, FlyballError):
                _log.warning("%s: %s", error.code, error.message)
            else:
                _log.error("a part of a turn failed", exc_info=error)
        if found:
            raise found[0]


def _is_expected(error: Exception) -> bool:
    return isinstance(error, FlyballError)
