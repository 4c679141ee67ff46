"""The path of a request, without any transport: route, check, complete, compute, log, answer."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

from flyball.core.clock import Clock, monotonic_s
from flyball.core.errors import FlyballError, InvalidInputError
from flyball.core.ids import IdSource
from flyball.domain.predictions.labels import key_value
from flyball.domain.predictions.log import PredictionLog
from flyball.domain.predictions.records import LIVE_FOR_CANARY, PredictionRecord, PredictionStatus
from flyball.domain.registry.runtimes import EachForm, each_form
from flyball.domain.serving.answers import Answer, require_answered
from flyball.domain.serving.deadlines import Deadlines
from flyball.domain.serving.direct import Block, DirectVersion, find_direct, list_rows
from flyball.domain.serving.direct_plane import DirectAnswer, DirectAsk, DirectPlane
from flyball.domain.serving.explaining import check_explainable, explain_rows
from flyball.domain.serving.fleet import Fleet, Line, NothingLiveError, pin
from flyball.domain.serving.graph_scoring import GraphScorer, prepare_rows
from flyball.domain.serving.loaded import FeatureLookup, LoadedVersion
from flyball.domain.serving.plan import Variant
from flyball.domain.serving.routing import pick_variant
from flyball.domain.serving.rows import Row, failure_of, make_answer, make_record, version_of
from flyball.domain.serving.scoring import Attempt, Scored, score_rows
from flyball.domain.serving.streaming import score_each

Defer = Callable[[Callable[[], None]], None]
"""Takes work to be done once the answer is out."""
Mark = Callable[[str], None]
"""Told the name of a stage when it ends."""
_STREAMED_ROWS = 32
_log = logging.getLogger("flyball.serving")


class DataPlane:
    """Answers requests of all endpoints. Safe to call from several threads.

    Args:
        fleet: Who answers.
        lookup: Stored features.
        log: Is written before anything is answered.
        clock: The present.
        ids: Names predictions; one seeded alike makes a replay repeatable.
    """

    def __init__(
        self, fleet: Fleet, lookup: FeatureLookup, log: PredictionLog, clock: Clock, ids: IdSource | None = None
    ) -> None:
        self.fleet = fleet
        self._lookup = lookup
        self._prediction_log = log
        self._clock = clock
        self._ids = ids or IdSource(clock)
        self._direct = DirectPlane(lookup, log, clock, self._ids)
        # One for each endpoint that is a graph: a model that hangs keeps threads of its own endpoint only.
        self._deadlines: dict[str, Deadlines] = {}

    def find_direct(self, endpoint: str, pinned: LoadedVersion | None = None) -> DirectVersion | None:
        """Return what reads requests to an endpoint for the short way; None where only `predict` answers.

        Raises:
            UnknownNameError: There is no such endpoint.
        """
        line = self.fleet.line(endpoint)
        loaded = pinned or line.live
        return None if loaded is None or not line.served.is_plain else find_direct(loaded)

    def has_direct(self, endpoint: str) -> bool:
        """Tell whether requests to an endpoint can go the short way now."""
        line = self.fleet.lines.get(endpoint)
        if line is None or line.live is None or not line.served.is_plain or find_direct(line.live) is None:
            return False
        # What must be brought into memory first takes long.
        return not getattr(line.live.predictor, "is_away", False)

    def is_plain(self, endpoint: str) -> bool:
        """Tell whether a model alone answers at an endpoint, so that `predict_together` gains something."""
        line = self.fleet.lines.get(endpoint)
        return line is not None and line.served.is_plain and line.live is not None

    def begin_direct(
        self, endpoint: str, version: DirectVersion, block: Block, started_s: float, *, is_pinned: bool = False
    ) -> DirectAsk | None:
        """Return a request on the short way; None where it must go through `predict`. See `DirectPlane.route`."""
        line = self.fleet.line(endpoint)
        if not line.served.is_plain or (not is_pinned and line.live is not version.loaded):
            return None  # it is a graph, or was swapped since the rows were read
        return self._direct.route(line, version, block, started_s, is_pinned=is_pinned)

    def answer_direct(self, asks: Sequence[DirectAsk], *, defer: Defer | None = None) -> list[DirectAnswer | None]:
        """Answer requests together, in order; None for one that must go through `predict`, which says why.

        When this returns, all that is answered is in the prediction log.

        Args:
            asks: Requests of `begin_direct`.
            defer: Takes the work of shadows; done before this returns by default.
        """
        answers = self._direct.answer(asks)
        if any(ask.line.candidate is not None and ask.line.plan.has_shadow for ask in asks):
            (defer or _now)(lambda: self._shadow_direct(asks, answers))
        return answers

    def _shadow_direct(self, asks: Sequence[DirectAsk], answers: Sequence[DirectAnswer | None]) -> None:
        try:
            left = self._direct.answer_shadows(asks, answers)
        except FlyballError as error:
            _log.warning("shadow predictions are lost: %s", error.message)
            return
        for place in left:
            ask, answer = asks[place], answers[place]
            now = self._clock.now()
            rows = [
                Row(request=request, at=now, variant=Variant.LIVE, id=identifier)
                for request, identifier in zip(
                    list_rows(ask.version, ask.block), answer.ids if answer else (), strict=True
                )
            ]
            self._run_shadow(ask.line, rows)

    def predict(
        self,
        endpoint: str,
        requests: Sequence[Any],
        at: datetime | Sequence[datetime] | None = None,
        *,
        defer: Defer | None = None,
        pinned: LoadedVersion | None = None,
        mark: Mark | None = None,
        explain: bool = False,
    ) -> list[Answer]:
        """Answer rows together; each is checked, routed and logged for itself, and one bad row spoils no other.

        When this returns, every row is in the prediction log. A canary whose model fails is answered by the live
        version, and its failure is logged.

        Args:
            endpoint: Who is asked.
            requests: Field names and JSON values of each row; instants may be aware datetimes.
            at: When each row, or all, was asked; now by default.
            defer: Takes the work of shadows, so that they cost the caller no time; done before this returns by
                default.
            pinned: The version that shall answer all rows, whatever the routing says.
            mark: Told the name of each stage when it ends: ``score``, ``log``.
            explain: Whether each answer shall tell what each feature added to it.

        Returns:
            One answer a row, in order; `Answer.status` tells whether it has a prediction.

        Raises:
            UnknownNameError: There is no such endpoint.
            NothingLiveError: No version is live.
            TooManyExplainedError: More rows shall be explained than is done at once.
            LogUnavailableError: The log cannot be written; nothing is answered.
        """
        answers = self._predict(endpoint, requests, at, defer, pinned, mark, explain=explain)
        assert answers is not None  # only a tentative call gives none
        return answers

    def predict_together(
        self, endpoint: str, requests: Sequence[Any], *, defer: Defer | None = None
    ) -> list[Answer] | None:
        """Answer the rows of several callers as `predict` does; None, and nothing logged, where a model failed.

        A model that fails may do so for all rows at once: each caller must be answered alone then.
        """
        return self._predict(endpoint, requests, None, defer, None, None, is_tentative=True)

    def stream(self, endpoint: str, requests: Sequence[Any], *, defer: Defer | None = None) -> Iterator[Answer]:
        """Answer rows as `predict` does, and yield each answer, in order, once it is known and in the prediction log.

        A model that yields is asked for one row after the other, and ends its work when the iterator is closed: rows
        that were not reached are neither answered nor logged. Other models, graphs, and endpoints with a canary answer
        a few rows at a time.
        """
        line = self.fleet.line(endpoint)
        form = each_form(_require_live(line).predictor)
        if form is not None and line.served.is_plain and (line.candidate is None or line.plan.share <= 0.0):
            yield from self._stream(line, _require_live(line), form, requests, defer or _now)
            return
        step = _STREAMED_ROWS if form is None else 1
        for start in range(0, len(requests), step):
            yield from self.predict(endpoint, requests[start : start + step], defer=defer)

    def _stream(
        self, line: Line, live: LoadedVersion, form: EachForm, requests: Sequence[Any], defer: Defer
    ) -> Iterator[Answer]:
        now = self._clock.now()
        rows = [Row(request=request, at=now, variant=Variant.LIVE) for request in requests]
        answered: list[Row] = []
        begun_s = monotonic_s()
        each = score_each(live, form, self._lookup, requests, [now] * len(rows), line.served.on_violation)
        with closing(each):
            for row, scored in zip(rows, each, strict=True):
                row.scored, row.id = scored, self._ids.new()
                self._prediction_log.append(line.served.name, [make_record(line, row, _share_of(begun_s, 1))])
                if row.scored.status is PredictionStatus.OK:
                    answered.append(row)
                yield make_answer(line, row)
                begun_s = monotonic_s()
        if answered and line.candidate is not None and line.plan.has_shadow:
            defer(lambda: self._run_shadow(line, answered))

    def _predict(
        self,
        endpoint: str,
        requests: Sequence[Any],
        at: datetime | Sequence[datetime] | None,
        defer: Defer | None,
        pinned: LoadedVersion | None,
        mark: Mark | None,
        *,
        explain: bool = False,
        is_tentative: bool = False,
    ) -> list[Answer] | None:
        started_s = monotonic_s()
        if explain:
            check_explainable(len(requests))
        line = self.fleet.line(endpoint)
        if pinned is not None:
            line = pin(line, pinned)
        live = _require_live(line)
        rows, right = self._make_rows(line, live, requests, _times(at, len(requests), self._clock))
        records = self._score_all(line, right, started_s)
        if is_tentative and (records or any(row.scored.status is PredictionStatus.ERROR for row in rows)):
            return None
        if explain:
            _explain(line, rows)
        if mark is not None:
            mark("score")
        for row in rows:
            row.id = self._ids.new()
        latency_us = _share_of(started_s, len(rows))
        for row in rows:
            records += [self._record_attempt(line, row, attempt, latency_us) for attempt in row.scored.attempts]
        records += [make_record(line, row, latency_us) for row in rows]
        self._prediction_log.append(endpoint, records)
        if mark is not None:
            mark("log")
        if line.candidate is not None and line.plan.has_shadow:
            shadowed = [row for row in rows if row.scored.status is PredictionStatus.OK]
            if shadowed:
                (defer or _now)(lambda: self._run_shadow(line, shadowed))
        return [make_answer(line, row) for row in rows]

    def _make_rows(
        self, line: Line, live: LoadedVersion, requests: Sequence[Any], times: Sequence[datetime]
    ) -> tuple[list[Row], list[Row]]:
        """Return all rows, and those of them that could be prepared."""
        unprepared: dict[int, Scored] = {}
        if line.served.prepare is not None:
            requests, unprepared = prepare_rows(line.served.prepare, requests)
        rows = [
            Row(request=request, at=time, variant=self._route(line, live, request))
            for request, time in zip(requests, times, strict=True)
        ]
        for place, scored in unprepared.items():
            rows[place].variant, rows[place].scored = Variant.LIVE, scored
        return rows, [row for place, row in enumerate(rows) if place not in unprepared] if unprepared else rows

    def predict_one(self, endpoint: str, request: Any, at: datetime | None = None, *, explain: bool = False) -> Answer:
        """Answer one row, and explain the answer if that is asked for.

        Raises:
            RequestRefusedError: The request is not what the model asks for.
            ModelFailedError: The model, or what it relies on, failed.
            FeaturesUnavailableError: The online store did not answer.
        """
        [answer] = self.predict(endpoint, [request], at, explain=explain)
        return require_answered(answer, failure_of(answer))

    def _route(self, line: Line, live: LoadedVersion, request: Any) -> Variant:
        if line.plan.is_pinned:
            return Variant.PINNED
        if line.plan.share <= 0.0 or line.candidate is None:
            return Variant.LIVE
        names = line.plan.by or live.sticky_keys
        values = [key_value(request.get(name)) for name in names] if isinstance(request, dict) else []
        return pick_variant(line.plan, values if any(value is not None for value in values) else [self._ids.new()])

    def _score_all(self, line: Line, rows: Sequence[Row], started_s: float) -> list[PredictionRecord]:
        """Score rows by their variants; return the records of canaries that failed and were answered otherwise."""
        self._score(line, [row for row in rows if row.variant is not Variant.CANARY], Variant.LIVE)
        canaries = [row for row in rows if row.variant is Variant.CANARY]
        self._score(line, canaries, Variant.CANARY)
        failed = [row for row in canaries if row.scored.status is PredictionStatus.ERROR]
        records = []
        for row in failed:
            row.id = self._ids.new()
            records.append(make_record(line, row, _share_of(started_s, len(rows))))
            row.variant, row.node = Variant.LIVE, LIVE_FOR_CANARY
        self._score(line, failed, Variant.LIVE)
        return records

    def _score(self, line: Line, rows: Sequence[Row], variant: Variant) -> None:
        loaded = line.live if variant is Variant.LIVE else line.candidate
        if not rows or loaded is None:
            return
        requests, times = [row.request for row in rows], [row.at for row in rows]
        for row, scored in zip(rows, self._compute(line, loaded, variant, requests, times), strict=True):
            row.scored = scored

    def _compute(
        self, line: Line, loaded: LoadedVersion, variant: Variant, requests: Sequence[Any], times: Sequence[datetime]
    ) -> list[Scored]:
        """Let the model answer, or the endpoint's graph with that version in the place of its own model."""
        served = line.served
        if served.graph is None:
            return score_rows(loaded, self._lookup, requests, times, served.on_violation)
        scorer = GraphScorer(
            (served.model, loaded),
            line.others,
            self._lookup,
            served.on_violation,
            self._deadlines.get(served.name) or self._deadlines.setdefault(served.name, Deadlines()),
            has_fallbacks=variant is Variant.LIVE,
        )
        return scorer.score(served.graph, requests, times)

    def _record_attempt(self, line: Line, row: Row, attempt: Attempt, latency_us: int) -> PredictionRecord:
        """Return the record of what failed before something else answered."""
        failed = Scored(
            status=PredictionStatus.ERROR,
            failure=attempt.failure,
            ref=attempt.ref,
            node=attempt.node,
            entity=row.scored.entity,
            key=row.scored.key,
            time=row.scored.time,
        )
        tried = Row(request=row.request, at=row.at, variant=row.variant, scored=failed, id=self._ids.new())
        return make_record(line, tried, latency_us)

    def _run_shadow(self, line: Line, answered: Sequence[Row]) -> None:
        """Compute and log what the candidate would have answered; nothing of it reaches the caller."""
        started_s = monotonic_s()
        rows = [Row(request=row.request, at=row.at, variant=Variant.SHADOW) for row in answered]
        self._score(line, rows, Variant.SHADOW)
        latency_us = _share_of(started_s, len(rows))
        records = []
        for row, original in zip(rows, answered, strict=True):
            row.id = self._ids.new()
            records.append(make_record(line, row, latency_us, shadow_of=original.id))
        try:
            self._prediction_log.append(line.served.name, records)
        except FlyballError as error:
            _log.warning("%d shadow predictions of %s are lost: %s", len(records), line.served.name, error.message)


def _explain(line: Line, rows: Sequence[Row]) -> None:
    versions = [line.live, line.candidate, *line.others.values()]
    for loaded in {version.ref: version for version in versions if version is not None}.values():
        explain_rows(loaded, [row.scored for row in rows if _who(line, row) == loaded.ref])


def _who(line: Line, row: Row) -> str:
    """Return the version that gave a row's answer alone; empty where several did, or none."""
    scored = row.scored
    if scored.node is not None and "ensemble[" in scored.node:
        return ""
    return version_of(line.plan, row.variant) if scored.ref is None else scored.ref


def _now(work: Callable[[], None]) -> None:
    work()


def _require_live(line: Line) -> LoadedVersion:
    if line.live is not None:
        return line.live
    raise line.problem or NothingLiveError(line.served.name, line.served.model)


def _times(at: datetime | Sequence[datetime] | None, count: int, clock: Clock) -> Sequence[datetime]:
    if at is None or isinstance(at, datetime):
        return [at or clock.now()] * count
    if len(at) != count:
        raise InvalidInputError(f"{len(at)} times were given for {count} requests")
    return at


def _share_of(started_s: float, rows: int) -> int:
    return int((monotonic_s() - started_s) * 1_000_000 / max(1, rows))
