"""Scores a project's tables: finds endpoint, table and version by name, and wires what scores."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import polars as pl

from flyball.core.errors import InvalidInputError
from flyball.domain.data.schemas import Schema
from flyball.domain.features.service import FeatureService
from flyball.domain.features.training_sets import ViewRef
from flyball.domain.features.views import FeatureView
from flyball.domain.loop.endpoints import Endpoint
from flyball.domain.registry.versions import NotApprovedError, Status, parse_ref
from flyball.domain.serving.fleet import NothingLiveError
from flyball.domain.serving.graph_scoring import GraphScorer
from flyball.domain.serving.graphs import Node
from flyball.domain.serving.loaded import LoadedVersion
from flyball.domain.serving.row_scoring import RowScorer
from flyball.domain.serving.score_jobs import PART_ROWS, ScoreJob
from flyball.domain.serving.score_requests import ScoreRequest, ScoreResult
from flyball.domain.serving.table_requests import TableRequests
from flyball.domain.serving.table_scores import Listener, TableScoreService
from flyball.domain.serving.table_scoring import TableScorer
from flyball.storage.tables.outputs import OutputFormat
from flyball.workspace.rooms import Rooms
from flyball.workspace.workspace import Workspace


class ScorePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to score, by names.

    Attributes:
        endpoint: The endpoint.
        table: The table.
        out: The folder that the predictions go to.
        version: A version or its number, such as ``credit-risk/3`` or ``3``; the live one by default.
        format: What the folder is.
        keep: The table's columns that stand beside each prediction; key, entity and time by default.
        at_row_time: Whether stored features count as they were at each row's time, instead of as they are now.
        all_rows: Whether all rows are scored, in place of what is there.
        part_rows: How many rows are in memory at a time.
    """

    endpoint: str
    table: str
    out: Path
    version: str | None = None
    format: OutputFormat = "parquet"
    keep: tuple[str, ...] | None = None
    at_row_time: bool = False
    all_rows: bool = False
    part_rows: int = PART_ROWS


def score_table(workspace: Workspace, plan: ScorePlan, listener: Listener | None = None) -> ScoreResult:
    """Score the rows of a table that are new since the last time. See `TableScoreService.score`.

    Raises:
        UnknownNameError: There is no such endpoint, table or version.
        NothingLiveError: No version is live, and none is named.
        NotApprovedError: The version that is named may not answer anybody.
        InvalidInputError: The rows have no time, or a graph answers, and features of their time are asked for; or
            the endpoint prepares its requests, and no version is named to answer without.
    """
    endpoint, table = workspace.project.endpoint(plan.endpoint), workspace.project.table(plan.table)
    by_graph = plan.version is None and endpoint.graph is not None
    if plan.version is None and endpoint.prepare is not None:
        raise InvalidInputError(
            f"{plan.endpoint!r} prepares its requests by a function of its own, which a table's rows do not go through",
            hint="Score a table that has the fields of the model itself, by a version that you name with --version.",
        )
    if by_graph and plan.at_row_time:
        raise InvalidInputError(
            f"{plan.endpoint!r} answers by a graph, whose stored features are those of now",
            hint="Leave --at-row-time out, or name the version that shall answer alone with --version.",
        )
    if "://" in str(plan.out) or str(plan.out).startswith("s3:"):
        raise InvalidInputError(f"--out {str(plan.out)!r} must be a folder of this machine")
    version = workspace.registry.get(find_version(workspace, plan.endpoint, endpoint, plan.version))
    if version.status is not Status.APPROVED:
        raise NotApprovedError(version.ref, version.status, "a version that scores")
    request = ScoreRequest(
        endpoint=plan.endpoint,
        table=table,
        version=version.ref,
        is_pinned=plan.version is not None,
        on_violation=endpoint.on_violation,
        out=plan.out.resolve(),
        format=plan.format,
        keep=plan.keep,
        at_row_time=plan.at_row_time,
        by_graph=by_graph,
        all_rows=plan.all_rows,
        part_rows=plan.part_rows,
        sensitive=workspace.masks.names(plan.endpoint),
    )
    return make_service(workspace).score(request, listener)


def make_service(workspace: Workspace) -> TableScoreService:
    """Return what scores tables of a workspace."""
    loads = _Versions(workspace)
    return TableScoreService(
        workspace.db,
        workspace.journal,
        workspace.clock,
        workspace.ids,
        workspace.data,
        workspace.home / "scores",
        loads.load,
        loads.open_scorer,
    )


def find_version(workspace: Rooms, name: str, endpoint: Endpoint, wanted: str | None) -> str:
    """Return the version that is meant: the live one, or the one named in full or by its number.

    Raises:
        NothingLiveError: None is named, and none is live.
        InvalidInputError: It is of another model.
        NotFoundError: There is no such version.
    """
    if wanted is None:
        champion = workspace.registry.champion(endpoint.model)
        if champion is None:
            raise NothingLiveError(name, endpoint.model)
        return champion.ref
    ref = wanted if "/" in wanted else f"{endpoint.model}/{wanted}"
    if parse_ref(ref)[0] != endpoint.model:
        raise InvalidInputError(f"{wanted} is no version of {endpoint.model!r}, which {name!r} serves")
    return workspace.registry.get(ref).ref


class PastViews:
    """Implements `PastFeatures` over the histories of a version's views.

    Args:
        features: Computes histories.
        views: The views, with the functions that the version was trained with.
    """

    def __init__(self, features: FeatureService, views: Sequence[FeatureView]) -> None:
        self._features = features
        self._views = {view.name: view for view in views}

    def join(self, rows: pl.DataFrame, view: ViewRef, time: str) -> pl.DataFrame:
        """See `PastFeatures.join`."""
        return self._features.join(self._views[view.name], rows, time=time, ttl=view.ttl)

    def columns(self, view: ViewRef) -> Schema:
        """Return a view's features."""
        return self._features.columns(self._views[view.name])


class _Versions:
    """Brings versions into memory once, and makes what scores by them."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._loaded: dict[str, LoadedVersion] = {}

    def load(self, ref: str) -> LoadedVersion:
        if ref not in self._loaded:
            self._workspace.packages.bring_online(ref)
            self._loaded[ref] = self._workspace.packages.load(ref)
        return self._loaded[ref]

    def open_scorer(self, loaded: LoadedVersion, requests: TableRequests, job: ScoreJob) -> TableScorer | RowScorer:
        graph = self._workspace.project.endpoint(job.endpoint).graph
        if job.by_graph and graph is not None:
            return self._open_graph(loaded, requests, graph, job)
        past = None
        if job.at_row_time:
            if loaded.time is None:
                raise InvalidInputError(
                    f"the requests of {loaded.ref} have no time, so features cannot be those of each row's time",
                    hint="Leave --at-row-time out: features count as they are now.",
                )
            past = PastViews(self._workspace.features, self._workspace.packages.views(loaded.ref))
        return TableScorer(loaded, requests, self._workspace.features, past)

    def _open_graph(self, loaded: LoadedVersion, requests: TableRequests, graph: Node, job: ScoreJob) -> RowScorer:
        line = self._workspace.fleet.line(job.endpoint)
        others = {name: self.load(other.ref) for name, other in line.others.items()}
        # Nobody waits for a single row, and thousands at once take longer than one may: nothing is late.
        scorer = GraphScorer(
            (line.served.model, loaded), others, self._workspace.features, line.served.on_violation, deadlines=None
        )
        return RowScorer(loaded, requests, lambda rows, at: scorer.score(graph, rows, at))
