"""Removes the online rows of versions of views that nobody uses any more."""

from datetime import datetime, timedelta

from flyball.core.clock import Clock
from flyball.core.durations import format_instant
from flyball.domain.features import store
from flyball.domain.features.pushing import pushed_key
from flyball.domain.journal.service import Journal
from flyball.storage.db import Database
from flyball.storage.online.port import OnlineStore

KEPT_UNUSED = timedelta(days=7)
"""For how long rows stay that no materialisation has asked for: a version may come back after a rollback."""
_TOUCH_EVERY = timedelta(days=1)


class Retirement:
    """Notes which versions are in use, and retires the others.

    Args:
        db: Where views are kept.
        journal: Told of each retirement.
        clock: Tells the time.
        online: Where the rows are.
    """

    def __init__(self, db: Database, journal: Journal, clock: Clock, online: OnlineStore) -> None:
        self._db = db
        self._journal = journal
        self._clock = clock
        self._online = online
        self._touched: dict[str, datetime] = {}

    def touch(self, key: str) -> None:
        """Note that a version is in use; written once a day."""
        now = self._clock.now()
        if key in self._touched and now - self._touched[key] < _TOUCH_EVERY:
            return
        with self._db.begin() as tx:
            store.touch(tx, key, now)
        self._touched[key] = now

    def retire(self, *, actor: str = "system") -> list[str]:
        """Remove the rows of versions that were not in use for `KEPT_UNUSED`, and return their names.

        Called again after a crash it does what is left.

        Raises:
            BackendUnavailableError: The store did not answer; the next call goes on.
        """
        now = self._clock.now()
        with self._db.begin() as tx:
            store.touch_unknown(tx, now)
            unused = store.list_unused(tx, now - KEPT_UNUSED)
        for key, name, version, used_at in unused:
            rows = self._online.replace(key, []) + self._online.replace(pushed_key(key), [])
            with self._db.begin() as tx:
                store.delete_version(tx, key)
                data = {"version": version, "rows": rows, "used_at": format_instant(used_at)}
                self._journal.append(tx, "features.view.retired", f"view/{name}", data, event_time=now, actor=actor)
            self._touched.pop(key, None)
        return [key for key, *_ in unused]
