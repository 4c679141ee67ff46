"""Which variant answers whom. Pure functions."""

import hashlib
from collections.abc import Sequence
from typing import Any

from flyball.domain.serving.plan import ServingPlan, Variant

_WHOLE = 2**64


def place(salt: str, key: Sequence[Any]) -> float:
    """Return where in [0, 1) a key lies: evenly spread, the same for ever, and unlike in each rollout (``salt``)."""
    text = repr(tuple(key)).encode(errors="backslashreplace")
    digest = hashlib.blake2b(text, digest_size=8, key=salt.encode()[:64]).digest()
    return int.from_bytes(digest, "big") / _WHOLE


def pick_variant(plan: ServingPlan, key: Sequence[Any]) -> Variant:
    """Return who answers the entity with this key.

    An entity keeps its variant as long as the rollout's share only grows: it lies at one place, and the candidate
    answers all places below the share.

    Args:
        plan: The endpoint's plan.
        key: The values of the entity's key columns; something unique where there is no entity.
    """
    if plan.share <= 0.0 or plan.candidate is None:
        return Variant.LIVE
    return Variant.CANARY if place(plan.rollout or plan.candidate, key) < plan.share else Variant.LIVE
