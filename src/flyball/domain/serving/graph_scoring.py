"""Computes an endpoint's graph, many rows at a time. Logs nothing; says of each row which node answered it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from flyball.core.errors import BackendError, FlyballError
from flyball.domain.data.reports import Violation
from flyball.domain.predictions.records import NO_FIELDS, PredictionStatus
from flyball.domain.serving.deadlines import Deadlines, LateError
from flyball.domain.serving.graphs import (
    ConstantNode,
    EnsembleNode,
    FallbackNode,
    ModelNode,
    Node,
    NodeUnavailableError,
    RouteNode,
)
from flyball.domain.serving.loaded import FeatureLookup, LoadedVersion
from flyball.domain.serving.scoring import Attempt, ModelFailedError, OnViolation, Scored, score_rows

CONSTANT = "constant"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class ModelLateError(BackendError):
    """A node of the graph did not answer in time."""

    code = "serving/model-late"

    def __init__(self, node: str, limit_s: float, *, is_asked: bool = True) -> None:
        asked = f"{node} did not answer within {limit_s * 1000:g} ms"
        super().__init__(asked if is_asked else f"{node} was not asked: too many calls of it have not come back")


class PreparationError(BackendError):
    """The endpoint's own preparation of requests failed."""

    code = "serving/preparation-failed"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the request could not be prepared: {reason}", hint="See the function given as prepare=.")


class GraphScorer:
    """One endpoint's graph with the versions that answer in it now.

    Args:
        own: The endpoint's model and the version that stands for it.
        others: The live versions of the graph's other models.
        lookup: Where stored features are.
        on_violation: What becomes of a row that breaks an expectation.
        deadlines: Runs what may be late; None lets everything take its time.
        has_fallbacks: Whether failures are answered otherwise; a candidate's must show.
    """

    def __init__(
        self,
        own: tuple[str, LoadedVersion],
        others: Mapping[str, LoadedVersion],
        lookup: FeatureLookup,
        on_violation: OnViolation,
        deadlines: Deadlines | None,
        *,
        has_fallbacks: bool = True,
    ) -> None:
        self._own = own[1]
        self._versions = dict(others) | {own[0]: own[1]}
        self._lookup = lookup
        self._on_violation = on_violation
        self._deadlines = deadlines
        self._has_fallbacks = has_fallbacks

    def score(self, node: Node, rows: Sequence[Any], at: Sequence[datetime]) -> list[Scored]:
        """Return what a node says of rows, in their order; raises nothing for what models do."""
        if isinstance(node, ModelNode):
            return self._ask(node, rows, at)
        if isinstance(node, ConstantNode):
            return [_answer_constant(node, self._own) for _ in rows]
        if isinstance(node, EnsembleNode):
            return self._combine(node, rows, at)
        if isinstance(node, RouteNode):
            return self._route(node, rows, at)
        return self._fall_back(node, rows, at)

    def _ask(self, node: ModelNode, rows: Sequence[Any], at: Sequence[datetime]) -> list[Scored]:
        loaded = self._versions.get(node.name)
        if loaded is None:
            return [_failed(NodeUnavailableError(node.name), "") for _ in rows]
        if loaded is self._own:
            return score_rows(loaded, self._lookup, rows, at, self._on_violation)
        # Requests have the fields that the endpoint's own model asks for; another one takes those that it knows.
        names = loaded.request.schema.names
        known = [{name: row[name] for name in names if name in row} if isinstance(row, dict) else row for row in rows]
        found = score_rows(loaded, self._lookup, known, at, self._on_violation)
        for scored in found:
            scored.ref = loaded.ref
        return found

    def _combine(self, node: EnsembleNode, rows: Sequence[Any], at: Sequence[datetime]) -> list[Scored]:
        answers = [self.score(member, rows, at) for member in node.members]
        return [self._join(node, parts) for parts in zip(*answers, strict=True)]

    def _join(self, node: EnsembleNode, parts: Sequence[Scored]) -> Scored:
        """Return one answer of all members', or the first one that is none."""
        bad = next((part for part in parts if part.status is not PredictionStatus.OK), None)
        if bad is not None:
            bad.attempts = [attempt for part in parts for attempt in part.attempts]
            return bad
        first = parts[0]
        refs = [part.ref or self._own.ref for part in parts]
        joined = msgspec.structs.replace(
            first,
            violations=[violation for part in parts for violation in part.violations],
            features=_merge([part.features for part in parts]),
            views={name: use for part in reversed(parts) for name, use in part.views.items()},
            attempts=[attempt for part in parts for attempt in part.attempts],
            node=f"ensemble[{', '.join(refs)}]",
            ref=self._own.ref,
        )
        weighted = list(zip(node.weights, parts, strict=True))
        if first.scores is None:
            joined.prediction = sum(weight * _say(node, self._own, part) for weight, part in weighted)
            return joined
        shares = [0.0] * len(first.scores)
        for weight, part in weighted:
            for place, score in enumerate(part.scores or []):
                said = score if node.combine == "mean" else float(place == part.prediction)
                shares[place] += weight * said
        joined.scores, joined.prediction = shares, float(shares.index(max(shares)))
        return joined

    def _route(self, node: RouteNode, rows: Sequence[Any], at: Sequence[datetime]) -> list[Scored]:
        cases = {(type(value), value): number for number, (value, _) in enumerate(node.cases)}
        children = [child for _, child in node.cases]
        chosen: dict[int | None, list[int]] = {}
        for place, row in enumerate(rows):
            value = row.get(node.field) if isinstance(row, dict) else None
            number = cases.get((type(value), value)) if isinstance(value, str | int | bool) else None
            chosen.setdefault(number, []).append(place)
        results: list[Scored | None] = [None] * len(rows)
        for number, places in chosen.items():
            child = children[number] if number is not None else node.otherwise
            some = [rows[place] for place in places]
            found = (
                self.score(child, some, [at[place] for place in places])
                if child is not None
                else [_no_case(node) for _ in some]
            )
            name = f"{node.field}={node.cases[number][0]}" if number is not None else f"{node.field}=otherwise"
            for place, scored in zip(places, found, strict=True):
                scored.node = name if scored.node is None else f"{name}/{scored.node}"
                results[place] = scored
        return [scored for scored in results if scored is not None]

    def _fall_back(self, node: FallbackNode, rows: Sequence[Any], at: Sequence[datetime]) -> list[Scored]:
        if not self._has_fallbacks:
            return self.score(node.first, rows, at)
        found = self._try(node, rows, at)
        places = [place for place, scored in enumerate(found) if scored.status is PredictionStatus.ERROR]
        if not places:
            return found
        instead = self.score(node.to, [rows[place] for place in places], [at[place] for place in places])
        for place, scored in zip(places, instead, strict=True):
            before = found[place]
            attempt = Attempt(ref=before.ref or self._own.ref, failure=before.failure, node=before.node)
            scored.attempts = [*before.attempts, attempt, *scored.attempts]
            scored.violations = [*scored.violations, *_warn(before.failure)]
            scored.node = "fallback" if scored.node is None else f"fallback/{scored.node}"
            scored.ref = self._own.ref if scored.ref is None else scored.ref
            if not scored.entity:
                scored.entity, scored.key, scored.time = before.entity, before.key, before.time
            found[place] = scored
        return found

    def _try(self, node: FallbackNode, rows: Sequence[Any], at: Sequence[datetime]) -> list[Scored]:
        if node.within is None or self._deadlines is None:
            return self.score(node.first, rows, at)
        limit_s = node.within.total_seconds()
        try:
            return self._deadlines.run(lambda: self.score(node.first, rows, at), limit_s)
        except LateError as error:
            name = node.first.name if isinstance(node.first, ModelNode) else "the first node"
            late = ModelLateError(name, limit_s, is_asked=error.is_begun)
            return [_failed(late, self._own.ref) for _ in rows]


def prepare_rows(prepare: Callable[[dict[str, Any]], Any], rows: Sequence[Any]) -> tuple[list[Any], dict[int, Scored]]:
    """Return rows as an endpoint's own function makes them, and what became of those where it failed, by place."""
    prepared, failed = [], {}
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            prepared.append(row)
            continue
        try:
            made = prepare(dict(row))
            if not isinstance(made, dict):
                raise PreparationError(f"it returned {type(made).__name__} instead of a dict")
            prepared.append(made)
        except FlyballError as error:
            prepared.append(row)
            failed[place] = _failed(error, "")
        except Exception as error:  # noqa: BLE001 - the project's own code runs here
            prepared.append(row)
            failed[place] = _failed(PreparationError(f"{type(error).__name__}: {error}"), "")
    return prepared, failed


def _warn(failure: FlyballError | None) -> list[Violation]:
    if failure is None:
        return []
    return [Violation(column="", rule=failure.code, severity="warn", message=failure.message)]


def _failed(error: FlyballError, ref: str) -> Scored:
    return Scored(status=PredictionStatus.ERROR, failure=error, ref=ref or None)


def _no_case(node: RouteNode) -> Scored:
    known = ", ".join(repr(value) for value, _ in node.cases)
    message = f"{node.field} decides who answers, and must be one of {known}"
    violation = Violation(column=node.field, rule="route", severity="fail", message=message)
    return Scored(status=PredictionStatus.REFUSED, violations=[violation])


def _answer_constant(node: ConstantNode, own: LoadedVersion) -> Scored:
    signature = own.signature
    if signature.task == "multiclass":
        names = [str(name) for name in signature.classes]
        if str(node.value) not in names:
            return _failed(ModelFailedError(own.ref, f"{node.value!r} is none of its classes"), "")
        place = names.index(str(node.value))
        scores = [float(number == place) for number in range(len(names))]
        return Scored(status=PredictionStatus.OK, prediction=float(place), scores=scores, node=CONSTANT, ref="")
    if signature.task == "binary" and node.value in signature.classes and not _is_probability(node.value):
        value = float(signature.classes.index(node.value))
    elif isinstance(node.value, str):
        return _failed(ModelFailedError(own.ref, f"{node.value!r} is neither a number nor a class of it"), "")
    else:
        value = float(node.value)
    return Scored(status=PredictionStatus.OK, prediction=value, node=CONSTANT, ref="")


def _is_probability(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _say(node: EnsembleNode, own: LoadedVersion, part: Scored) -> float:
    value = part.prediction or 0.0
    if node.combine == "mean" or own.signature.task == "regression":
        return value
    return float(value >= 0.5)


def _merge(features: Sequence[msgspec.Raw]) -> msgspec.Raw:
    merged: dict[str, Any] = {}
    for text in reversed(features):
        merged |= _decode(text) if text != NO_FIELDS else {}
    return msgspec.Raw(_encode(merged))
