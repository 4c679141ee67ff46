"""The loop: one turn does whatever the present asks for; live and replay turn the very same."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Protocol

import polars as pl

from flyball.core.clock import Clock
from flyball.core.errors import BackendUnavailableError
from flyball.domain.features.plans import TrainingSetPlan
from flyball.domain.loop.deployment import Deployer
from flyball.domain.loop.endpoints import Endpoint
from flyball.domain.loop.failures import Failures
from flyball.domain.loop.labelling import LabelIngest
from flyball.domain.loop.retraining import Retrainer
from flyball.domain.loop.review import PromotionReview
from flyball.domain.loop.training import Trainer
from flyball.domain.monitoring.attributions import AttributionSource
from flyball.domain.monitoring.consistency import ConsistencySource
from flyball.domain.monitoring.distributions import Baseline
from flyball.domain.monitoring.service import MonitoringService
from flyball.domain.predictions.expiry import Expirer
from flyball.domain.predictions.service import PredictionService
from flyball.domain.registry.service import RegistryService
from flyball.domain.serving.service import RolloutService
from flyball.storage.db import Transaction


class Deployed(Protocol):
    """What the loop needs of the package of a version that takes traffic."""

    def baseline(self, version: str) -> Baseline:
        """Return what its traffic is compared with."""
        ...

    def plan(self, endpoint: Endpoint) -> TrainingSetPlan | None:
        """Return what the endpoint's model is trained on; None when no pipeline makes it from a training set."""
        ...


class LoopService:
    """Turns the loop.

    In this order, so that each part sees what the one before has brought: versions that clients registered; trainings
    that have ended; the log, sealed into counts; labels; approved versions; their features, online; rollouts; monitors
    and alerts; triggers; predictions that are too old.

    Args:
        clock: The present; simulated in a replay.
        endpoints: By name.
        predictions: The log and the labels.
        monitoring: Counts, judges and raises alerts.
        registry: Knows what is live.
        prepare: Brings a version's features online, up to now.
        rollouts: Knows what is on its way to live.
        deployer: Takes versions to live.
        review: Judges promotions again when their labels have come.
        retrainer: Sets retrainings in motion.
        labels: Takes labels from tables.
        deployed: Reads packages.
        trainer: Runs retrainings; stopped with the loop.
        keep_up: Brings online what no model has asked for.
        rederived: Derives an endpoint's served features again from the tables.
        adopt: Packages versions that clients registered, and has their gates judged.
        expirer: Forgets predictions that are older than their endpoint keeps them.
        publish: Brings up to date what others read of the log.
        attributed: Gives what features added to an endpoint's predictions.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        endpoints: Mapping[str, Endpoint],
        predictions: PredictionService,
        monitoring: MonitoringService,
        registry: RegistryService,
        prepare: Callable[[str], None],
        rollouts: RolloutService,
        deployer: Deployer,
        review: PromotionReview,
        retrainer: Retrainer,
        labels: LabelIngest,
        deployed: Deployed,
        trainer: Trainer,
        attributed: Callable[[str], AttributionSource],
        adopt: Callable[[], None],
        expirer: Expirer,
        publish: Callable[[], None],
        keep_up: Callable[[], None] = lambda: None,
        rederived: Callable[[str], ConsistencySource] | None = None,
    ) -> None:
        self.trainer = trainer
        self.deployer = deployer
        self._clock = clock
        self._endpoints = endpoints
        self._predictions = predictions
        self._monitoring = monitoring
        self._registry = registry
        self._prepare = prepare
        self._rollouts = rollouts
        self._review = review
        self._retrainer = retrainer
        self._labels = labels
        self._deployed = deployed
        self._attributed = attributed
        self._adopt = adopt
        self._expirer = expirer
        self._publish = publish
        self._keep_up = keep_up
        self._rederived = rederived
        self._without_features: set[str] = set()

    def tick(self) -> None:
        """Do whatever the present asks for.

        Safe to be killed at any point: each part is one transaction, or does again only what is left to do.

        Raises:
            FlyballError: Something cannot be done; all else is, and the next turn tries again. Rollouts wait while the
                online store does not answer.
        """
        failures = Failures()
        for part in (
            self._adopt,
            self._retrainer.collect,
            partial(self._predictions.seal, on_sealed=self._observe),
            self.ingest_labels,
            partial(self.deployer.take_up, self._endpoints),
            self.materialise,
            self._keep_up,
            self._drive,
            self._take_back,
            self._watch,
            partial(self._retrainer.resume, self._endpoints),
            partial(self._retrainer.react, self._endpoints),
            self._expire,
            self._publish,
        ):
            with failures.passing():
                part()
        failures.tell()

    def _expire(self) -> None:
        failures = Failures()
        for name, endpoint in self._endpoints.items():
            with failures.passing():
                if endpoint.keep is not None:
                    self._expirer.expire(name, self._clock.now() - endpoint.keep)
        failures.tell()

    def _drive(self) -> None:
        # A candidate is not judged by an online store that is away.
        ready = {name: endpoint for name, endpoint in self._endpoints.items() if name not in self._without_features}
        self.deployer.drive(ready)

    def _take_back(self) -> None:
        for name, reason in self._review.find_regretted(self._endpoints):
            self.deployer.take_back(name, self._endpoints[name], reason=reason, actor="loop")

    def materialise(self) -> None:
        """Bring the features of every version that takes traffic, or may after a rollback, up to now."""
        failures = Failures()
        self._without_features.clear()
        for name, endpoint in self._endpoints.items():
            for version in self._versions_in_use(name, endpoint):
                with failures.passing():
                    self._prepare_for(name, version)
        failures.tell()

    def _prepare_for(self, endpoint: str, version: str) -> None:
        try:
            self._prepare(version)
        except BackendUnavailableError:
            self._without_features.add(endpoint)
            raise

    def _versions_in_use(self, name: str, endpoint: Endpoint) -> list[str]:
        moves = self._registry.history(endpoint.model, alias="champion")
        used = [f"{endpoint.model}/{move.number}" for move in moves[-2:] if move.number is not None]
        rollout = self._rollouts.find_running(name)
        if rollout is not None:
            used.append(rollout.candidate)
        return list(dict.fromkeys(used))

    def _observe(self, tx: Transaction, rows: pl.DataFrame) -> None:
        self._monitoring.observe(tx, rows, self._deployed.baseline)

    def ingest_labels(self) -> None:
        """Take the labels that have become known since the last turn."""
        now = self._clock.now()
        failures = Failures()
        for name, endpoint in self._endpoints.items():
            with failures.passing():
                plan = self._deployed.plan(endpoint)
                if plan is not None:
                    self._labels.ingest(name, plan.spine, endpoint.label or plan.label, now)
        failures.tell()

    def _watch(self) -> None:
        failures = Failures()
        for name, endpoint in self._endpoints.items():
            with failures.passing():
                self._watch_one(name, endpoint)
        failures.tell()

    def _watch_one(self, name: str, endpoint: Endpoint) -> None:
        champion = self._registry.champion(endpoint.model)
        if champion is None or not endpoint.monitors:
            return
        self._monitoring.evaluate(
            name,
            endpoint.monitors,
            self._deployed.baseline(champion.ref),
            labelled=_Labelled(self._predictions, name),
            attributed=self._attributed(name),
            rederived=self._rederived(name) if self._rederived else None,
        )


class _Labelled:
    """Implements monitoring's `LabelSource` over the prediction log."""

    def __init__(self, predictions: PredictionService, endpoint: str) -> None:
        self._predictions = predictions
        self._endpoint = endpoint

    def __call__(self, *, version: str, known_since: datetime, as_of: datetime) -> pl.DataFrame:
        rows = self._predictions.labelled(self._endpoint, as_of=as_of, known_after=known_since, version=version)
        return rows.filter(pl.col("variant") != "shadow")
