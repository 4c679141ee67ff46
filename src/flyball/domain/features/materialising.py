"""Keeps the online rows of views what their histories say; may be killed at any point and called again."""

from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl

from flyball.core.clock import Clock
from flyball.core.durations import format_instant, from_us, to_us
from flyball.core.errors import ConflictError
from flyball.core.files import holding_lock
from flyball.core.hashing import digest_value, shorten
from flyball.domain.data.snapshots import Snapshot
from flyball.domain.features import store
from flyball.domain.features.histories import ViewHistory
from flyball.domain.features.online import view_key
from flyball.domain.features.point_in_time import USABLE
from flyball.domain.features.pushing import pushed_rows
from flyball.domain.features.rows import MARK, encode_rows, mark_row
from flyball.domain.features.store import MaterialisationState
from flyball.domain.features.views import FeatureView
from flyball.domain.journal.service import Journal
from flyball.storage.db import Database
from flyball.storage.online.port import OnlineRow, OnlineStore


class Materialisation(msgspec.Struct, frozen=True, kw_only=True):
    """What `FeatureService.materialise` did.

    Attributes:
        view: The view's name.
        version: Its version.
        as_of: Every row that was known by then is in the online store.
        written: How many entities now have another row, or none.
        reason: Why rows were looked at: ``first`` (the version is new), ``source`` (the table's content changed),
            ``time`` (rows became known), ``lost`` (the store no longer had them), or empty when nothing was to do.
    """

    view: str
    version: str
    as_of: datetime
    written: int
    reason: str


class MaterialisationRunningError(ConflictError):
    """Another process materialises a view."""

    code = "features/materialisation-running"

    def __init__(self, view: str) -> None:
        super().__init__(
            f"feature view {view!r} is being materialised by another process",
            hint="Wait for it; nothing needs to be done twice.",
        )


class Computed(msgspec.Struct):
    """A view's history in memory, and what it was computed from; of an aggregated view its tiles, too."""

    source: str
    snapshot: Snapshot
    history: ViewHistory
    tiles: pl.DataFrame | None = None


class Content(NamedTuple):
    """What a view's table holds.

    Attributes:
        fingerprint: Of the table; as long as it is the same, so is the rest.
        snapshot: Of all rows.
        source: Identifies the rows that the view's function gets.
    """

    fingerprint: str
    snapshot: Snapshot
    source: str


class Materialiser:
    """Writes histories into the online store.

    What is there already is read from the store itself: with the rows lies a mark that says from which content, and
    up to when, they were written. So a killed process, a store that was emptied and a database that was set back are
    all the same case: what the mark does not say is done.

    Args:
        db: Where columns and materialisations are kept.
        journal: Told of each materialisation.
        clock: Tells the time.
        online: Keeps the newest rows.
        locks: A folder for the locks of views, which end with the process that holds them.
    """

    def __init__(self, db: Database, journal: Journal, clock: Clock, online: OnlineStore, locks: Path) -> None:
        self._db = db
        self._journal = journal
        self._clock = clock
        self._online = online
        self._locks = locks
        self._recorded: dict[str, str] = {}

    def materialise(
        self,
        view: FeatureView,
        version: str,
        computed: Computed,
        as_of: datetime,
        *,
        actor: str = "system",
        cause: int | None = None,
    ) -> Materialisation:
        """See `FeatureService.materialise`."""
        key = view_key(view.name, version)
        done = Materialisation(view=view.name, version=version, as_of=as_of, written=0, reason="")
        if self._is_done(key, computed, as_of):
            return done
        lock = self._locks / f"{shorten(digest_value(key))}.lock"
        with ExitStack() as stack:
            try:
                stack.enter_context(holding_lock(lock, held_message="held"))
            except ConflictError as error:
                raise MaterialisationRunningError(view.name) from error
            mark = self._read_mark(key)
            if mark is not None and mark.known_us > to_us(as_of):
                return done
            known = self._find_state(key)
            last = None if mark is None or mark.payload.decode() != computed.source else from_us(mark.known_us)
            self._put_columns(key, view, version, computed.history)
            written = self._write(key, view, computed, as_of, last, mark)
            if last is not None and known is not None and known.source == computed.source:
                reason = "time"
            else:
                reason = "first" if known is None else "lost" if mark is None else "source"
            done = msgspec.structs.replace(done, written=written, reason=reason)
            self._record(key, done, computed, actor, cause)
        return done

    def find_done(self, view: FeatureView, version: str, source: str, as_of: datetime) -> Materialisation | None:
        """Return what `materialise` would, if it has nothing to do and that can be told without the view's history."""
        key = view_key(view.name, version)
        mark = self._read_mark(key)
        if mark is None or mark.payload.decode() != source:
            return None
        state = self._find_state(key)
        if state is None or state.source != source or state.last_known_us is None:
            return None
        if state.last_known_us > mark.known_us:
            return None
        return Materialisation(view=view.name, version=version, as_of=as_of, written=0, reason="")

    def _is_done(self, key: str, computed: Computed, as_of: datetime) -> bool:
        mark = self._read_mark(key)
        if mark is None:
            return False
        if mark.known_us > to_us(as_of):
            return True
        if mark.payload.decode() != computed.source or computed.history.count(as_of) > computed.history.count(
            from_us(mark.known_us)
        ):
            return False
        if self._recorded.get(key) != computed.source:
            # A process that was killed between the rows and their record leaves the record to the next one.
            state = self._find_state(key)
            if state is None or state.source != computed.source:
                return False
            self._recorded[key] = computed.source
        return True

    def _write(
        self,
        key: str,
        view: FeatureView,
        computed: Computed,
        as_of: datetime,
        last: datetime | None,
        mark: OnlineRow | None,
    ) -> int:
        history = computed.history
        rows = encode_rows(history.newest(as_of, after=last), view.keys, view.time, USABLE, history.columns)
        new_mark = mark_row(computed.source, to_us(as_of))
        if last is not None:
            written = self._online.write(key, [*rows, new_mark])
            return written - (mark is None or new_mark.known_us > mark.known_us)
        written = self._online.replace(key, [*rows, *pushed_rows(self._online, key), new_mark]) - (new_mark != mark)
        # What was pushed while the rows were replaced went with the old ones.
        return written + self._online.write(key, pushed_rows(self._online, key))

    def _put_columns(self, key: str, view: FeatureView, version: str, history: ViewHistory) -> None:
        """Let readers know the columns before the first row has them."""
        keys = history.keys
        with self._db.read() as tx:
            known = store.find_layout(tx, key)
        if known is None or known.columns != history.columns or known.keys != keys:
            with self._db.begin() as tx:
                store.put_columns(
                    tx,
                    key,
                    name=view.name,
                    version=version,
                    columns=history.columns,
                    now=self._clock.now(),
                    keys=keys,
                )

    def _record(self, key: str, done: Materialisation, computed: Computed, actor: str, cause: int | None) -> None:
        state = MaterialisationState(
            snapshot=computed.snapshot.id,
            source=computed.source,
            as_of=done.as_of,
            last_known_us=computed.history.last_known_us,
        )
        with self._db.begin() as tx:
            store.put_state(tx, key, state, self._clock.now())
            self._journal.append(
                tx,
                "features.view.materialised",
                f"view/{done.view}",
                {
                    "version": done.version,
                    "snapshot": computed.snapshot.id,
                    "as_of": format_instant(done.as_of),
                    "written": done.written,
                    "reason": done.reason,
                },
                event_time=done.as_of,
                actor=actor,
                cause=cause,
            )
        self._recorded[key] = computed.source

    def _find_state(self, key: str) -> MaterialisationState | None:
        with self._db.read() as tx:
            return store.find_state(tx, key)

    def _read_mark(self, key: str) -> OnlineRow | None:
        return self._online.read(key, [MARK])[0]
