"""``candidate``: the last node of a training pipeline, which makes a trained model a version of the registry."""

from collections.abc import Mapping
from typing import Any

import msgspec

from flyball.core.errors import InvalidInputError
from flyball.core.hashing import digest_value
from flyball.domain.data.recording import OperationContext, record
from flyball.domain.features.training_sets import TrainingSet
from flyball.domain.pipelines.graph import Node
from flyball.domain.pipelines.steps import Step
from flyball.domain.registry.evidence import check_gates, check_metrics
from flyball.domain.registry.gates import LEAKS, GatePlan, MetricGate
from flyball.domain.registry.versions import ModelVersion, check_model_name


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The step that computed the metrics, so that the champion can be put to the same test.

    Attributes:
        step: Called again with the champion's model.
        model_parameter: Which of its parameters takes the model.
    """

    step: Step[..., Any]
    model_parameter: str


class CandidateOperation:
    """Packages a model, registers it and judges its gates when a run reaches it."""

    name = "candidate"
    outputs = 1
    returns = ModelVersion

    def __init__(self, model_name: str, description: str, evaluation: Evaluation | None) -> None:
        self.model_name = model_name
        self.description = description
        self.evaluation = evaluation

    def identity(self, context: OperationContext) -> str:
        """See `Operation.identity`: the name and what its versions must meet."""
        return digest_value([self.model_name, self.description, context.service(GatePlan).of(self.model_name)])

    def run(self, context: OperationContext, inputs: Mapping[str, Any]) -> ModelVersion:
        """See `Operation.run`; notes the version to the run.

        Raises:
            InvalidInputError: The metrics, the model or the data cannot be used, or a gate cannot be judged. Nothing
                is registered then.
        """
        from flyball.domain.registry.candidacy import Candidacy  # it loads Polars and the runtimes
        from flyball.domain.registry.service import RegistryService

        data = inputs["data"]
        if not isinstance(data, TrainingSet):
            raise InvalidInputError(
                f"fb.candidate({self.model_name!r}) was given a {type(data).__name__} as data",
                hint="Give it the training set that the model was fitted on: data=fit.",
            )
        metrics = check_metrics(self.model_name, inputs["metrics"])
        plan = context.service(GatePlan).of(self.model_name)
        if any(isinstance(gate, MetricGate) and gate.metric == LEAKS for gate in plan.gates):
            metrics = {LEAKS: float(len(data.facts.leaks)), **metrics}
        check_gates(self.model_name, plan.gates, metrics)
        candidacy = Candidacy(context, self.model_name, self.description, plan)
        version = candidacy.register(inputs["model"], data, metrics, self.evaluation, inputs.get("evaluation") or {})
        context.note("version", version.ref)
        evidence = context.service(RegistryService).evidence(version.ref)
        failed = [result.reason for result in evidence.results if not result.passed] if evidence is not None else []
        context.note("standing", "; ".join([f"{version.ref} is {version.status.value}", *failed]))
        return version


def candidate(name: str, model: Any, *, metrics: Any, data: Any, description: str = "") -> Any:
    """Offer a trained model as the next version of a model, in a pipeline's body.

    The model is packaged with everything it needs, its gates are judged, and where they pass it is approved, or waits
    for the role that the endpoint names.

    Args:
        name: The model's name; endpoints name it too.
        model: The node of the fitted model.
        metrics: The node of a dict of names and numbers. Where a step computes it from the model, the champion is put
            through that same step on the same data to be compared with.
        data: The node of the training set that the model was fitted on.
        description: What the model is for; in the model card.

    Returns:
        The node of a `ModelVersion`.

    Raises:
        InvalidInputError: The name cannot be used, or it is called outside a pipeline.
    """
    check_model_name(name)
    evaluation, others = _find_evaluation(model, metrics)
    operation = CandidateOperation(name, description, evaluation)
    inputs = {"model": model, "metrics": metrics, "data": data}
    return record(operation, {**inputs, "evaluation": others} if others else inputs)


def _find_evaluation(model: Any, metrics: Any) -> tuple[Evaluation | None, dict[str, Any]]:
    """Return the step that makes the metrics from the model, and its other inputs."""
    if not isinstance(metrics, Node) or not isinstance(model, Node) or not isinstance(metrics.call.operation, Step):
        return None, {}
    given = metrics.call.inputs
    takes_model = [name for name, value in given.items() if _is_same(value, model)]
    if len(takes_model) != 1 or metrics.output is not None:
        return None, {}
    others = {name: value for name, value in given.items() if name != takes_model[0]}
    return Evaluation(step=metrics.call.operation, model_parameter=takes_model[0]), others


def _is_same(value: Any, node: Node) -> bool:
    return isinstance(value, Node) and value.call is node.call and value.output == node.output
