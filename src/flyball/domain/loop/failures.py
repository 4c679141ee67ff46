"""What cannot be done in a turn of the loop, while all else is."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from flyball.core.errors import FlyballError

_log = logging.getLogger("flyball.loop")


class Failures:
    """Collects errors, so that what one endpoint or version cannot do keeps no other from its turn."""

    def __init__(self) -> None:
        self._found: dict[str, FlyballError] = {}

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Go on after the block, whatever of ours it raises."""
        try:
            yield
        except FlyballError as error:
            self._found.setdefault(error.message, error)

    def tell(self) -> None:
        """Raise the first error there was; write the others to the log.

        Raises:
            FlyballError: There was one.
        """
        first, *others = self._found.values() or [None]
        for error in others:
            if error is not None:
                _log.warning("%s: %s", error.code, error.message)
        if first is not None:
            raise first
