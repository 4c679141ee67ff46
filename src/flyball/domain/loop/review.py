"""Judges a promotion again once its labels have come: what a canary answered turns out only later."""

from collections.abc import Callable, Mapping
from datetime import datetime

from flyball.core.clock import Clock
from flyball.core.encoding import to_plain
from flyball.domain.journal.service import Journal
from flyball.domain.loop import store
from flyball.domain.loop.endpoints import Endpoint
from flyball.domain.loop.pace import pause_after
from flyball.domain.monitoring.distributions import Baseline, read_labelled
from flyball.domain.monitoring.guards import GuardLimits, VariantCounts, compare_variants
from flyball.domain.monitoring.monitors import Performance
from flyball.domain.monitoring.performance import compute_metric
from flyball.domain.predictions.service import PredictionService
from flyball.domain.registry.service import RegistryService
from flyball.domain.serving.rollouts import Rollout, RolloutStatus
from flyball.domain.serving.service import RolloutService
from flyball.storage.db import Database

REVIEWED = "loop.promotion.reviewed"
_FINE, _WORSE = "ok", "worse"
_ENOUGH = 0.95
"""A review is closed when so large a share of the rollout's predictions has its label."""


class PromotionReview:
    """Compares a promoted version with the one it replaced, on the traffic that both answered during the rollout.

    While a rollout lasts, guards see errors, latency and predictions, but labels often come weeks later. When they
    show that the promoted version does worse, it is taken back.

    Args:
        db: Keeps which promotions were judged up to where.
        journal: Is told of each review.
        clock: The present.
        registry: Knows what is live.
        rollouts: Knows how it came there.
        predictions: Knows how predictions turned out.
        baseline_of: Tells how a version's predictions and labels compare.
    """

    def __init__(
        self,
        db: Database,
        journal: Journal,
        clock: Clock,
        registry: RegistryService,
        rollouts: RolloutService,
        predictions: PredictionService,
        baseline_of: Callable[[str], Baseline],
    ) -> None:
        self._db = db
        self._journal = journal
        self._clock = clock
        self._registry = registry
        self._rollouts = rollouts
        self._predictions = predictions
        self._baseline_of = baseline_of
        self._label_seq: dict[str, int] = {}
        self._not_before: dict[str, datetime] = {}

    def find_regretted(self, endpoints: Mapping[str, Endpoint]) -> list[tuple[str, str]]:
        """Return the endpoints whose live version turned out worse than its predecessor, each with the reason."""
        regretted = []
        for name, endpoint in endpoints.items():
            metric = next((found.metric for found in endpoint.monitors if isinstance(found, Performance)), None)
            seq = self._predictions.last_label_seq()
            if metric is None or self._label_seq.get(name) == seq:
                continue
            rollout = self._find_open(name, endpoint)
            if rollout is not None:
                if self._clock.now() < self._not_before.get(rollout.id, rollout.started_at):
                    continue
                if (reason := self._judge(rollout, metric)) is not None:
                    regretted.append((name, reason))
            self._label_seq[name] = seq
        return regretted

    def _find_open(self, name: str, endpoint: Endpoint) -> Rollout | None:
        champion = self._registry.champion(endpoint.model)
        rollouts = self._rollouts.list_rollouts(name)
        last = rollouts[-1] if rollouts else None
        if last is None or champion is None or last.status is not RolloutStatus.PROMOTED or last.champion is None:
            return None
        with self._db.read() as tx:
            is_fine = store.find_watermark(tx, f"reviewed/{last.id}") == _FINE
        # One found worse that is still live was to be taken back when a crash came between: it is found once more.
        return last if last.candidate == champion.ref and not is_fine else None

    def _judge(self, rollout: Rollout, metric: str) -> str | None:
        live, _ = self._count(rollout, rollout.champion or "", metric)
        new, share = self._count(rollout, rollout.candidate, metric)
        self._not_before[rollout.id] = self._clock.now() + pause_after(live.requests + new.requests)
        found = compare_variants(live, new, GuardLimits(metric=metric))
        judged = next((comparison for comparison in found.comparisons if comparison.what == metric), None)
        is_worse = judged is not None and judged.state == "worse"
        if not is_worse and share < _ENOUGH:
            return None
        verdict = _WORSE if is_worse else _FINE
        data = {
            "rollout": rollout.id,
            "candidate": rollout.candidate,
            "champion": rollout.champion,
            "verdict": verdict,
            "comparison": to_plain(judged) if judged is not None else None,
        }
        with self._db.begin() as tx:
            if store.find_watermark(tx, f"reviewed/{rollout.id}") != verdict:
                store.put_watermark(tx, f"reviewed/{rollout.id}", verdict)
                self._journal.append(tx, REVIEWED, f"endpoint/{rollout.endpoint}", data, actor="loop")
        return f"on the traffic of its rollout, {judged.message}" if is_worse and judged is not None else None

    def _count(self, rollout: Rollout, version: str, metric: str) -> tuple[VariantCounts, float]:
        span = (rollout.started_at, rollout.ended_at)
        answered = self._predictions.count_answered(rollout.endpoint, *span, version=version)
        rows = self._predictions.labelled(rollout.endpoint, *span, version=version)
        estimate = compute_metric(metric, *read_labelled(self._baseline_of(version), rows))
        share = rows.height / answered if answered else 1.0
        return VariantCounts(requests=answered, metric=estimate), share
