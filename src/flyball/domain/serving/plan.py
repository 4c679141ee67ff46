"""Which versions answer at an endpoint: derived from the champion and the rollout that is under way."""

from enum import StrEnum

import msgspec

from flyball.domain.serving.rollouts import Rollout, StageKind


class Variant(StrEnum):
    """In which role a version computes; pinned is one that the caller named and routing would not have picked."""

    LIVE = "live"
    CANARY = "canary"
    SHADOW = "shadow"
    PINNED = "pinned"


class ServingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers at an endpoint.

    Attributes:
        endpoint: The endpoint's name.
        model: The model's name.
        live: The version that answers; None before the first one is promoted.
        candidate: The version on its way to live.
        share: The part of the traffic that the candidate answers; 0 when it only computes.
        stage: The rollout's stage in words.
        rollout: The rollout's id; also what divides the traffic, so that each rollout draws its own canaries.
        by: The fields that keep a variant; empty for the entity.
        is_pinned: Whether the caller named the version, and routing would not have picked it.
    """

    endpoint: str
    model: str
    live: str | None
    candidate: str | None = None
    share: float = 0.0
    stage: str | None = None
    rollout: str | None = None
    by: tuple[str, ...] = ()
    is_pinned: bool = False

    @property
    def has_shadow(self) -> bool:
        """Whether the candidate computes beside the live version without answering."""
        return self.candidate is not None and self.share == 0.0

    def propensity(self, variant: Variant) -> float | None:
        """Return how likely routing was to pick a variant; None where only one could answer."""
        if not 0.0 < self.share < 1.0 or variant not in (Variant.LIVE, Variant.CANARY):
            return None
        return self.share if variant is Variant.CANARY else 1.0 - self.share

    @property
    def versions(self) -> list[str]:
        """All versions that must be loaded."""
        return [ref for ref in (self.live, self.candidate) if ref is not None]


def plan_serving(endpoint: str, model: str, champion: str | None, rollout: Rollout | None) -> ServingPlan:
    """Return who answers: the champion, and what the running rollout adds."""
    stage = rollout.stage if rollout is not None else None
    if rollout is None or stage is None or champion is None or rollout.candidate == champion:
        return ServingPlan(endpoint=endpoint, model=model, live=champion)
    return ServingPlan(
        endpoint=endpoint,
        model=model,
        live=champion,
        candidate=rollout.candidate,
        share=0.0 if stage.kind is StageKind.SHADOW else rollout.share,
        stage=stage.name,
        rollout=rollout.id,
        by=stage.trial.by if stage.trial is not None else (),
    )
