"""The graph of a run: which calls a pipeline's body makes, and what flows between them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, get_args

from flyball.core.errors import InvalidInputError
from flyball.domain.data.recording import Operation, recording
from flyball.domain.pipelines.parameters import Overrides
from flyball.domain.pipelines.signatures import describe, describe_value, fits, signature_of, value_fits
from flyball.domain.pipelines.steps import Pipeline, Step


class MisfitError(InvalidInputError):
    """A step is given what does not fit its annotation."""

    code = "pipelines/misfit"

    def __init__(self, step: str, parameter: str, expected: str, given: str) -> None:
        super().__init__(
            f"step {step!r}: parameter {parameter!r} expects {expected}, but is given {given}",
            hint="Pass what it expects, or change the annotation if that is wrong.",
        )


class Call:
    """One node: an operation and what it is given.

    Attributes:
        position: Its place in the order of the calls; it depends only on calls before it.
        name: Unique in the graph.
        base_name: The operation's own name; other calls of it have the same.
        operation: What it does.
        inputs: Values by parameter, in which `Node` stands for another call's result (also inside of lists, tuples
            and dicts).
        nodes: Every node in ``inputs``.
    """

    def __init__(self, position: int, name: str, operation: Operation, inputs: dict[str, Any]) -> None:
        self.position = position
        self.name = name
        self.base_name = operation.name
        self.operation = operation
        self.inputs = inputs
        self.nodes = [node for value in inputs.values() for node in iterate_nodes(value)]

    @property
    def needs(self) -> set[int]:
        """Positions of the calls that must be done before."""
        return {node.call.position for node in self.nodes}

    def __repr__(self) -> str:
        return f"<call {self.name}>"


class Node:
    """Stands for a value that will be known when the run is carried out.

    Attributes:
        call: What makes the value.
        output: Which of the call's values it is; None for all of them.
    """

    __slots__ = ("call", "output")

    def __init__(self, call: Call, output: int | None = None) -> None:
        self.call = call
        self.output = output

    @property
    def label(self) -> str:
        """The step's name, with the number of the value where there are several."""
        return self.call.name if self.output is None else f"{self.call.name}[{self.output}]"

    @property
    def annotation(self) -> Any:
        """What the value is declared to be."""
        operation = self.call.operation
        declared = operation.signature[2] if isinstance(operation, Step) else getattr(operation, "returns", Any)
        if self.output is None or self.call.operation.outputs == 1:
            return declared
        members = get_args(declared)
        return members[self.output] if len(members) == self.call.operation.outputs else Any

    def __iter__(self) -> Iterator["Node"]:
        if self.output is not None or self.call.operation.outputs == 1:
            raise InvalidInputError(
                f"the result of step {self.label!r} ({describe(self.annotation)}) cannot be unpacked "
                "while the pipeline is drawn",
                hint="Annotate what the step returns as tuple[A, B], or unpack it in another step.",
            )
        return iter([Node(self.call, index) for index in range(self.call.operation.outputs)])

    def __bool__(self) -> bool:
        self._refuse("has no truth value")

    def __getitem__(self, key: Any) -> "Node":
        if self.output is None and isinstance(key, int) and self.call.operation.outputs > 1:
            return list(self)[key]
        return self._refuse(f"has no item {key!r}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse(f"has no attribute {name!r}")

    def _refuse(self, what: str) -> NoReturn:
        raise InvalidInputError(
            f"the result of step {self.label!r} {what} while the pipeline is drawn: its value is not known yet",
            hint="A pipeline's body only names steps; work with values inside of a step.",
        )

    def __repr__(self) -> str:
        return f"<result of {self.label}>"


class Graph:
    """All calls of a pipeline, in an order in which each comes after what it needs.

    Attributes:
        pipeline: The pipeline's name.
        calls: By position.
        outputs: The nodes that the body returned, by label.
        parameters: Every parameter that is not another call's result, by ``STEP.NAME`` or ``NAME``.
    """

    def __init__(self, pipeline: str, calls: list[Call], outputs: dict[str, Node], parameters: dict[str, Any]) -> None:
        self.pipeline = pipeline
        self.calls = calls
        self.outputs = outputs
        self.parameters = parameters

    def names_after(self, call: Call) -> list[str]:
        """Return the names of all calls that can only run once ``call`` is done."""
        after = {call.position}
        for later in self.calls[call.position + 1 :]:
            if not after.isdisjoint(later.needs):
                after.add(later.position)
        return [self.calls[position].name for position in sorted(after - {call.position})]


class GraphRecorder:
    """Implements `Recorder`: collects calls and checks each against its annotations."""

    def __init__(self, overrides: Overrides) -> None:
        self.calls: list[Call] = []
        self.parameters: dict[str, Any] = {}
        self._overrides = overrides
        self._names: dict[str, int] = {}

    def record(self, operation: Operation, inputs: Mapping[str, Any]) -> Any:
        """See `Recorder.record`.

        Raises:
            MisfitError: An input does not fit its annotation.
        """
        name = self._unique(operation.name)
        given = self._set_parameters(name, operation, inputs)
        if isinstance(operation, Step):
            _check_inputs(name, operation, given)
        call = Call(len(self.calls), name, operation, given)
        self.calls.append(call)
        node = Node(call)
        return tuple(node) if operation.outputs > 1 and not isinstance(operation, Step) else node

    def _unique(self, name: str) -> str:
        number = self._names[name] = self._names.get(name, 0) + 1
        return name if number == 1 else f"{name}_{number}"

    def _set_parameters(self, name: str, operation: Operation, inputs: Mapping[str, Any]) -> dict[str, Any]:
        annotations = operation.signature[1] if isinstance(operation, Step) else {}
        given = {}
        for parameter, value in inputs.items():
            if any(True for _ in iterate_nodes(value)):
                self._overrides.refuse(name, parameter, "it is the result of another step")
                given[parameter] = value
            else:
                given[parameter] = self._overrides.offer(name, parameter, annotations.get(parameter, Any), value)
                self.parameters[f"{name}.{parameter}"] = given[parameter]
        return given


def build_graph(pipeline: Pipeline[..., Any], values: Mapping[str, Any] | None = None) -> Graph:
    """Run a pipeline's body once and return the calls that it makes.

    Args:
        pipeline: What to read.
        values: Parameters set from outside, by ``STEP.NAME`` or ``NAME``; text is read by the annotation.

    Raises:
        InvalidInputError: The body cannot be drawn: a cycle, an input that does not fit, an unknown parameter.
    """
    overrides = Overrides(values or {})
    recorder = GraphRecorder(overrides)
    arguments = _pipeline_arguments(pipeline, overrides)
    with recording(recorder):
        returned = pipeline(**arguments)
    overrides.check_all_used(pipeline.name)
    if not recorder.calls:
        raise InvalidInputError(
            f"pipeline {pipeline.name!r} calls no step", hint="Call functions marked @fb.step in its body."
        )
    outputs = {node.label: node for node in iterate_nodes(returned)}
    return Graph(pipeline.name, recorder.calls, outputs, {**arguments, **recorder.parameters})


def iterate_nodes(value: Any) -> Iterator[Node]:
    """Return every node in a value, also inside of lists, tuples and dicts."""
    if isinstance(value, Node):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from iterate_nodes(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from iterate_nodes(item)


def replace_nodes(value: Any, load: Callable[[Node], Any]) -> Any:
    """Return a value with each node replaced by what ``load`` gives for it."""
    if isinstance(value, Node):
        return load(value)
    if isinstance(value, list | tuple) and any(True for _ in iterate_nodes(value)):
        items = [replace_nodes(item, load) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, dict):
        return {key: replace_nodes(item, load) for key, item in value.items()}
    return value


def _pipeline_arguments(pipeline: Pipeline[..., Any], overrides: Overrides) -> dict[str, Any]:
    signature, annotations, _ = signature_of(pipeline.function)
    arguments = {}
    for name, parameter in signature.parameters.items():
        missing = parameter.default is parameter.empty
        value = overrides.offer("", name, annotations[name], None if missing else parameter.default)
        if missing and value is None:
            raise InvalidInputError(
                f"pipeline {pipeline.name!r} has a parameter {name!r} without a default",
                hint=f"Give it a default, or set it with --param {name}=VALUE.",
            )
        arguments[name] = value
    return arguments


def _check_inputs(name: str, step: Step[..., Any], inputs: Mapping[str, Any]) -> None:
    signature, annotations, _ = step.signature
    for parameter, value in inputs.items():
        kind = signature.parameters[parameter].kind
        expected = annotations[parameter]
        if kind is kind.VAR_POSITIONAL:
            pairs = [(f"*{parameter}", item) for item in value]
        elif kind is kind.VAR_KEYWORD:
            pairs = list(value.items())
        else:
            pairs = [(parameter, value)]
        for label, item in pairs:
            misfit = _misfit(item, expected)
            if misfit:
                raise MisfitError(name, label, describe(expected), misfit)


def _misfit(value: Any, expected: Any) -> str:
    """Say what is given where it does not fit; empty where it does."""
    if isinstance(value, Node):
        if fits(value.annotation, expected):
            return ""
        return f"the result of step {value.label!r}, which is {describe(value.annotation)}"
    if any(True for _ in iterate_nodes(value)):
        return _misfit_of_collection(value, expected)
    return "" if value_fits(value, expected) else describe_value(value)


def _misfit_of_collection(value: Any, expected: Any) -> str:
    if not fits(type(value), expected):
        return f"a {type(value).__name__} of results"
    arguments = get_args(expected)
    items = list(value.values()) if isinstance(value, dict) else list(value)
    if isinstance(value, tuple) and len(arguments) == len(items) and Ellipsis not in arguments:
        wanted = list(arguments)
    elif arguments:
        wanted = [arguments[1] if isinstance(value, dict) and len(arguments) > 1 else arguments[0]] * len(items)
    else:
        return ""
    return next((misfit for misfit in map(_misfit, items, wanted) if misfit), "")
