"""What a user marks: steps and pipelines. Cheap to import: nothing but the standard library is loaded here."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from functools import cached_property, update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar, overload

from flyball.core.durations import parse_duration
from flyball.core.errors import InvalidInputError
from flyball.domain.data.recording import OperationContext, is_recording, record
from flyball.domain.pipelines.signatures import signature_of, tuple_length

P = ParamSpec("P")
R = TypeVar("R")


class PipelineCycleError(InvalidInputError):
    """A pipeline calls itself, directly or through another."""

    code = "pipelines/cycle"

    def __init__(self, path: list[str]) -> None:
        super().__init__(
            f"pipeline {path[-1]!r} is a cycle: {' → '.join(path)}",
            hint="A pipeline's body is read once to draw its graph; take the call back to it out.",
        )


class Step(Generic[P, R]):
    """One function of a pipeline, made by `step`.

    Inside a pipeline a call adds a node to its graph; anywhere else it just calls the function.

    Attributes:
        name: Shown to people and used in ``--param NAME.PARAMETER=VALUE``.
        function: What was marked.
        retries: How often it is tried again after an exception.
        backoff: The wait before the first retry; it doubles with each.
    """

    def __init__(self, function: Callable[P, R], *, name: str, retries: int, backoff: timedelta) -> None:
        self.function = function
        self.name = name
        self.retries = retries
        self.backoff = backoff
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Add a node to the pipeline that is being read, or call the function."""
        if not is_recording():
            return self.function(*args, **kwargs)
        try:
            bound = self.signature[0].bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidInputError(
                f"step {self.name!r} cannot be called so: {error}",
                hint=f"It is declared as {self.name}{self.signature[0]}.",
            ) from error
        bound.apply_defaults()
        node: R = record(self, bound.arguments)
        return node

    @cached_property
    def signature(self) -> tuple[inspect.Signature, dict[str, Any], Any]:
        """The function's signature, its parameters' annotations and its result's."""
        return signature_of(self.function)

    @cached_property
    def outputs(self) -> int:
        """See `Operation.outputs`."""
        return tuple_length(self.signature[2])

    def identity(self, context: OperationContext) -> str:
        """See `Operation.identity`. A step depends on its code and inputs alone, which the key holds apart."""
        return ""

    def run(self, context: OperationContext, inputs: Mapping[str, Any]) -> R:
        """See `Operation.run`."""
        bound = inspect.BoundArguments(self.signature[0], dict(inputs))
        return self.function(*bound.args, **bound.kwargs)

    def __repr__(self) -> str:
        return f"<step {self.name}>"


class Pipeline(Generic[P, R]):
    """A function whose body names steps and how they hang together, made by `pipeline`.

    Attributes:
        name: Unique in a project.
        function: What was marked.
    """

    def __init__(self, function: Callable[P, R], *, name: str) -> None:
        self.function = function
        self.name = name
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Put this pipeline's nodes into the one that is being read; elsewhere call the body as plain Python.

        Raises:
            PipelineCycleError: This pipeline is being read already.
        """
        with _entering(self):
            return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"


_open_pipelines: ContextVar[tuple[Pipeline[Any, Any], ...]] = ContextVar("flyball_open_pipelines", default=())


@contextmanager
def _entering(pipeline: Pipeline[Any, Any]) -> Iterator[None]:
    stack = _open_pipelines.get()
    if pipeline in stack:
        path = [entered.name for entered in stack[stack.index(pipeline) :]]
        raise PipelineCycleError([*path, pipeline.name])
    token = _open_pipelines.set((*stack, pipeline))
    try:
        yield
    finally:
        _open_pipelines.reset(token)


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...


@overload
def step(
    *, retries: int = 0, backoff: str | timedelta = "1s", name: str | None = None
) -> Callable[[Callable[P, R]], Step[P, R]]: ...


def step(
    function: Callable[P, R] | None = None,
    /,
    *,
    retries: int = 0,
    backoff: str | timedelta = "1s",
    name: str | None = None,
) -> Step[P, R] | Callable[[Callable[P, R]], Step[P, R]]:
    """Mark a function as a step: ``@step`` or ``@step(retries=3, backoff="2s")``.

    Its result is kept and taken again while its code, the project's functions that it calls, its parameters and the
    content of its inputs stay the same. An argument that names an existing file or folder counts by its content.

    Args:
        function: The function, when the mark is used without brackets.
        retries: How often to try again after an exception.
        backoff: The wait before the first retry; it doubles with each, up to a minute.
        name: Shown to people; the function's name by default.

    Raises:
        InvalidInputError: What is marked is not a plain function, or an option makes no sense.
    """
    if not isinstance(retries, int) or retries < 0:
        raise InvalidInputError(f"retries is {retries!r}", hint="Write a whole number, 0 or more.")
    wait = parse_duration(backoff, what="backoff")

    def mark(function: Callable[P, R]) -> Step[P, R]:
        _require_function("step", function)
        return Step(function, name=name or function.__name__, retries=retries, backoff=wait)

    return mark if function is None else mark(function)


@overload
def pipeline(function: Callable[P, R], /) -> Pipeline[P, R]: ...


@overload
def pipeline(*, name: str | None = None) -> Callable[[Callable[P, R]], Pipeline[P, R]]: ...


def pipeline(
    function: Callable[P, R] | None = None, /, *, name: str | None = None
) -> Pipeline[P, R] | Callable[[Callable[P, R]], Pipeline[P, R]]:
    """Mark a function whose body calls steps: ``@pipeline``.

    The body is run once for each run to draw the graph; it sees nodes in place of values. Its own parameters must
    have defaults and can be set with ``--param NAME=VALUE``.

    Raises:
        InvalidInputError: What is marked is not a plain function.
    """

    def mark(function: Callable[P, R]) -> Pipeline[P, R]:
        _require_function("pipeline", function)
        return Pipeline(function, name=name or function.__name__)

    return mark if function is None else mark(function)


def _require_function(mark: str, function: Any) -> None:
    if not inspect.isfunction(function):
        raise InvalidInputError(f"@{mark} marks {function!r}", hint="It marks a plain function: def name(...): ...")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        kind = "async" if inspect.iscoroutinefunction(function) else "generator"
        raise InvalidInputError(
            f"@{mark} marks {function.__name__!r}, which is {kind}", hint="Return the result from a plain function."
        )
