"""One row of a request on its way: what becomes of it in the log, and what it is answered."""

from datetime import datetime
from typing import Any

import msgspec

from flyball.core.durations import from_us, to_us
from flyball.core.errors import BackendUnavailableError, FlyballError
from flyball.domain.data.reports import Violation
from flyball.domain.predictions.records import NO_FIELDS, PredictionRecord, PredictionStatus, Reason
from flyball.domain.serving.answers import Answer, FeatureUse, Problem
from flyball.domain.serving.fleet import Line
from flyball.domain.serving.plan import ServingPlan, Variant
from flyball.domain.serving.scoring import FeaturesUnavailableError, ModelFailedError, Scored, time_us

_LONGEST_REFUSED_BYTES = 16_000
_encode = msgspec.json.Encoder(enc_hook=str).encode


class Row(msgspec.Struct, kw_only=True):
    """One row of a request on its way."""

    request: Any
    at: datetime
    variant: Variant
    scored: Scored = msgspec.field(default_factory=lambda: Scored(status=PredictionStatus.ERROR))
    id: str = ""
    node: str | None = None


def version_of(plan: ServingPlan, variant: Variant) -> str:
    """Return the version that stands for the endpoint's own model in a variant."""
    return (plan.candidate if variant in (Variant.CANARY, Variant.SHADOW) else plan.live) or ""


def make_record(line: Line, row: Row, latency_us: int, shadow_of: str | None = None) -> PredictionRecord:
    """Return a row as it is logged."""
    scored, plan = row.scored, line.plan
    return PredictionRecord(
        id=row.id,
        endpoint=plan.endpoint,
        at_us=to_us(row.at),
        variant=row.variant.value,
        version=version_of(plan, row.variant) if scored.ref is None else scored.ref,
        status=scored.status,
        entity=scored.entity,
        key=scored.key,
        time_us=time_us(scored),
        request=_logged_request(row.request, scored.status),
        features=scored.features,
        views=scored.views,
        prediction=scored.prediction,
        scores=scored.scores,
        reasons=_reasons(scored),
        latency_us=latency_us,
        stage=plan.stage,
        rollout=plan.rollout,
        shadow_of=shadow_of,
        propensity=plan.propensity(row.variant),
        node=row.node or scored.node,
        explanation=scored.explanation,
    )


def _logged_request(request: Any, status: PredictionStatus) -> msgspec.Raw:
    try:
        text = _encode(request) if isinstance(request, dict) else b"{}"
    except (TypeError, ValueError, OverflowError, RecursionError):
        return NO_FIELDS
    # Nobody may fill the log with requests that are not even answered.
    if status is PredictionStatus.REFUSED and len(text) > _LONGEST_REFUSED_BYTES:
        return NO_FIELDS
    return msgspec.Raw(text)


def _reasons(scored: Scored) -> list[Reason]:
    reasons = [
        Reason(column=violation.column, rule=violation.rule, message=violation.message)
        for violation in scored.violations
    ]
    if scored.failure is not None:
        reasons.append(Reason(column="", rule=scored.failure.code, message=scored.failure.message))
    return reasons


def make_answer(line: Line, row: Row) -> Answer:
    """Return a row as it is answered."""
    scored = row.scored
    loaded = line.candidate if row.variant is Variant.CANARY else line.live
    is_ok = scored.status is PredictionStatus.OK
    classes = loaded.signature.classes if loaded is not None else ()
    prediction: Any = scored.prediction
    scores = None
    if is_ok and scored.scores is not None and scored.prediction is not None:
        labels = classes or tuple(range(len(scored.scores)))
        prediction = labels[int(scored.prediction)]
        scores = {str(label): score for label, score in zip(labels, scored.scores, strict=True)}
    problems = [Problem(field=found.column, rule=found.rule, message=found.message) for found in _shown(scored)]
    return Answer(
        prediction=prediction,
        prediction_id=row.id,
        model_version=version_of(line.plan, row.variant) if scored.ref is None else scored.ref,
        variant=row.variant.value,
        endpoint=line.plan.endpoint,
        features={
            name: FeatureUse(
                version=use.version, event_time=None if use.event_time_us is None else from_us(use.event_time_us)
            )
            for name, use in scored.views.items()
        },
        status=scored.status.value,
        scores=scores,
        errors=[] if is_ok else problems,
        warnings=problems if is_ok else [],
        explanation=scored.explanation,
        node=row.node or scored.node,
    )


def _shown(scored: Scored) -> list[Violation]:
    if scored.failure is None:
        return scored.violations
    failure = Violation(column="", rule=scored.failure.code, severity="fail", message=scored.failure.message)
    return [*scored.violations, failure]


def failure_of(answer: Answer) -> FlyballError:
    """Return what kept a model from answering a row: the model itself, or what it needs."""
    reason = "; ".join(problem.message for problem in answer.errors)
    if lacks_features(answer):
        return FeaturesUnavailableError(answer.model_version, reason)
    return ModelFailedError(answer.model_version, reason)


def lacks_features(answer: Answer) -> bool:
    """Tell whether a row has no prediction because the online store did not answer."""
    return any(problem.rule == BackendUnavailableError.code for problem in answer.errors)
