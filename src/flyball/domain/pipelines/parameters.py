"""Parameters that are set from outside: ``--param STEP.NAME=VALUE``, read by the annotation."""

import enum
import json
import types
import typing
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from flyball.core.durations import parse_duration
from flyball.core.errors import InvalidInputError, UnknownNameError
from flyball.domain.pipelines.signatures import describe, describe_value, value_fits

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}
_ORDER = (types.NoneType, bool, int, float, datetime, date, timedelta, enum.Enum, Path, list, dict, tuple, str)
"""In which order the members of a union are tried; text fits everything, so it comes last."""


class ParameterError(InvalidInputError):
    """A parameter that was set from outside cannot be what it should be."""

    code = "pipelines/parameter"


def parse_pairs(texts: Iterable[str]) -> dict[str, str]:
    """Read ``STEP.NAME=VALUE`` texts; the last of one name counts.

    Raises:
        ParameterError: A text has no ``=`` or no name.
    """
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip(". "):
            raise ParameterError(
                f"{text!r} sets no parameter", hint="Write it as STEP.NAME=VALUE, such as train.learning_rate=0.2."
            )
        pairs[name.strip()] = value
    return pairs


class Overrides:
    """Parameters set from outside, handed out while a graph is built.

    Args:
        values: By ``STEP.NAME``, or ``NAME`` for a parameter of the pipeline itself. Text is read by the
            parameter's annotation; any other value must fit it.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)
        self._used: set[str] = set()
        self._known: dict[str, set[str]] = {}

    def offer(self, step: str, name: str, annotation: Any, current: Any) -> Any:
        """Return the value set for a parameter, or ``current`` when none is.

        Args:
            step: The step's name; empty for a parameter of the pipeline itself.
            name: The parameter's name.
            annotation: Its annotation; where it is Any, the type of ``current`` counts.
            current: The value that the code gives.

        Raises:
            ParameterError: The value does not fit.
        """
        self._known.setdefault(step, set()).add(name)
        full = f"{step}.{name}" if step else name
        if full not in self._values:
            return current
        self._used.add(full)
        if annotation is Any and current is not None and not isinstance(current, type):
            annotation = type(current)
        return read_value(full, self._values[full], annotation)

    def refuse(self, step: str, name: str, reason: str) -> None:
        """Say that a parameter cannot be set from outside.

        Raises:
            ParameterError: It is set.
        """
        self._known.setdefault(step, set()).add(name)
        if f"{step}.{name}" in self._values:
            raise ParameterError(f"parameter {step}.{name} cannot be set: {reason}")

    def check_all_used(self, pipeline: str) -> None:
        """Refuse names that no step has.

        Raises:
            UnknownNameError: There is no such step, or it has no such parameter.
        """
        for full in self._values:
            if full in self._used:
                continue
            step, _, name = full.rpartition(".")
            if step in self._known:
                kind = f"parameter of step {step!r}" if step else f"parameter of pipeline {pipeline!r}"
                raise UnknownNameError(kind, name, self._known[step], hint=self._hint(full))
            steps = [known for known in self._known if known]
            raise UnknownNameError(f"step of pipeline {pipeline!r}", step or full, steps, hint=self._hint(full))

    def _hint(self, full: str) -> str:
        known = [f"{step}.{name}" if step else name for step, names in self._known.items() for name in sorted(names)]
        close = get_close_matches(full, known, n=1, cutoff=0.4)
        return f"Write it as --param {close[0]}=VALUE." if close else "Write it as --param STEP.NAME=VALUE."


def read_value(name: str, value: Any, annotation: Any) -> Any:
    """Return the value of a parameter that was set from outside, read from text by the annotation.

    Raises:
        ParameterError: It does not fit the annotation.
    """
    if isinstance(value, str):
        try:
            return _read(value, annotation)
        except ValueError as error:
            raise ParameterError(f"parameter {name} expects {describe(annotation)}, but {value!r} was given") from error
    if not value_fits(value, annotation):
        raise ParameterError(f"parameter {name} expects {describe(annotation)}, but {describe_value(value)} was given")
    return value


def _read(text: str, annotation: Any) -> Any:
    """Read text by an annotation; ValueError when it does not fit."""
    if annotation is Any or isinstance(annotation, typing.TypeVar):
        return _read_json(text, fallback=True)
    origin = get_origin(annotation)
    if origin is typing.Annotated:
        return _read(text, get_args(annotation)[0])
    if isinstance(annotation, types.UnionType) or origin is typing.Union:
        return _read_union(text, get_args(annotation))
    if origin is Literal:
        for allowed in get_args(annotation):
            if str(allowed) == text:
                return allowed
        raise ValueError(text)
    if annotation is None:
        annotation = types.NoneType
    if isinstance(annotation, type) and origin is None:
        return _read_plain(text, annotation)
    return _read_collection(text, annotation)


def _read_union(text: str, members: tuple[Any, ...]) -> Any:
    def rank(member: Any) -> int:
        kind = get_origin(member) or member
        if not isinstance(kind, type):
            return 0
        return next((place for place, known in enumerate(_ORDER) if issubclass(kind, known)), 0)

    for member in sorted(members, key=rank):
        try:
            return _read(text, member)
        except ValueError:
            continue
    raise ValueError(text)


def _read_plain(text: str, kind: type) -> Any:
    if kind is types.NoneType:
        if text.lower() in ("none", "null", ""):
            return None
        raise ValueError(text)
    if kind is bool:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise ValueError(text)
    if issubclass(kind, enum.Enum):
        return _read_enum(text, kind)
    if kind in (int, float, str):
        return kind(text)
    if issubclass(kind, Path):
        return kind(text)
    if issubclass(kind, datetime | date):
        return kind.fromisoformat(text)
    if kind is timedelta:
        try:
            return parse_duration(text)
        except InvalidInputError as error:
            raise ValueError(text) from error
    return _read_collection(text, kind)


def _read_enum(text: str, kind: type[enum.Enum]) -> enum.Enum:
    for member in kind:
        if text in (member.name, str(member.value)):
            return member
    raise ValueError(text)


def _read_collection(text: str, annotation: Any) -> Any:
    value = _read_json(text, fallback=False)
    wanted = get_origin(annotation) or annotation
    if isinstance(value, list) and isinstance(wanted, type) and issubclass(wanted, tuple | set | frozenset):
        value = wanted(value)
    if not value_fits(value, annotation):
        raise ValueError(text)
    return value


def _read_json(text: str, *, fallback: bool) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        if fallback:
            return text
        raise
