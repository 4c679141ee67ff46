"""The one way into features: histories, training sets, the online store."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import polars as pl

from flyball.core.clock import Clock
from flyball.core.hashing import digest_value, shorten
from flyball.domain.data.code import code_digest
from flyball.domain.data.rules import encode_rules
from flyball.domain.data.schemas import Schema
from flyball.domain.data.service import DataService
from flyball.domain.data.snapshots import Snapshot
from flyball.domain.features.aggregates import AggregatedView
from flyball.domain.features.assembling import assemble
from flyball.domain.features.histories import AT, ViewHistory, aggregated_history, compute_history
from flyball.domain.features.leaks import find_table_leaks
from flyball.domain.features.materialising import Computed, Content, Materialisation, Materialiser
from flyball.domain.features.online import Completed, OnlineFeatures, OnlineReader, view_key
from flyball.domain.features.parts import Histories, JoinableHistory, PartedHistory
from flyball.domain.features.plans import TrainingSetPlan
from flyball.domain.features.point_in_time import USABLE
from flyball.domain.features.pushing import Pusher
from flyball.domain.features.retiring import Retirement
from flyball.domain.features.tiles import aggregate_tiles, extend_features, tiles_of
from flyball.domain.features.training_sets import TrainingLineage, TrainingSet, ViewRef
from flyball.domain.features.vectors import VectorPlan, Vectors, plan_vectors, read_vectors
from flyball.domain.features.views import FeatureView, RequestFeatures
from flyball.domain.journal.service import Journal
from flyball.storage.db import Database
from flyball.storage.online.port import OnlineStore

# Versions of a view whose histories stay in memory: the project's, and those of models still served.
_KEPT_VERSIONS = 3
_MOST_PLANS = 1_000


class FeatureService:
    """Computes features for training and keeps them online for requests.

    A view's history is computed once per version and content of its table, over all rows that the table holds, and
    kept in memory: at a later instant only the rows that became known since are looked at, so a replay may materialise
    at every tick. That the whole history says the same as the history until then is checked (`LooksAheadError`),
    and where rows become known late it holds what the function made of the rows known before (`order_by_known`).

    Args:
        db: Where columns and materialisations are kept.
        journal: Told of each materialisation.
        clock: Tells the time.
        data: Gives snapshots.
        online: Keeps the newest rows.
        root: The project's folder, below which code counts towards a view's version.
        locks: A folder for locks that all processes of the home share.
        is_fallback_null: Whether requests go on without stored features while the online store does not answer.
        values_at_once: Tables with more values than that are joined in parts, so that training sets fit into memory.

    Attributes:
        online: Reads what was materialised.
    """

    def __init__(
        self,
        db: Database,
        journal: Journal,
        clock: Clock,
        data: DataService,
        online: OnlineStore,
        root: Path,
        *,
        locks: Path | None = None,
        is_fallback_null: bool = False,
        values_at_once: int = 150_000_000,
        histories: Histories | None = None,
    ) -> None:
        self._db = db
        self._journal = journal
        self._clock = clock
        self._data = data
        self._online = online
        self._root = root
        self._values_at_once = values_at_once
        self._histories = histories
        self.online = OnlineReader(db, online, is_fallback_null=is_fallback_null)
        self._plans: dict[tuple[bool | str | FeatureView, ...], VectorPlan] = {}
        self._pusher = Pusher(self.online, online, clock)
        self._retirement = Retirement(db, journal, clock, online)
        self._versions: WeakKeyDictionary[FeatureView | RequestFeatures, str] = WeakKeyDictionary()
        self._contents: dict[str, Content] = {}
        self._computed: dict[str, Computed] = {}
        self._materialiser = Materialiser(db, journal, clock, online, locks or root / ".flyball" / "locks")

    def view_version(self, view: FeatureView) -> str:
        """Return the version of a view: a digest of its declaration and all code that its function uses."""
        if view not in self._versions:
            table = view.table
            declared = [view.name, table.required_name, view.keys, view.time, table.known, view.ttl]
            if view.late != "exact":
                declared.append(view.late)
            if isinstance(view, AggregatedView):
                code: object = view.declared
            else:
                code = code_digest(view.written, self._root)
            if view.parent is not None:
                code = [code, self.view_version(view.parent)]
            self._versions[view] = shorten(digest_value([declared, code]))
        return self._versions[view]

    def adopt_version(self, view: FeatureView | RequestFeatures, version: str) -> None:
        """Take the version that a package recorded for a view which was loaded from the package's own sources.

        There the code lies outside the project's folder, so that a digest of it would say something else.
        """
        self._versions[view] = version

    def request_features_version(self, request: RequestFeatures) -> str:
        """Return the version of request features: a digest of all code that the function uses."""
        if request not in self._versions:
            self._versions[request] = shorten(digest_value([request.name, code_digest(request.function, self._root)]))
        return self._versions[request]

    def view_ref(self, view: FeatureView) -> ViewRef:
        """Return what an online read of a view needs to know."""
        return ViewRef(view.name, self.view_version(view), view.ttl, view.keys)

    def history(self, view: FeatureView, as_of: datetime | None = None) -> pl.LazyFrame:
        """Return a view's rows that were usable by an instant: keys, time, `USABLE` and features.

        Args:
            view: The view.
            as_of: By default now.

        Raises:
            FeatureFunctionError: The view's function fails or returns something unfit.
            LooksAheadError: It uses later rows.
        """
        return self._compute(view).history.until(as_of or self._clock.now()).lazy()

    def columns(self, view: FeatureView) -> Schema:
        """Return a view's features; see `join` for what is raised."""
        return self._joinable(view).columns

    def key_types(self, view: FeatureView) -> pl.Schema:
        """Return the types of a view's keys; see `join` for what is raised."""
        return self._joinable(view).key_types

    def join(
        self,
        view: FeatureView,
        rows: pl.DataFrame,
        *,
        time: str,
        ttl: timedelta | None = None,
        as_of: datetime | None = None,
    ) -> pl.DataFrame:
        """Return a view's features for each row as they were known at its time.

        Args:
            view: The view.
            rows: They have the view's keys and ``time``; what else they have does not matter.
            time: The column of instants at which the features are asked for.
            ttl: A feature row counts until this long after its time, inclusive; for ever by default.
            as_of: Nothing that became known later is used; by default all that is known.

        Returns:
            The features, one row per row, in their order; nulls where there is nothing.

        Raises:
            FeatureFunctionError: The view's function fails or returns something unfit.
            LooksAheadError: It uses later rows.
        """
        spine = rows.select(*view.keys, pl.col(time).alias(AT))
        return self._joinable(view).join(spine, time=AT, as_of=as_of or self._clock.now(), ttl=ttl)

    def materialise(
        self, view: FeatureView, as_of: datetime | None = None, *, actor: str = "system", cause: int | None = None
    ) -> Materialisation:
        """Bring the online rows of a view up to an instant.

        Calling it again changes nothing; after a crash it does what is left. When only time passed, rows that became
        known since are written; when the table's content changed, the online rows become exactly what the new history
        says. It never goes back: an instant before the last one changes nothing.

        Args:
            view: The view.
            as_of: By default now.
            actor: Who or what asked for it.
            cause: The event that brought it about.

        Raises:
            FeatureFunctionError: The view's function fails or returns something unfit; the online rows stay.
            LooksAheadError: It uses later rows; the online rows stay.
            BackendUnavailableError: The store did not answer; the next call does it.
            MaterialisationRunningError: Another process is at it.
        """
        at = as_of or self._clock.now()
        version = self.view_version(view)
        done = None
        if view_key(view.name, version) not in self._computed:  # what takes long may not be needed
            done = self._materialiser.find_done(view, version, self._find_content(view).source, at)
        if done is None:
            done = self._materialiser.materialise(view, version, self._compute(view), at, actor=actor, cause=cause)
        self._retirement.touch(view_key(view.name, version))
        return done

    def retire(self, *, actor: str = "system") -> list[str]:
        """Remove the online rows of versions that nobody asks for any more. See `Retirement.retire`."""
        return self._retirement.retire(actor=actor)

    def read_online(
        self,
        view: str,
        version: str,
        ttl: timedelta | None,
        keys: Sequence[Sequence[Any]],
        at: datetime | Sequence[datetime],
    ) -> list[OnlineFeatures | None]:
        """See `OnlineReader.read`."""
        return self.online.read(view, version, ttl, keys, at)

    def read_vectors(
        self,
        features: Sequence[str | FeatureView],
        entities: Mapping[str, Sequence[Any]],
        views: Mapping[str, FeatureView],
        *,
        has_full_names: bool = False,
    ) -> Vectors:
        """Return features of entities as they are now. See `plan_vectors` and `vectors.read_vectors`."""
        plan = self.plan_vectors(features, views, has_full_names=has_full_names)
        return read_vectors(self.online, plan, entities, self._clock.now())

    def plan_vectors(
        self, features: Sequence[str | FeatureView], views: Mapping[str, FeatureView], *, has_full_names: bool = False
    ) -> VectorPlan:
        """Return the plan of reading a list of features, kept for the next time. See `plan_vectors`."""
        key = (has_full_names, *features)
        plan = self._plans.get(key)
        if plan is None:
            refs = {name: self.view_ref(view) for name, view in views.items()}
            names = [feature.name if isinstance(feature, FeatureView) else feature for feature in features]
            plan = plan_vectors(names, refs, has_full_names=has_full_names)
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def push(self, view: FeatureView, columns: Mapping[str, Sequence[Any]]) -> int:
        """Write rows into the online store as they arrive. See `Pusher.push`."""
        return self._pusher.push(self.view_ref(view), view.time, columns)

    def complete(
        self,
        requests: Sequence[Mapping[str, Any]],
        views: Sequence[ViewRef | tuple[str, str, timedelta | None, Sequence[str]]],
        at: datetime | Sequence[datetime],
    ) -> Completed:
        """See `OnlineReader.complete`."""
        return self.online.complete(requests, views, at)

    def take_counts(self) -> dict[tuple[str, str], int]:
        """See `OnlineReader.take_counts`."""
        return self.online.take_counts()

    def read_rows(
        self, view: ViewRef, keys: Sequence[Sequence[Any]], at: datetime | Sequence[datetime]
    ) -> list[OnlineFeatures | None]:
        """See `OnlineReader.read_rows`."""
        return self.online.read_rows(view, keys, at)

    def identify(self, plan: TrainingSetPlan, *, as_of: datetime, actor: str = "system") -> str:
        """Return what a training set depends on besides the arguments of the call, as a digest.

        ``as_of`` counts only through the snapshots: where it removes no row, the same content has the same identity.
        """
        snapshots = self._snapshots(plan, as_of, actor)
        return digest_value(
            [
                "training_set/2",
                {name: snapshot.id for name, snapshot in snapshots.items()},
                {view.name: self.view_version(view) for view in plan.views},
                {request.name: self.request_features_version(request) for request in plan.requests},
                plan.rule,
                {table.required_name: encode_rules(table.expectations).decode() for table in plan.tables},
            ]
        )

    def build_training_set(self, plan: TrainingSetPlan, *, as_of: datetime, actor: str = "system") -> TrainingSet:
        """Build a training set from what was known at an instant.

        Args:
            plan: What was asked for; see `plan_training_set`.
            as_of: Nothing that became known later is used.
            actor: Who or what asked for it.

        Raises:
            ExpectationsFailedError: A table breaks an expectation of severity ``fail``.
            FlyballError: See `assemble` and `history`.
        """
        snapshots = self._snapshots(plan, as_of, actor)
        kept: dict[str, pl.LazyFrame] = {}
        quarantined: dict[str, int] = {}
        for table in plan.tables:
            name = table.required_name
            if table.expectations:
                report = self._data.check(snapshots[name], table.expectations, actor=actor)
                report.require_passed()
                quarantined[name] = report.quarantined
            kept[name] = self._data.read(snapshots[name].id, without_quarantined=table.expectations)
        lineage = TrainingLineage(
            spine=plan.spine.required_name,
            snapshots={name: snapshot.id for name, snapshot in snapshots.items()},
            views={view.name: self.view_version(view) for view in plan.views},
            ttls={view.name: view.ttl for view in plan.views},
            view_keys={view.name: view.keys for view in plan.views},
            request_features={request.name: self.request_features_version(request) for request in plan.requests},
            label_rule=plan.rule,
            as_of=as_of,
            since=plan.since,
            quarantined={name: count for name, count in quarantined.items() if count},
        )
        assembled = assemble(
            plan,
            spine=kept[plan.spine.required_name],
            labels=kept[plan.label.table.required_name],
            histories={view.name: self._joinable(view) for view in plan.views},
            lineage=lineage,
        )
        return assembled.with_leaks(tuple(find_table_leaks(plan.tables, kept, plan.rule)))

    def _snapshots(self, plan: TrainingSetPlan, as_of: datetime, actor: str) -> dict[str, Snapshot]:
        return {table.required_name: self._data.snapshot(table, as_of=as_of, actor=actor) for table in plan.tables}

    def _joinable(self, view: FeatureView) -> JoinableHistory:
        snapshot = self._data.snapshot(view.table)
        rows = self._data.read(snapshot.id, without_quarantined=view.table.expectations)
        if self._histories is not None:
            return self._histories.open(view, rows, self._data.scratch)
        parts = snapshot.rows * len(snapshot.schema.fields) // self._values_at_once + 1
        if parts == 1:
            return self._compute(view).history
        return PartedHistory(view, rows, 2 * parts, self._data.scratch)

    def _find_content(self, view: FeatureView) -> Content:
        key = view_key(view.name, self.view_version(view))
        fingerprint = self._data.fingerprint(view.table)
        found = self._contents.get(key)
        if found is None or found.fingerprint != fingerprint:
            snapshot = self._data.watch(view.table)  # of all rows, also of those that a replay does not know yet
            source = digest_value([snapshot.id, encode_rules(view.table.expectations).decode()])
            found = self._contents[key] = Content(fingerprint, snapshot, source)
        return found

    def _compute(self, view: FeatureView) -> Computed:
        key = view_key(view.name, self.view_version(view))
        _, snapshot, source = self._find_content(view)
        found = self._computed.get(key)
        if found is not None and found.source == source:
            return found
        rows = self._data.read(snapshot.id, without_quarantined=view.table.expectations)
        if isinstance(view, AggregatedView):
            history, tiles = self._aggregate(view, rows, snapshot, found)
            found = Computed(source, snapshot, history, tiles)
        else:
            found = Computed(source, snapshot, compute_history(view, rows))
        self._computed.pop(key, None)
        self._computed[key] = found
        versions = [name for name in self._computed if name.startswith(f"{view.name}@")]
        for oldest in versions[:-_KEPT_VERSIONS]:
            del self._computed[oldest]
        return found

    def _aggregate(
        self, view: AggregatedView, rows: pl.LazyFrame, snapshot: Snapshot, before: Computed | None
    ) -> tuple[ViewHistory, pl.DataFrame]:
        """Compute an aggregated view from its tiles; of a table that has grown, only from what was added."""
        added = None
        is_whole = not any(rule.severity == "quarantine" for rule in view.table.expectations)
        if before is not None and before.tiles is not None and is_whole:
            added = self._data.read_added(snapshot, before.snapshot)
        if added is None or before is None or before.tiles is None:
            tiles = tiles_of(view, rows)
            return aggregated_history(view, aggregate_tiles(view, tiles)), tiles
        new = tiles_of(view, added)
        tiles = pl.concat([before.tiles, new.cast(before.tiles.schema)])
        features = extend_features(view, before.history.until().drop(USABLE), tiles, new)
        return aggregated_history(view, features), tiles
