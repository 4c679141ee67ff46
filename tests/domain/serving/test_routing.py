from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flyball.domain.serving.plan import ServingPlan, Variant
from flyball.domain.serving.routing import pick_variant, place

_keys = st.tuples(st.one_of(st.integers(), st.text(), st.booleans(), st.none(), st.floats()))


def plan(share: float, rollout: str = "r1") -> ServingPlan:
    return ServingPlan(endpoint="e", model="m", live="m/1", candidate="m/2", share=share, rollout=rollout)


@given(_keys, st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_law_an_entity_keeps_its_variant_while_shares_grow(key: Any, shares: list[float]) -> None:
    seen = [pick_variant(plan(share), key) for share in sorted(shares)]
    assert seen == sorted(seen, key=lambda variant: variant is Variant.CANARY)
    assert seen == [pick_variant(plan(share), key) for share in sorted(shares)]


@given(_keys, st.text(max_size=100))
def test_every_key_has_a_place(key: Any, salt: str) -> None:
    assert 0 <= place(salt, key) < 1


def test_shares_are_kept_over_many_entities() -> None:
    for share in (0.05, 0.5):
        canaries = sum(pick_variant(plan(share), [number]) is Variant.CANARY for number in range(20_000))
        assert abs(canaries / 20_000 - share) < 0.01


def test_each_rollout_draws_its_own_canaries() -> None:
    first, second = (
        {number for number in range(2_000) if pick_variant(plan(0.1, rollout), [number]) is Variant.CANARY}
        for rollout in ("r1", "r2")
    )
    assert len(first & second) < 0.3 * len(first)


def test_a_shadow_answers_nobody() -> None:
    assert {pick_variant(plan(0.0), [number]) for number in range(100)} == {Variant.LIVE}
