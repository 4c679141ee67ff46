"""What can be done with one project and its home, over all of its rooms."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from flyball.core.clock import SystemClock
from flyball.domain.data.reports import Report
from flyball.domain.data.snapshots import Snapshot
from flyball.domain.features.materialising import Materialisation
from flyball.domain.features.vectors import Vectors
from flyball.domain.features.views import FeatureView
from flyball.domain.loop.deployment import RollbackResult
from flyball.domain.pipelines.fingerprints import clock_ns
from flyball.domain.pipelines.results import Progress, RunResult
from flyball.domain.pipelines.service import PipelineService
from flyball.engines.inline import InlineEngine
from flyball.engines.local import LocalEngine
from flyball.workspace.columns import read_keys
from flyball.workspace.rooms import Rooms

if TYPE_CHECKING:
    import polars as pl


class CheckedSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot and what its table's expectations say of it; None where the table declares none."""

    snapshot: Snapshot
    report: Report | None


class Workspace(Rooms):
    """One project and its home: its rooms, and what people do with them. See `Rooms` for the arguments."""

    def run(
        self,
        pipeline: str,
        params: Mapping[str, Any] | None = None,
        *,
        cause: int | None = None,
        actor: str = "user",
        progress: Progress | None = None,
        is_inline: bool = False,
    ) -> RunResult:
        """Run a pipeline of the project as of the clock's present.

        Args:
            pipeline: Its name.
            params: Parameters by ``STEP.NAME``.
            cause: The event that brings it about.
            actor: Who or what asks.
            progress: Is told how it goes.
            is_inline: Whether its steps run in this process instead of workers; for replays.

        Raises:
            UnknownNameError: The project declares no such pipeline.
            InvalidInputError: The pipeline cannot be drawn, or a parameter is wrong.
        """
        loaded_ns = clock_ns()
        project = self.project
        self.registry.declare(self.gate_plan())
        service = PipelineService(
            self.db,
            self.journal,
            self.clock,
            self.tracking,
            self.blobs,
            InlineEngine() if is_inline else LocalEngine(self.settings.workers or None),
            self.run_services(),
            self.project_dir,
            tables=lambda: [table.place(project.root) for table in project.tables.values()],
            loaded_ns=loaded_ns,
        )
        # Live, a run takes all there is; only a simulated present cuts off what is not known yet.
        as_of = None if isinstance(self.clock, SystemClock) else self.clock.now()
        return service.run(project.pipeline(pipeline), params, cause=cause, actor=actor, as_of=as_of, progress=progress)

    def snapshot(self, table: str, *, accept_schema_change: bool = False) -> CheckedSnapshot:
        """Keep a table as it is now, and judge it by its expectations.

        Raises:
            UnknownNameError: The project declares no such table.
            FlyballError: The source cannot be used; nothing is kept then.
        """
        declared = self.project.table(table)
        kept = self.data.snapshot(declared, actor="user", accept_schema_change=accept_schema_change)
        report = self.data.check(kept, declared.expectations, actor="user") if declared.expectations else None
        return CheckedSnapshot(snapshot=kept, report=report)

    def get_online_features(
        self,
        features: Sequence[str | FeatureView],
        entities: "Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]] | pl.DataFrame",
        *,
        has_full_names: bool = False,
    ) -> Vectors:
        """Return features of entities as they are now, from the online store.

        Args:
            features: Views, or references ``view``, ``view:feature`` or ``view@version:feature``.
            entities: The values of each key, one an entity, in columns, a frame, or a mapping for each entity; a number
                may be given as text.
            has_full_names: Whether to call features ``view__feature`` in the answer.

        Raises:
            InvalidInputError: What is asked is none, or keys are missing.
            UnknownNameError: There is no such view or feature.
            NotMaterialisedError: A view was never written to the online store.
            BackendUnavailableError: The store did not answer, and ``online_fallback`` does not say to go on without it.
        """
        wanted: Any = features if isinstance(features, list | tuple) else [features]  # a single view, perhaps
        keys = read_keys(entities, what="entities")
        return self.features.read_vectors(wanted, keys, self.project.views, has_full_names=has_full_names)

    def materialise(self, views: Sequence[str] = (), *, until: datetime | None = None) -> list[Materialisation]:
        """Bring the online rows of views up to an instant, but not beyond now; of all views by default.

        Raises:
            UnknownNameError: The project declares no such view.
            FlyballError: See `FeatureService.materialise`; the views before it are done.
        """
        now = self.clock.now()
        as_of = now if until is None else min(until if until.tzinfo else until.replace(tzinfo=UTC), now)
        names = [views] if isinstance(views, str) else views
        declared = [self.project.view(name) for name in names] or list(self.project.views.values())
        return [self.features.materialise(view, as_of, actor="user") for view in declared]

    def rollback(self, endpoint: str, *, actor: str, reason: str) -> RollbackResult:
        """Return to the version that was live before. See `Deployer.roll_back`."""
        return self.deployer.roll_back(endpoint, self.project.endpoint(endpoint), reason=reason, actor=actor)

    def predict(self, endpoint: str, requests: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Answer requests in this process. See `DataPlane.predict`."""
        return list(self.data_plane.predict(endpoint, requests))
