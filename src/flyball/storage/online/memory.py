"""An online store in the memory of one process, for tests and simulated replays."""

import threading
from collections.abc import Iterator, Sequence

from flyball.storage.online.port import OnlineRow, is_newer, newest_rows


class MemoryOnlineStore:
    """Implements `OnlineStore` for the threads of one process; its rows end with it."""

    def __init__(self) -> None:
        self._views: dict[str, dict[bytes, OnlineRow]] = {}
        self._lock = threading.Lock()

    def write(self, view: str, rows: Sequence[OnlineRow], *, copy: str | None = None) -> int:
        """See `OnlineStore.write`."""
        with self._lock:
            if copy is not None:
                self._write(copy, rows)
            return self._write(view, rows)

    def _write(self, view: str, rows: Sequence[OnlineRow]) -> int:
        stored = self._views.setdefault(view, {})
        newer = {key: row for key, row in newest_rows(rows).items() if key not in stored or is_newer(row, stored[key])}
        stored.update(newer)
        return len(newer)

    def replace(self, view: str, rows: Sequence[OnlineRow]) -> int:
        """See `OnlineStore.replace`."""
        newest = newest_rows(rows)
        with self._lock:
            stored = self._views.get(view, {})
            changed = sum(stored.get(key) != row for key, row in newest.items())
            gone = sum(key not in newest for key in stored)
            self._views[view] = newest
            return changed + gone

    def read(self, view: str, keys: Sequence[bytes]) -> list[OnlineRow | None]:
        """See `OnlineStore.read`."""
        with self._lock:
            stored = self._views.get(view, {})
            return [stored.get(key) for key in keys]

    def delete(self, view: str, keys: Sequence[bytes]) -> int:
        """See `OnlineStore.delete`."""
        with self._lock:
            stored = self._views.get(view, {})
            return sum(stored.pop(key, None) is not None for key in keys)

    def scan(self, view: str) -> Iterator[OnlineRow]:
        """See `OnlineStore.scan`."""
        with self._lock:
            rows = list(self._views.get(view, {}).values())
        return iter(rows)
