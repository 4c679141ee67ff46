"""The short way of many requests at once: those that ask the same version are computed and logged together."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from flyball.core.clock import Clock, monotonic_s
from flyball.core.durations import from_us, to_us
from flyball.core.ids import IdRange, IdSource
from flyball.domain.predictions.batches import BEGINNING
from flyball.domain.predictions.labels import key_value
from flyball.domain.predictions.log import LogUnavailableError, PredictionLog, make_line
from flyball.domain.serving.answers import FeatureUse
from flyball.domain.serving.direct import Block, DirectVersion, Outcome, find_direct
from flyball.domain.serving.fleet import Line, pin
from flyball.domain.serving.loaded import FeatureLookup, LoadedVersion
from flyball.domain.serving.plan import Variant
from flyball.domain.serving.routing import pick_variant

_encode = msgspec.json.Encoder(enc_hook=str).encode
_MOST_HEADS = 200
# A call of the model for so many rows costs little more for each than one for more.
MOST_SHARED_ROWS = 32


class DirectAsk(msgspec.Struct):
    """One request on the short way.

    Attributes:
        line: The endpoint as it answers now.
        version: Who answers.
        variant: In which role.
        block: The rows.
        started_s: When it began, by `monotonic_s`.
        shadow_of: The ids of the predictions that were answered, when this only runs beside them.
    """

    line: Line
    version: DirectVersion
    variant: Variant
    block: Block
    started_s: float
    shadow_of: list[str] = []


class DirectAnswer(msgspec.Struct):
    """The answer to all rows of a request, each of which has a prediction.

    Attributes:
        loaded: Who answered.
        variant: In which role.
        ids: Name each row's prediction.
        predictions: A value, a probability, or the number of the likeliest class, for each row.
        scores: Each class's probability, where there are more than two.
        views: The stored features used, by view, each with a time for each row.
    """

    loaded: LoadedVersion
    variant: Variant
    ids: IdRange
    predictions: list[float]
    scores: list[list[float]] = []
    views: dict[str, Any] = {}

    @property
    def values(self) -> list[Any]:
        """The predictions as they are answered: of several classes, the likeliest itself."""
        classes = self.loaded.signature.classes
        if not self.scores:
            return self.predictions
        return [classes[int(number)] if classes else int(number) for number in self.predictions]

    @property
    def labels(self) -> list[str]:
        """The classes' names in the order of the scores."""
        width = len(self.scores[0]) if self.scores else 0
        return [str(label) for label in self.loaded.signature.classes or range(width)]

    def features(self, row: int) -> dict[str, FeatureUse]:
        """Return what was used of each feature view for a row."""
        return {
            name: FeatureUse(version=view.version, event_time=None if at_us is None else from_us(at_us))
            for name, view in self.views.items()
            for at_us in (view.event_times_us[row],)
        }


class DirectPlane:
    """Computes and logs. Safe to call from several threads.

    Args:
        lookup: Stored features.
        log: Is written before anything is answered.
        clock: The present.
        ids: Names predictions.
    """

    def __init__(self, lookup: FeatureLookup, log: PredictionLog, clock: Clock, ids: IdSource) -> None:
        self._lookup = lookup
        self._prediction_log = log
        self._clock = clock
        self._ids = ids
        self._heads: dict[tuple[Any, ...], bytes] = {}

    def route(
        self, line: Line, version: DirectVersion, block: Block, started_s: float, *, is_pinned: bool = False
    ) -> DirectAsk | None:
        """Return a request with who answers it; None where the long way must tell.

        Args:
            line: The endpoint as it answers now.
            version: That of the live version, or of the one that the caller named.
            block: The rows, read by ``version``.
            started_s: When the request began.
            is_pinned: Whether the caller named the version.
        """
        plan, candidate = line.plan, line.candidate
        if is_pinned:
            line = pin(line, version.loaded)
            return DirectAsk(line, version, Variant.PINNED if line.plan.is_pinned else Variant.LIVE, block, started_s)
        if candidate is None or plan.share <= 0.0:
            return DirectAsk(line, version, Variant.LIVE, block, started_s)
        if block.height > 1:
            return None
        key = [key_value(value) for value in version.key_of(block, plan.by)]
        is_told = any(value is not None for value in key)
        if pick_variant(plan, key if is_told else [self._ids.new()]) is Variant.LIVE:
            return DirectAsk(line, version, Variant.LIVE, block, started_s)
        other = find_direct(candidate)
        if other is None or not other.reads_like(version):
            return None
        return DirectAsk(line, other, Variant.CANARY, block, started_s)

    def answer_shadows(self, asks: Sequence[DirectAsk], answers: Sequence[DirectAnswer | None]) -> list[int]:
        """Let candidates compute beside what was answered, and log it; return the places that must go the long way."""
        shadows, places, left = [], [], []
        for place, (ask, answer) in enumerate(zip(asks, answers, strict=True)):
            candidate = ask.line.candidate
            if answer is None or candidate is None or not ask.line.plan.has_shadow:
                continue
            other = find_direct(candidate)
            if other is None or not other.reads_like(ask.version):
                left.append(place)
                continue
            places.append(place)
            shadows.append(DirectAsk(ask.line, other, Variant.SHADOW, ask.block, monotonic_s(), list(answer.ids)))
        if shadows:
            found = self.answer(shadows)
            left += [place for place, shadow in zip(places, found, strict=True) if shadow is None]
        return left

    def answer(self, asks: Sequence[DirectAsk]) -> list[DirectAnswer | None]:
        """Answer requests, in order; None for one that must go the long way, which tells why: also where the log of
        its endpoint cannot be written. When this returns, all that is answered is logged.
        """
        now = self._clock.now()
        outcomes: list[Outcome | None] = [None] * len(asks)
        if len(asks) == 1:
            outcomes[0] = self._try(asks, now)
        else:
            for places in _group(asks):
                self._compute(asks, places, now, outcomes)
        answers: list[DirectAnswer | None] = []
        lines: dict[str, list[bytes]] = {}
        rows: dict[str, int] = {}
        for ask, outcome in zip(asks, outcomes, strict=True):
            if outcome is None:
                answers.append(None)
                continue
            ids = self._ids.new_many(ask.block.height)
            endpoint = ask.line.plan.endpoint
            lines.setdefault(endpoint, []).append(self._make_line(ask, outcome, ids.first, to_us(now)))
            rows[endpoint] = rows.get(endpoint, 0) + ask.block.height
            loaded = ask.version.loaded
            answers.append(DirectAnswer(loaded, ask.variant, ids, outcome.predictions, outcome.scores, outcome.views))
        for endpoint, written in lines.items():
            try:
                self._prediction_log.append_lines(endpoint, b"".join(written), rows[endpoint])
            except LogUnavailableError:
                answers = [
                    None if ask.line.plan.endpoint == endpoint else answer
                    for ask, answer in zip(asks, answers, strict=True)
                ]
        return answers

    def _compute(
        self, asks: Sequence[DirectAsk], places: Sequence[int], now: datetime, outcomes: list[Outcome | None]
    ) -> None:
        """Compute requests of one version together; where that fails, each alone: none spoils another."""
        together = self._try([asks[place] for place in places], now)
        if together is None:
            if len(places) > 1:
                for place in places:
                    outcomes[place] = self._try([asks[place]], now)
            return
        start = 0
        for place in places:
            end = start + asks[place].block.height
            outcomes[place] = together if len(places) == 1 else _cut(together, start, end)
            start = end

    def _try(self, asks: Sequence[DirectAsk], now: datetime) -> Outcome | None:
        try:
            return asks[0].version.compute([ask.block for ask in asks], self._lookup, now)
        except Exception:  # noqa: BLE001 - the long way meets it again, and tells it
            return None

    def _make_line(self, ask: DirectAsk, outcome: Outcome, first_id: str, at_us: int) -> bytes:
        block, plan = ask.block, ask.line.plan
        key = (ask.version.loaded.ref, plan.endpoint, ask.variant, plan.stage, plan.rollout, plan.share)
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            head = self._heads[key] = _make_head(ask)
        text = block.text or _encode(block.numbers)
        latency_us = int((monotonic_s() - ask.started_s) * 1_000_000 / block.height)
        parts = [
            b'%b"id":"%b","at_us":%d,"latency_us":%d,%b,"values":%b,"predictions":%b'
            % (BEGINNING, first_id.encode(), at_us, latency_us, head, text, _encode(outcome.predictions))
        ]
        more: Mapping[str, Any] = {
            "others": block.others,
            "times_us": outcome.times_us,
            "views": outcome.views,
            "scores": outcome.scores,
            "shadow_of": ask.shadow_of,
        }
        parts += [b',"%b":%b' % (name.encode(), _encode(value)) for name, value in more.items() if value]
        parts.append(b"}")
        return make_line(b"".join(parts))


def _make_head(ask: DirectAsk) -> bytes:
    """Return the part of a record that all requests to a version share."""
    plan = ask.line.plan
    fields: dict[str, Any] = {
        "endpoint": plan.endpoint,
        "variant": ask.variant.value,
        "version": ask.version.loaded.ref,
        "layout": ask.version.layout,
    }
    if plan.stage is not None:
        fields["stage"] = plan.stage
    if plan.rollout is not None:
        fields["rollout"] = plan.rollout
    if (propensity := plan.propensity(ask.variant)) is not None:
        fields["propensity"] = propensity
    return _encode(fields)[1:-1]


def _group(asks: Sequence[DirectAsk]) -> list[list[int]]:
    """Return the places of the requests that are computed together: small ones of one version."""
    groups: dict[int, list[int]] = {}
    alone: list[list[int]] = []
    for place, ask in enumerate(asks):
        if ask.block.height > MOST_SHARED_ROWS:
            alone.append([place])
        else:
            groups.setdefault(id(ask.version), []).append(place)
    return [*groups.values(), *alone]


def _cut(outcome: Outcome, start: int, end: int) -> Outcome:
    views = {
        name: msgspec.structs.replace(
            view,
            event_times_us=view.event_times_us[start:end],
            columns={column: values[start:end] for column, values in view.columns.items()},
        )
        for name, view in outcome.views.items()
    }
    return Outcome(outcome.predictions[start:end], outcome.scores[start:end], views, outcome.times_us[start:end])
