"""How a call written inside a pipeline becomes a node of its graph.

The rooms `features`, `registry` and `pipelines` all offer calls that a user writes in a pipeline's body. They say
what they do as an `Operation`; whoever builds the graph installs a `Recorder`. This room is the lowest that they share.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Protocol, TypeVar

from flyball.core.errors import InvalidInputError

S = TypeVar("S")


class OperationContext(Protocol):
    """What an operation may use while a run executes it."""

    @property
    def run_id(self) -> str:
        """The run that executes the operation."""
        ...

    @property
    def as_of(self) -> datetime:
        """Nothing that became known after this instant may be used."""
        ...

    @property
    def actor(self) -> str:
        """Who or what asked for the run."""
        ...

    def service(self, type_: type[S]) -> S:
        """Return the wired service of a type, such as ``DataService``."""
        ...

    def note(self, kind: str, value: Any) -> None:
        """Record a fact about the run, such as ``note("snapshot", snapshot_id)``; kept with the run."""
        ...


class Operation(Protocol):
    """One kind of node: what it is called, what its result depends on besides its inputs, and what it does."""

    @property
    def name(self) -> str:
        """The node's name, shown to people and used in ``--param NAME.ARGUMENT=VALUE``."""
        ...

    @property
    def outputs(self) -> int:
        """How many values `run` returns: 1, or the length of a tuple."""
        ...

    def identity(self, context: OperationContext) -> str:
        """Return what the result depends on besides the inputs: code, parameters, snapshots. Part of the cache key."""
        ...

    def run(self, context: OperationContext, inputs: Mapping[str, Any]) -> Any:
        """Compute the result from the values of the inputs."""
        ...


class Recorder(Protocol):
    """Builds a graph while a pipeline's body runs."""

    def record(self, operation: Operation, inputs: Mapping[str, Any]) -> Any:
        """Add a node and return what stands for its result: one node, or a tuple of `Operation.outputs` nodes."""
        ...


_current: ContextVar[Recorder | None] = ContextVar("flyball_recorder", default=None)


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """Send every `record` of the block to ``recorder``."""
    token = _current.set(recorder)
    try:
        yield
    finally:
        _current.reset(token)


def is_recording() -> bool:
    """Tell whether a pipeline's body is being read."""
    return _current.get() is not None


def record(operation: Operation, inputs: Mapping[str, Any]) -> Any:
    """Add a node to the graph that is being built.

    Raises:
        InvalidInputError: No pipeline is being built.
    """
    recorder = _current.get()
    if recorder is None:
        raise InvalidInputError(
            f"{operation.name} was called outside a pipeline",
            hint="Call it in the body of a function marked @fb.pipeline, and run that with: flyball run NAME",
        )
    return recorder.record(operation, inputs)
