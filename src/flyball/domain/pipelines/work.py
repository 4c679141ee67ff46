"""What a worker does: brings the inputs, runs one step, keeps what it returns."""

import contextlib
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from flyball.core.clock import Clock, monotonic_s
from flyball.core.durations import to_us
from flyball.core.errors import FlyballError, InvalidInputError
from flyball.domain.pipelines.context import RunContext
from flyball.domain.pipelines.engine import Action, Outcome, Point, Task
from flyball.domain.pipelines.fingerprints import FileDigests, clock_ns
from flyball.domain.pipelines.graph import Call, Graph, Node, replace_nodes
from flyball.domain.pipelines.materialisers import ValueStore
from flyball.domain.pipelines.results import StoredValue
from flyball.domain.pipelines.seeds import seeded
from flyball.domain.pipelines.signatures import describe, describe_value, value_fits
from flyball.domain.pipelines.steps import Step
from flyball.domain.tracking.logging import logging_to
from flyball.storage.blobs import LocalBlobStore

_LONGEST_WAIT_S = 60
_FLYBALL = str(Path(__file__).parents[2])


class WrongResultError(InvalidInputError):
    """A step returns something else than its annotation says."""

    code = "pipelines/wrong-result"

    def __init__(self, step: str, expected: str, given: str) -> None:
        super().__init__(
            f"step {step!r} is annotated to return {expected}, but returned {given}",
            hint="Return what it says, or change the annotation if that is wrong.",
        )


class WrongInputError(InvalidInputError):
    """A step is given a value, known only now, that does not fit its annotation."""

    code = "pipelines/misfit"

    def __init__(self, step: str, parameter: str, expected: str, given: str) -> None:
        super().__init__(
            f"step {step!r}: parameter {parameter!r} expects {expected}, but is given {given}",
            hint="Pass what it expects, or change the annotation if that is wrong.",
        )


class StepWorker:
    """Carries out tasks of one run; called in a worker process, or inline.

    Args:
        graph: The run's graph; the worker has the functions in memory.
        new_context: Makes what operations use, anew for each task.
        blobs: Where values are kept.
        root: The project's folder; steps run in it.
        clock: Tells when metric points were logged.
    """

    def __init__(
        self, graph: Graph, new_context: Callable[[], RunContext], blobs: LocalBlobStore, root: Path, clock: Clock
    ) -> None:
        self._graph = graph
        self._new_context = new_context
        self._blobs = blobs
        self._root = root
        self._clock = clock
        self._values = ValueStore(blobs, root, lambda path: FileDigests().digest(path))

    def __call__(self, payload: bytes) -> bytes:
        """Carry out an encoded `Task` and return its encoded `Outcome`."""
        task = msgspec.msgpack.decode(payload, type=Task)
        call = self._graph.calls[task.call]
        context = self._new_context()
        log = _Log(context, self._blobs, self._clock)
        attempts = _Attempts()
        started, began_ns = monotonic_s(), clock_ns()
        outputs: list[tuple[StoredValue, bytes | None]] = []
        identity = error = trace = ""
        with _surroundings(self._root):
            try:
                if task.action is Action.IDENTIFY:
                    identity = call.operation.identity(context)
                else:
                    with seeded(task.seed), logging_to(log):
                        outputs = self._run(call, task, context, attempts)
            except KeyboardInterrupt:
                raise
            except BaseException as raised:  # noqa: BLE001  a step may raise anything, even SystemExit
                error, trace = _tell(raised, self._root)
        outcome = Outcome(
            identity=identity,
            outputs=[stored for stored, _ in outputs],
            contents=[content for _, content in outputs],
            notes=context.notes,
            points=log.points,
            attempts=attempts.count,
            duration=timedelta(seconds=monotonic_s() - started),
            window=(began_ns, clock_ns()),
            error=error,
            traceback=trace,
        )
        return msgspec.msgpack.encode(outcome)

    def _run(
        self, call: Call, task: Task, context: RunContext, attempts: "_Attempts"
    ) -> list[tuple[StoredValue, bytes | None]]:
        inputs = self._load_inputs(call, task)
        operation = call.operation
        if isinstance(operation, Step):
            _check_inputs(call.name, operation, call.inputs, inputs)

        def attempt() -> Any:
            attempts.count += 1
            return operation.run(context, inputs)

        value = _with_retries(operation, attempt) if isinstance(operation, Step) else attempt()
        values = _split(call, value)
        if isinstance(operation, Step) and _measures(operation):
            context.note("metric", {name: _figure(figure) for name, figure in value.items()})
        return [self._values.put(call.name, item) for item in values]

    def _load_inputs(self, call: Call, task: Task) -> dict[str, Any]:
        given = {(item.call, item.output): item for item in task.given}
        loaded: dict[tuple[int, int], Any] = {}

        def load_one(call_position: int, output: int) -> Any:
            place = (call_position, output)
            if place not in loaded:
                loaded[place] = self._values.get(given[place].value, given[place].content)
            return loaded[place]

        def load(node: Node) -> Any:
            count = node.call.operation.outputs
            if count == 1:
                return load_one(node.call.position, 0)
            if node.output is not None:
                return load_one(node.call.position, node.output)
            return tuple(load_one(node.call.position, output) for output in range(count))

        return {name: replace_nodes(value, load) for name, value in call.inputs.items()}


class _Attempts:
    """Counts how often a step was tried, also when the last attempt raises."""

    count = 0


class _Log:
    """Implements `RunLog`: collects, for the process that records."""

    def __init__(self, context: RunContext, blobs: LocalBlobStore, clock: Clock) -> None:
        self.points: list[Point] = []
        self._context = context
        self._blobs = blobs
        self._clock = clock

    def metric(self, name: str, value: float, step: int) -> None:
        self.points.append(Point(name, value, step, to_us(self._clock.now())))

    def artifact(self, name: str, content: bytes | Path) -> None:
        if isinstance(content, Path):
            digest, size = self._blobs.put_file(content), content.stat().st_size
        else:
            digest, size = self._blobs.put_bytes(content), len(content)
        self._context.note("artifact", {"name": name, "digest": digest, "size_bytes": size})

    def tag(self, name: str, value: str) -> None:
        self._context.note("tag", {"name": name, "value": value})


@contextlib.contextmanager
def _surroundings(root: Path) -> Iterator[None]:
    """Run in the project's folder, with what a step prints on the error output: results own the other one."""
    before = Path.cwd()
    if before != root:
        os.chdir(root)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if before != root:
            os.chdir(before)


def _with_retries(step: Step[..., Any], attempt: Callable[[], Any]) -> Any:
    if not step.retries:
        return attempt()
    import tenacity

    policy = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(step.retries + 1),
        wait=tenacity.wait_exponential(multiplier=step.backoff.total_seconds(), max=_LONGEST_WAIT_S),
        reraise=True,
    )
    return policy(attempt)


def _check_inputs(name: str, step: Step[..., Any], declared: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Check what could not be checked while the graph was drawn: results of steps without an annotation."""
    signature, annotations, _ = step.signature
    for parameter, value in values.items():
        variadic = signature.parameters[parameter].kind in (
            signature.parameters[parameter].VAR_POSITIONAL,
            signature.parameters[parameter].VAR_KEYWORD,
        )
        if isinstance(declared[parameter], Node) and not variadic and not value_fits(value, annotations[parameter]):
            raise WrongInputError(name, parameter, describe(annotations[parameter]), describe_value(value))


def _split(call: Call, value: Any) -> list[Any]:
    """Check a result against its annotation and return its parts."""
    operation = call.operation
    expected = operation.signature[2] if isinstance(operation, Step) else Any
    if not value_fits(value, expected):
        raise WrongResultError(call.name, describe(expected), describe_value(value))
    if operation.outputs == 1:
        return [value]
    if not isinstance(value, tuple) or len(value) != operation.outputs:
        raise WrongResultError(call.name, f"{operation.outputs} values", describe_value(value))
    return list(value)


def _measures(step: Step[..., Any]) -> bool:
    """Tell whether a step's result is figures by name, which become metrics of the run."""
    return step.signature[2] in (dict[str, float], dict[str, int], Mapping[str, float], Mapping[str, int])


def _figure(value: float) -> float | str:
    """Return a figure as JSON can hold it: NaN and infinities as text."""
    number = float(value)
    return number if math.isfinite(number) else str(number)


def _tell(error: BaseException, root: Path) -> tuple[str, str]:
    """Return an error in short, with the user's own lines of the traceback, and the whole traceback."""
    whole = "".join(traceback.format_exception(error))
    if isinstance(error, FlyballError):
        return str(error), whole
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_FLYBALL)]
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(root)]
    shown = "".join(traceback.format_list(own or frames[-1:]))
    kind = "".join(traceback.format_exception_only(error)).strip()
    return f"{kind}\n{shown}".rstrip(), whole
