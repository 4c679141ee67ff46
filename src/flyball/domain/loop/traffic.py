"""What a replay of real traffic found out, as values: live proven on itself, and the candidate beside it."""

from datetime import datetime
from typing import Literal

import msgspec


class Reproduction(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the live version, asked again, says what the log says that it said.

    Attributes:
        rows: Logged answers of the live version that it was asked for again.
        same: How many of them came out alike.
        largest_difference: Between an answer and the one that was logged.
        reasons: Why not all of them did, as far as can be told.
        examples: Predictions that came out otherwise.
    """

    rows: int
    same: int
    largest_difference: float
    reasons: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()

    @property
    def is_proven(self) -> bool:
        """Whether a comparison rests on firm ground: all came out alike, or nothing was there to try."""
        return self.same == self.rows


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """The requests with one value of a field, or between two.

    Attributes:
        field: The field.
        value: Its value, or the range of its values.
        rows: How many requests.
        flips: The share of them that the candidate decides otherwise.
        mean_live: The mean answer of the live version.
        mean_candidate: The candidate's.
        labels: How many of them have turned out.
        metric_live: How well the live version did on those.
        metric_candidate: How well the candidate would have.
    """

    field: str
    value: str
    rows: int
    flips: float
    mean_live: float
    mean_candidate: float
    labels: int = 0
    metric_live: float | None = None
    metric_candidate: float | None = None


class MetricPair(msgspec.Struct, frozen=True, kw_only=True):
    """How well both would have done, by the labels that have come since.

    Attributes:
        name: The metric.
        better: Which way is good.
        labels: How many labels.
        live: The live version's.
        candidate: The candidate's.
        stderr: How far chance could move one of them; None where no formula is known.
    """

    name: str
    better: Literal["higher", "lower", "near-zero"]
    labels: int
    live: float | None
    candidate: float | None
    stderr: float | None = None

    @property
    def gain(self) -> float | None:
        """How much better the candidate is; negative where it is worse."""
        if self.live is None or self.candidate is None:
            return None
        if self.better == "near-zero":
            return abs(self.live) - abs(self.candidate)
        return self.candidate - self.live if self.better == "higher" else self.live - self.candidate


class LatencyPair(msgspec.Struct, frozen=True, kw_only=True):
    """How long one request takes, here and now, by the path of live requests, in milliseconds."""

    rows: int
    live_p50_ms: float
    live_p99_ms: float
    candidate_p50_ms: float
    candidate_p99_ms: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The candidate beside the live version, on the same requests.

    Attributes:
        rows: Requests that both answered.
        refused: Requests that the candidate does not answer though they were answered live.
        reasons: Why not, with how many requests each.
        decides: What counts as a flip, in words.
        flips: How many decisions differ.
        to_higher: How many of these go up, where decisions have an order.
        mean_live: The mean answer of the live version.
        mean_candidate: The candidate's.
        mean_change: The mean size of an answer's change.
        largest_change: The greatest.
        slices: Where the decisions differ most.
        metric: Both against what has turned out.
        latency: What one request costs.
        looked_back: By view the number of requests whose features the candidate takes from the view's history, since
            they were not served then.
    """

    rows: int
    refused: int
    reasons: dict[str, int]
    decides: str
    flips: int
    to_higher: int | None
    mean_live: float | None
    mean_candidate: float | None
    mean_change: float | None
    largest_change: float | None
    slices: tuple[Slice, ...]
    metric: MetricPair | None
    latency: LatencyPair | None
    looked_back: dict[str, int]

    @property
    def flip_share(self) -> float:
        """The share of decisions that differ."""
        return self.flips / self.rows if self.rows else 0.0


class TrafficReplay(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate before the requests that really came.

    Attributes:
        project: The project's name.
        endpoint: Whose requests.
        live: The version that answers now.
        candidate: The version that might.
        since: From when the requests are.
        until: To when.
        requests: How many were answered in that time.
        replayed: How many of them were replayed: the latest.
        answered_by: Who answered those then.
        left_out: Further requests that others of the endpoint's graph answered, by who that was; one version cannot
            give those answers again.
        reproduction: Live on itself.
        comparison: The candidate beside it; None where live did not come out as logged.
        verdict: All of it in a few plain sentences.
    """

    project: str
    endpoint: str
    live: str
    candidate: str
    since: datetime
    until: datetime
    requests: int
    replayed: int
    answered_by: dict[str, int]
    left_out: dict[str, int] = {}
    reproduction: Reproduction
    comparison: Comparison | None
    verdict: str
