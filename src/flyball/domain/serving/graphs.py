"""Endpoints as small graphs, as a project declares them: other models, ensembles, routes, fallbacks.

A graph is a tree of nodes. Its leaves are models (the one that is live of each) and constants; the endpoint's own model
is the one that rollouts exchange. How a graph is computed is in `graph_scoring.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from flyball.core.durations import format_duration, parse_duration
from flyball.core.errors import BackendError, InvalidInputError

if TYPE_CHECKING:
    from flyball.domain.serving.loaded import LoadedVersion

Combine = Literal["mean", "vote"]
Case = str | int | bool
_DEEPEST = 8


class ModelNode(msgspec.Struct, frozen=True, kw_only=True, tag="model"):
    """The live version of a model; made by `model`."""

    name: str


class ConstantNode(msgspec.Struct, frozen=True, kw_only=True, tag="constant"):
    """One answer for every row; what a fallback may be."""

    value: float | str | bool | int


class EnsembleNode(msgspec.Struct, frozen=True, kw_only=True, tag="ensemble"):
    """Several nodes that answer together; made by `ensemble`."""

    members: tuple["Node", ...]
    weights: tuple[float, ...]
    combine: Combine


class RouteNode(msgspec.Struct, frozen=True, kw_only=True, tag="route"):
    """One node for each value of a request's field; made by `route`."""

    field: str
    cases: tuple[tuple[Case, "Node"], ...]
    otherwise: "Node | None" = None


class FallbackNode(msgspec.Struct, frozen=True, kw_only=True, tag="fallback"):
    """A node, and another one for when it fails or is late; made by `fallback`."""

    first: "Node"
    to: "Node"
    within: timedelta | None = None


Node = ModelNode | ConstantNode | EnsembleNode | RouteNode | FallbackNode


class NodeUnavailableError(BackendError):
    """A model of the graph has no version that could answer."""

    code = "serving/node-unavailable"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"no version of {model!r} is live, which this endpoint's graph asks",
            hint="Train one with: flyball run PIPELINE",
        )


class NodesDifferError(InvalidInputError):
    """Two models of a graph answer different questions."""

    code = "serving/nodes-differ"

    def __init__(self, own: str, other: str, reason: str) -> None:
        super().__init__(
            f"{other} and {own} cannot answer at one endpoint: {reason}",
            hint="Models of one graph must predict the same, with the same classes.",
        )


def model(name: str) -> ModelNode:
    """Name a model of the project: its live version answers.

    Args:
        name: As `candidate` gives it; an endpoint of the project must serve that model, so that it has gates, a
            rollout and features of its own.

    Raises:
        InvalidInputError: It is no name.
    """
    if not isinstance(name, str) or not name:
        raise InvalidInputError(f"model({name!r}) must be the name of a model")
    return ModelNode(name=name)


def ensemble(*members: "Node | str", weights: Sequence[float] | None = None, combine: Combine = "mean") -> EnsembleNode:
    """Let several models answer together.

    Args:
        members: Nodes, or names of models; at least two.
        weights: How much each counts; alike by default.
        combine: ``"mean"`` of the values or probabilities, or ``"vote"``: the share of the members that say so.

    Raises:
        InvalidInputError: There are too few members, or weights that do not fit them.
    """
    nodes = tuple(_to_node("ensemble", member) for member in members)
    if len(nodes) < 2:
        raise InvalidInputError("an ensemble needs at least two members")
    if any(isinstance(node, ConstantNode) for node in nodes):
        raise InvalidInputError("a constant cannot be a member of an ensemble", hint="It can be a fallback.")
    if combine not in ("mean", "vote"):
        raise InvalidInputError(f"ensemble(combine={combine!r}) must be 'mean' or 'vote'")
    given = tuple(weights) if weights is not None else (1.0,) * len(nodes)
    if len(given) != len(nodes):
        raise InvalidInputError(f"ensemble has {len(nodes)} members, but {len(given)} weights")
    if not all(_is_number(weight) and weight > 0 for weight in given):
        raise InvalidInputError(f"ensemble(weights={list(given)!r}) must be numbers greater than 0")
    total = sum(given)
    return EnsembleNode(members=nodes, weights=tuple(weight / total for weight in given), combine=combine)


def route(field: str, cases: Mapping[Case, "Node | str"], *, otherwise: "Node | str | None" = None) -> RouteNode:
    """Let a field of the request decide who answers.

    Args:
        field: Its name.
        cases: For each of its values a node, or the name of a model.
        otherwise: Who answers all others; by default they are refused.

    Raises:
        InvalidInputError: There are no cases, or one is not what it must be.
    """
    if not isinstance(field, str) or not field:
        raise InvalidInputError(f"route(field={field!r}) must be the name of a field of the request")
    if not isinstance(cases, Mapping) or not cases:
        raise InvalidInputError(
            f"route({field!r}) needs at least one case", hint='Write fb.route("country", {"DE": "risk-de"}).'
        )
    for value in cases:
        if not isinstance(value, str | int | bool):
            raise InvalidInputError(f"route({field!r}) has the case {value!r}, which no field is equal to for certain")
    return RouteNode(
        field=field,
        cases=tuple((value, _to_node("route", node)) for value, node in cases.items()),
        otherwise=None if otherwise is None else _to_node("route", otherwise),
    )


def fallback(first: "Node | str", *, to: "Node | str | float", within: str | timedelta | None = None) -> FallbackNode:
    """Let something else answer when a model fails, or does not answer in time.

    A row that breaks an expectation is refused as ever: that is no failure. Each failure is logged beside the answer,
    so that `service` raises its alert when there are many.

    Args:
        first: A node, or the name of a model.
        to: Who answers then: a node, the name of a model, or a number: the value or probability.
        within: How long ``first`` may take, such as ``"50ms"``; as long as it likes by default.

    Raises:
        InvalidInputError: A part is not what it must be.
    """
    node = _to_node("fallback", first)
    if isinstance(node, ConstantNode):
        raise InvalidInputError("a constant does not fail, so it needs no fallback")
    other: Node = ConstantNode(value=to) if _is_number(to) else _to_node("fallback", to)  # type: ignore[arg-type]
    limit = None if within is None else parse_duration(within, what="fallback's within")
    if limit is not None and limit <= timedelta():
        raise InvalidInputError(f"fallback(within={within!r}) must be longer than nothing")
    return FallbackNode(first=node, to=other, within=limit)


def constant(value: float | str | bool) -> ConstantNode:
    """Answer every row alike: a number, or one of the model's classes. For what a fallback falls back to.

    Raises:
        InvalidInputError: It is neither.
    """
    if not isinstance(value, str | bool) and not _is_number(value):
        raise InvalidInputError(f"constant({value!r}) must be a number or the name of a class")
    return ConstantNode(value=value)


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and all below it."""
    yield node
    for child in _children(node):
        yield from walk(child)


def models_of(node: Node) -> list[str]:
    """Return the models of a graph, each once."""
    return list(dict.fromkeys(found.name for found in walk(node) if isinstance(found, ModelNode)))


def check_graph(node: Any, own: str, models: Sequence[str] | None = None) -> None:
    """Refuse a graph that cannot be computed.

    Args:
        node: The graph.
        own: The endpoint's own model, which must be in it.
        models: The models that endpoints of the project serve; not checked by default.

    Raises:
        InvalidInputError: It is no graph, lacks the endpoint's own model, or names a model that nothing serves.
    """
    if not isinstance(node, Node):
        raise InvalidInputError(
            f"the graph of the endpoint for {own!r} must be made by model, ensemble, route or fallback, "
            f"but {node!r} was given"
        )
    if _depth(node) > _DEEPEST:
        raise InvalidInputError(f"the graph of the endpoint for {own!r} is deeper than {_DEEPEST} nodes")
    used = models_of(node)
    if own not in used:
        raise InvalidInputError(
            f"the graph of the endpoint for {own!r} does not use that model but {', '.join(map(repr, used))}",
            hint="The endpoint's own model is the one that its gates and its rollout are about.",
        )
    unserved = [name for name in used if models is not None and name not in models]
    if unserved:
        raise InvalidInputError(
            f"the graph of the endpoint for {own!r} uses {', '.join(map(repr, unserved))}, which no endpoint serves",
            hint=f"Declare fb.Endpoint(model={unserved[0]!r}), so that it has gates and features of its own.",
        )


def check_fits(node: Node, own: "LoadedVersion", other: "LoadedVersion") -> None:
    """Refuse a version that answers another question than the endpoint's own.

    Raises:
        NodesDifferError: It does, or its requests need fields that the endpoint's requests do not have.
    """
    ours, theirs = own.signature, other.signature
    if ours.task != theirs.task:
        raise NodesDifferError(own.ref, other.ref, f"one is for {ours.task}, the other for {theirs.task}")
    if ours.classes != theirs.classes:
        raise NodesDifferError(own.ref, other.ref, f"their classes are {ours.classes} and {theirs.classes}")
    fields = set(own.request.schema.names)
    missing = [name for name in other.request.schema.names if name not in fields and name != other.time]
    if missing:
        told = ", ".join(map(repr, missing))
        raise NodesDifferError(own.ref, other.ref, f"the second one's requests also need {told}")


def describe(node: Node) -> str:
    """Return a graph in words, such as ``fallback(risk to 0.5 within 50ms)``."""
    if isinstance(node, ModelNode):
        return node.name
    if isinstance(node, ConstantNode):
        return repr(node.value)
    if isinstance(node, EnsembleNode):
        return f"{node.combine} of {', '.join(map(describe, node.members))}"
    if isinstance(node, RouteNode):
        cases = "; ".join(f"{value!r}: {describe(child)}" for value, child in node.cases)
        rest = f"; else {describe(node.otherwise)}" if node.otherwise is not None else ""
        return f"by {node.field} ({cases}{rest})"
    late = f" within {format_duration(node.within)}" if node.within is not None else ""
    return f"{describe(node.first)}{late}, else {describe(node.to)}"


def _children(node: Node) -> tuple[Node, ...]:
    if isinstance(node, EnsembleNode):
        return node.members
    if isinstance(node, RouteNode):
        otherwise = () if node.otherwise is None else (node.otherwise,)
        return (*(child for _, child in node.cases), *otherwise)
    if isinstance(node, FallbackNode):
        return (node.first, node.to)
    return ()


def _depth(node: Node) -> int:
    return 1 + max((_depth(child) for child in _children(node)), default=0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _to_node(what: str, value: Any) -> Node:
    if isinstance(value, Node):
        return value
    if isinstance(value, str) and value:
        return ModelNode(name=value)
    raise InvalidInputError(
        f"{what} was given {value!r}, which is neither a node nor the name of a model",
        hint='Nodes are made by fb.model, fb.ensemble, fb.route and fb.fallback; a name is text, such as "risk".',
    )
