"""Replays the requests that really came through a candidate, after the live version has reproduced its own answers."""

import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
import numpy as np
import polars as pl

from flyball.core.clock import monotonic_s
from flyball.core.errors import InvalidInputError
from flyball.domain.loop.endpoints import Endpoint
from flyball.domain.loop.traffic import Comparison, LatencyPair, Reproduction, TrafficReplay
from flyball.domain.loop.traffic_comparing import compare_versions, judge_reproduction, tell_verdict
from flyball.domain.monitoring.metrics import METRICS
from flyball.domain.monitoring.monitors import Performance
from flyball.domain.predictions.frames import FRAME_SCHEMA, expand_json, to_frame
from flyball.domain.predictions.label_book import LabelBook
from flyball.domain.predictions.log import list_open_segments, read_segment
from flyball.domain.registry.signatures import Signature
from flyball.domain.serving.loaded import LoadedVersion
from flyball.domain.serving.replaying import Replayed, replay_inputs, replay_rows
from flyball.domain.serving.scoring import score_rows
from flyball.workspace.scores import PastViews, find_version
from flyball.workspace.workspace import Workspace

MOST_ROWS = 100_000
_TIMED_ROWS = 200
_WARMING_ROWS = 20
_THRESHOLD = 0.5
_DEFAULT_METRICS = {"binary": "auc", "multiclass": "accuracy", "regression": "mae"}
_FITTING = {"binary": ("binary", "classes"), "multiclass": ("classes",), "regression": ("regression",)}


class TrafficPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Which traffic to replay, and through what.

    Attributes:
        candidate: The version, or its number.
        endpoint: The endpoint; the only one by default.
        last: How far back.
        threshold: From which chance on a decision is yes, for two classes; 0.5 by default.
        most_rows: How many requests at most, the latest.
    """

    candidate: str
    endpoint: str | None = None
    last: timedelta = timedelta(days=30)
    threshold: float | None = None
    most_rows: int = MOST_ROWS


class NoTrafficError(InvalidInputError):
    """Nothing was answered in the time whose requests shall be replayed."""

    code = "workspace/no-traffic"

    def __init__(self, endpoint: str, since: datetime, left_out: Mapping[str, int] | None = None) -> None:
        found = "answered nothing"
        if left_out:
            others = ", ".join(f"{count:,} by {who}" for who, count in left_out.items())
            found = f"answered nothing by its own model alone, but {others},"
        super().__init__(
            f"{endpoint!r} {found} since {since:%Y-%m-%d %H:%M} UTC, so there is nothing to replay",
            hint="Reach further back with --last, or replay the project's past without --candidate.",
        )


def replay_traffic(workspace: Workspace, plan: TrafficPlan) -> TrafficReplay:
    """Replay logged requests through the live version and a candidate.

    Raises:
        UnknownNameError: There is no such endpoint or version.
        NothingLiveError: No version is live.
        NoTrafficError: Nothing was answered in that time.
        InvalidInputError: A threshold is given for a model without two classes, or is no chance.
        FlyballError: A package cannot be loaded.
    """
    endpoint = workspace.project.endpoint_or_only(plan.endpoint)
    name = endpoint.name or ""
    live = find_version(workspace, name, endpoint, None)
    candidate = find_version(workspace, name, endpoint, plan.candidate)
    until = workspace.clock.now()
    since = until - plan.last
    # Of all of the time only who answered; what was asked, of as many as are replayed.
    answered = read_answered(workspace, name, since, until, ("id", "at", "version", "node"))
    is_alone = answered.select(_answered_by(endpoint.model)).to_series()
    whole, left_out = answered.filter(is_alone), _count_others(answered.filter(~is_alone))
    if not whole.height:
        raise NoTrafficError(name, since, left_out)
    latest = whole.tail(plan.most_rows)
    rows = read_answered(workspace, name, latest["at"][0], until, ids=latest["id"])
    replayer = _Replayer(workspace, endpoint)
    _check_threshold(plan.threshold, live, replayer.load(live).signature)
    again = replayer.replay(live, rows)
    reproduction = _prove(replayer, live, rows, again)
    comparison = None
    if reproduction.is_proven:
        comparison = _compare(workspace, replayer, plan, (live, candidate), rows, again)
    answered_by = dict(rows["version"].value_counts(sort=True).iter_rows())
    return TrafficReplay(
        project=workspace.project.root.name,
        endpoint=name,
        live=live,
        candidate=candidate,
        since=since,
        until=until,
        requests=whole.height,
        replayed=rows.height,
        answered_by=answered_by,
        left_out=left_out,
        reproduction=reproduction,
        comparison=comparison,
        verdict=tell_verdict(live, candidate, reproduction, comparison),
    )


def _check_threshold(threshold: float | None, ref: str, signature: Signature) -> None:
    if threshold is None:
        return
    if signature.task != "binary":
        raise InvalidInputError(
            f"a threshold is for models of two classes, but {ref} is a {signature.task} model", hint="Leave it out."
        )
    if not 0 < threshold < 1:
        raise InvalidInputError(f"the threshold {threshold:g} is no chance between 0 and 1", hint="Such as 0.3.")


def read_answered(
    workspace: Workspace,
    endpoint: str,
    since: datetime,
    until: datetime,
    columns: Sequence[str] = tuple(FRAME_SCHEMA),
    ids: pl.Series | None = None,
) -> pl.DataFrame:
    """Return the requests that were answered in [since, until), sealed and not yet sealed, the earliest first."""
    is_meant = (pl.col("status") == "ok") & (pl.col("variant") != "shadow")
    is_asked = (pl.col("at") >= since) & (pl.col("at") < until)
    if ids is not None:
        is_asked &= pl.col("id").is_in(ids.implode())
    workspace.predictions.log.rotate()

    def read_sealed() -> pl.DataFrame:
        sealed = workspace.predictions.scan(endpoint, since, until)
        return sealed.filter(is_meant, is_asked).select(columns).collect()

    frames = [read_sealed()]
    for path in list_open_segments(workspace.home / "predictions", endpoint):
        try:
            frames.append(to_frame(read_segment(path).records).filter(is_meant, is_asked).select(columns))
        except FileNotFoundError:  # it was sealed meanwhile
            frames.append(read_sealed())
    rows: pl.DataFrame = pl.concat(frames).unique("id", maintain_order=True)
    return rows.sort("at", "id")


def _answered_by(model: str) -> pl.Expr:
    """Tell which answers a version of the model gave alone: the others of a graph cannot be had again from it."""
    is_joint = pl.col("node").str.contains("ensemble[", literal=True).fill_null(False)
    return pl.col("version").str.starts_with(f"{model}/") & ~is_joint


def _count_others(rows: pl.DataFrame) -> dict[str, int]:
    is_joint = pl.col("node").str.contains("ensemble[", literal=True).fill_null(False)
    who = (
        pl.when(is_joint)
        .then(pl.lit("several models together"))
        .when(pl.col("version") == "")
        .then(pl.lit("a constant"))
        .otherwise(pl.col("version"))
    )
    return dict(rows.select(who.alias("who")).to_series().value_counts(sort=True).iter_rows())


class _Replayer:
    """Loads versions and replays rows through them."""

    def __init__(self, workspace: Workspace, endpoint: Endpoint) -> None:
        self._workspace = workspace
        self._endpoint = endpoint
        self._loaded: dict[str, LoadedVersion] = {}

    def load(self, ref: str) -> LoadedVersion:
        if ref not in self._loaded:
            self._loaded[ref] = self._workspace.packages.load(ref)
        return self._loaded[ref]

    def replay(self, ref: str, rows: pl.DataFrame) -> Replayed:
        past = PastViews(self._workspace.features, self._workspace.packages.views(ref))
        return replay_rows(self.load(ref), rows, past, past.columns, self._endpoint.on_violation, self.masked)

    @property
    def masked(self) -> Sequence[str]:
        mask = self._workspace.masks.of(self._endpoint.name or "")
        return mask.names if mask is not None else ()

    def time(self, refs: Sequence[str], rows: pl.DataFrame) -> list[tuple[float, float]]:
        """Return the median and the 99th percentile of single requests to each version, in milliseconds.

        They take turns, so that what else the machine does slows none of them alone.
        """
        for ref in refs:
            self._workspace.packages.bring_online(ref)
        requests = [msgspec.json.decode(text) for text in rows["request"]]
        at = self._workspace.clock.now()
        times: list[list[float]] = [[] for _ in refs]
        for request in itertools.chain(requests[:_WARMING_ROWS], requests):
            for ref, taken in zip(refs, times, strict=True):
                loaded = self.load(ref)
                began = monotonic_s()
                score_rows(loaded, self._workspace.features, [request], [at], self._endpoint.on_violation)
                taken.append((monotonic_s() - began) * 1_000)
        measured = [taken[min(_WARMING_ROWS, len(requests)) :] for taken in times]
        return [(float(np.quantile(taken, 0.5)), float(np.quantile(taken, 0.99))) for taken in measured]


def _prove(replayer: _Replayer, live: str, rows: pl.DataFrame, again: Replayed) -> Reproduction:
    own = (rows["version"] == live).arg_true().to_list()
    if not own:
        return Reproduction(rows=0, same=0, largest_difference=0.0)
    logged = rows[own]
    places = {row: place for place, row in enumerate(own)}
    rejected = [verdict._replace(row=places[verdict.row]) for verdict in again.rejected if verdict.row in places]
    loaded = replayer.load(live)
    inputs = replay_inputs(loaded, logged)
    needed = [field for field in replayer.masked if field in loaded.input_types]
    return judge_reproduction(logged, again.answers[own], inputs, rejected, replayer.masked, needed)


def _compare(
    workspace: Workspace,
    replayer: _Replayer,
    plan: TrafficPlan,
    versions: tuple[str, str],
    rows: pl.DataFrame,
    again: Replayed,
) -> Comparison:
    live, candidate = versions
    found = replayer.replay(candidate, rows)
    signature = replayer.load(live).signature
    endpoint = workspace.project.endpoint_or_only(plan.endpoint)
    labelled = _read_labels(workspace, endpoint.name or "", rows)
    comparison = compare_versions(
        rows,
        signature,
        again.answers,
        found.answers,
        rejected=found.rejected,
        labelled=labelled,
        metric=_choose_metric(endpoint, signature),
        threshold=_THRESHOLD if plan.threshold is None else plan.threshold,
        fields=expand_json(rows, "features", dict(replayer.load(live).input_types)),
        looked_back=found.looked_back,
    )
    timed = rows.tail(_TIMED_ROWS)
    (live_p50, live_p99), (new_p50, new_p99) = replayer.time((live, candidate), timed)
    latency = LatencyPair(
        rows=timed.height,
        live_p50_ms=live_p50,
        live_p99_ms=live_p99,
        candidate_p50_ms=new_p50,
        candidate_p99_ms=new_p99,
    )
    return msgspec.structs.replace(comparison, latency=latency)


def _read_labels(workspace: Workspace, endpoint: str, rows: pl.DataFrame) -> pl.DataFrame:
    labels = LabelBook(workspace.db).known_at(endpoint, workspace.clock.now())
    return labels.filter(pl.col("prediction_id").is_in(rows["id"].implode())).select(
        pl.col("prediction_id").alias("id"), "label"
    )


def _choose_metric(endpoint: Endpoint, signature: Signature) -> str | None:
    """Return the metric of the endpoint's own monitor where it fits the model, else the usual one."""
    declared = next((found.metric for found in endpoint.monitors if isinstance(found, Performance)), None)
    if declared is not None and METRICS[declared].task in _FITTING[signature.task]:
        return declared
    return _DEFAULT_METRICS[signature.task]
