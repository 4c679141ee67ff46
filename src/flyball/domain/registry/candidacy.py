"""From a trained model to a judged version: package it, compare it with the champion, measure it, register it."""

from collections.abc import Mapping
from typing import Any

import msgspec
import polars as pl

from flyball.core.durations import format_instant
from flyball.core.encoding import to_plain
from flyball.core.hashing import shorten
from flyball.domain.data.recording import OperationContext
from flyball.domain.data.tables import Table
from flyball.domain.features.training_sets import TrainingSet
from flyball.domain.registry.candidates import Evaluation
from flyball.domain.registry.cards import CardFacts
from flyball.domain.registry.evidence import Comparison, check_metrics
from flyball.domain.registry.gates import ChampionGate, LatencyGate, ModelGates, ServiceTestGate
from flyball.domain.registry.latency import measure_latency
from flyball.domain.registry.ledger import Findings, NewVersion
from flyball.domain.registry.packages import FeaturePlan, Package, ViewUse
from flyball.domain.registry.packaging import Contents, build_package
from flyball.domain.registry.projects import ProjectSource
from flyball.domain.registry.runtimes import Runtimes
from flyball.domain.registry.service import RegistryService
from flyball.domain.registry.service_tests import ServiceTester, TestResult
from flyball.domain.registry.signatures import Signature, infer_signature
from flyball.domain.registry.versions import ModelVersion


class Candidacy:
    """One model on its way into the registry.

    Args:
        context: The run that offers it.
        model_name: What it is offered as.
        description: What its author says of it.
        plan: What it must meet.
    """

    def __init__(self, context: OperationContext, model_name: str, description: str, plan: ModelGates) -> None:
        self._context = context
        self._name = model_name
        self._description = description
        self._plan = plan
        self._registry = context.service(RegistryService)
        self._source = context.service(ProjectSource)
        self._runtimes = context.service(Runtimes)

    def register(
        self,
        model: Any,
        data: TrainingSet,
        metrics: dict[str, float],
        evaluation: Evaluation | None,
        others: Mapping[str, Any],
    ) -> ModelVersion:
        """Package, judge and register.

        Args:
            model: The fitted model.
            data: The rows it was fitted on.
            metrics: How it did.
            evaluation: The step that computed them, if a step did.
            others: That step's other inputs.
        """
        held_out = _find_held_out(data, others)
        contents = self._contents(model, data, held_out, metrics)
        package = build_package(self._registry.packages_root, contents, self._runtimes)
        findings = Findings(
            comparison=self._compare(evaluation, others) if self._asks_for(ChampionGate) else None,
            latency=self._measure(package) if self._asks_for(LatencyGate) else None,
            tested=self._test(package),
        )
        new = NewVersion(
            model=self._name,
            package_digest=package.digest,
            metrics=metrics,
            run_id=self._context.run_id,
            lineage=to_plain(data.lineage),
            description=self._description,
        )
        return self._registry.register(new, self._plan, findings, actor=self._context.actor)

    def _asks_for(self, kind: type) -> bool:
        return any(isinstance(gate, kind) for gate in self._plan.gates)

    def _measure(self, package: Package) -> Any:
        return measure_latency(package.load_predictor(self._runtimes), package.signature, package.reference())

    def _test(self, package: Package) -> tuple[TestResult, ...]:
        asked = [gate for gate in self._plan.gates if isinstance(gate, ServiceTestGate)]
        if not asked:
            return ()
        limit_s = min((gate.p99_s for gate in asked if gate.p99_s is not None), default=None)
        return tuple(self._context.service(ServiceTester).test(package, limit_s))

    def _contents(
        self, model: Any, data: TrainingSet, held_out: pl.DataFrame | None, metrics: dict[str, float]
    ) -> Contents:
        signature = infer_signature(model, data.frame, data.feature_names, data.label_name)
        rules = self._source.expectations_of(data.lineage.spine) if self._source.tables else ()
        return Contents(
            model_name=self._name,
            model=model,
            signature=signature,
            training=data.frame,
            held_out=held_out,
            features=_feature_plan(data, signature, self._source.tables.get(data.lineage.spine)),
            rules=rules,
            source=self._source,
            with_attributions=self._name in self._source.attributed,
            card=CardFacts(
                description=self._description,
                rows=len(data),
                lineage=_describe_lineage(data),
                metrics=metrics,
                plan=self._plan,
            ),
        )

    def _compare(self, evaluation: Evaluation | None, others: Mapping[str, Any]) -> Comparison | None:
        """Put the champion through the same evaluation; where that cannot be done, take what its own one gave."""
        champion = self._registry.champion(self._name)
        if champion is None:
            return None
        note = "no step computes the metrics from the model"
        if evaluation is not None:
            try:
                metrics = self._evaluate(champion, evaluation, others)
                return Comparison(champion=champion.ref, metrics=metrics, is_same_data=True)
            except Exception as error:  # noqa: BLE001  (an old model in today's code and data may raise anything)
                text = str(error).partition("\n")[0]
                note = f"on today's data it fails with {type(error).__name__}: {text}"
        return Comparison(champion=champion.ref, metrics=champion.metrics, is_same_data=False, note=note)

    def _evaluate(self, champion: ModelVersion, evaluation: Evaluation, others: Mapping[str, Any]) -> dict[str, float]:
        package = self._registry.open(champion.ref)
        features = package.signature.features.names
        inputs = {name: _with_features(value, features) for name, value in others.items()}
        inputs[evaluation.model_parameter] = package.load_model(self._runtimes)
        return check_metrics(self._name, evaluation.step.run(self._context, inputs))


def _with_features(value: Any, features: list[str]) -> Any:
    """Return a training set as a model of those features knows it; any other value as it is."""
    if not isinstance(value, TrainingSet) or value.feature_names == features:
        return value
    if missing := [name for name in features if name not in value.frame.columns]:
        raise LookupError(f"it needs the features {', '.join(missing)}, which the data no longer has")
    return TrainingSet(value.frame, msgspec.structs.replace(value.facts, feature_names=tuple(features)))


def _find_held_out(data: TrainingSet, others: Mapping[str, Any]) -> pl.DataFrame | None:
    for value in others.values():
        if isinstance(value, TrainingSet) and value.facts.part != data.facts.part:
            return value.frame
    return None


def _feature_plan(data: TrainingSet, signature: Signature, spine: Table | None) -> FeaturePlan:
    return FeaturePlan(
        spine=data.lineage.spine,
        request=data.request_schema,
        keys=tuple(data.keys),
        time=data.time_name,
        views=tuple(
            ViewUse(
                name=view.name,
                version=view.version,
                ttl_us=None if view.ttl is None else round(view.ttl.total_seconds() * 1e6),
                keys=view.keys,
            )
            for view in data.lineage.view_refs
        ),
        request_features=tuple(data.lineage.request_features),
        features=tuple(signature.features.names),
        label=data.lineage.label_rule,
        entity=None if spine is None else tuple(spine.entity.keys) if spine.entity else (),
        row_key=None if spine is None else tuple(spine.key),
    )


def _describe_lineage(data: TrainingSet) -> dict[str, str]:
    lineage = data.lineage
    return {
        "label": f"{lineage.label_rule.table}.{lineage.label_rule.column}",
        "known up to": format_instant(lineage.as_of),
        **{f"snapshot of {table}": shorten(snapshot) for table, snapshot in lineage.snapshots.items()},
        **{f"rows of {table} in quarantine": str(rows) for table, rows in lineage.quarantined.items() if rows},
    }
