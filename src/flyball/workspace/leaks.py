"""Looking for leaks in what a pipeline learns from, without training anything."""

from typing import Any

import msgspec

from flyball.core.errors import InvalidInputError
from flyball.domain.features.leaks import Leak, find_leaks_of
from flyball.domain.features.splits import parse_test, split_rows
from flyball.domain.features.training_sets import SplitOperation, TrainingSetOperation
from flyball.domain.pipelines.graph import Call, Node, build_graph, iterate_nodes
from flyball.domain.pipelines.steps import Step
from flyball.workspace.workspace import Workspace


class LeakReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in the training sets of a pipeline.

    Attributes:
        pipeline: Its name.
        rows: How many rows were looked at.
        leaks: Suspicions; none is a good sign and no proof.
    """

    pipeline: str
    rows: int
    leaks: list[Leak]


def look_for_leaks(workspace: Workspace, pipeline: str) -> LeakReport:
    """Build the training sets of a pipeline, split them as it does, and look for leaks.

    Raises:
        UnknownNameError: The project declares no such pipeline.
        InvalidInputError: The pipeline asks for no training set.
    """
    graph = build_graph(workspace.project.pipeline(pipeline))
    found: dict[tuple[str, tuple[str, ...]], Leak] = {}
    rows = 0
    built: dict[int, Any] = {}
    for call in graph.calls:
        if isinstance(call.operation, TrainingSetOperation):
            as_of, actor = workspace.clock.now(), "user"
            data = workspace.features.build_training_set(call.operation.plan, as_of=as_of, actor=actor)
            built[call.position] = data
            rows += len(data)
            found.update({(leak.kind, leak.columns): leak for leak in data.facts.leaks})
    if not built:
        raise InvalidInputError(
            f"the pipeline {pipeline!r} asks for no training set, so nothing is known of what it learns from",
            hint="Build it with fb.training_set(...) in the pipeline's body.",
        )
    for call in graph.calls:
        if isinstance(call.operation, SplitOperation):
            origin, steps = _origin(call.inputs["data"])
            for step in steps:
                found[("fitted-before-split", (step,))] = _before_split(step)
            if origin is not None and origin.position in built:
                test = str(call.inputs["test"])
                parts = split_rows(built[origin.position], test, seed=int(call.inputs["seed"]))
                leaks = find_leaks_of(*parts, is_by_time=not parse_test(test).is_random)
                found.update({(leak.kind, leak.columns): leak for leak in leaks})
    return LeakReport(pipeline=pipeline, rows=rows, leaks=list(found.values()))


def _origin(value: Any) -> tuple[Call | None, list[str]]:
    """Return the call that built the rows, and the steps that they went through since."""
    steps: list[str] = []
    while isinstance(value, Node):
        call = value.call
        if isinstance(call.operation, TrainingSetOperation):
            return call, steps
        if isinstance(call.operation, Step):
            steps.append(call.name)
        value = next((node for given in call.inputs.values() for node in iterate_nodes(given)), None)
    return None, steps


def _before_split(step: str) -> Leak:
    return Leak(
        kind="fitted-before-split",
        columns=(step,),
        message=f"the step {step!r} works on the rows before they are split: what it learns, it learns from the rows "
        "held out, too",
        hint="Split first; put what is fitted into the model, as in a Pipeline.",
    )
