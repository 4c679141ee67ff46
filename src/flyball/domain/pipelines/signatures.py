"""Whether a value or a type fits an annotation, and reading a value from text.

The check refuses only what cannot be right: an annotation that cannot be resolved, a type variable or a structural
type fits everything.
"""

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_origin

_WIDENINGS = {(int, float), (int, complex), (float, complex)}
"""PEP 484: an int is accepted where a float is expected, and both where a complex is."""
_ELEMENTS_CHECKED = 100
"""How many elements of a list or dict are looked at; the rest is taken to be alike."""


def signature_of(function: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, Any], Any]:
    """Return a function's signature, the annotation of each parameter, and that of its result.

    What is not annotated, or cannot be resolved, is ``Any``.
    """
    signature = inspect.signature(function)
    names = getattr(function, "__globals__", {})
    parameters = {
        name: Any if parameter.annotation is parameter.empty else _resolve(parameter.annotation, names)
        for name, parameter in signature.parameters.items()
    }
    result = signature.return_annotation
    return signature, parameters, Any if result is signature.empty else _resolve(result, names)


def tuple_length(annotation: Any) -> int:
    """Return how many values a result of ``tuple[A, B]`` is unpacked to; 1 for everything else."""
    members = get_args(annotation)
    if get_origin(annotation) is tuple and members and Ellipsis not in members:
        return len(members)
    return 1


def fits(given: Any, expected: Any) -> bool:
    """Tell whether a value of type ``given`` may be passed where ``expected`` is annotated."""
    given, expected = _plain(given), _plain(expected)
    if Any in (given, expected) or expected is object:
        return True
    return all(any(_fits_one(one, other) for other in _members(expected)) for one in _members(given))


def value_fits(value: Any, expected: Any) -> bool:
    """Tell whether a value may be passed where ``expected`` is annotated; long collections are sampled."""
    expected = _plain(expected)
    if expected is Any or expected is object:
        return True
    return any(_value_fits_one(value, _plain(member)) for member in _members(expected))


def describe(annotation: Any) -> str:
    """Write an annotation as a person would."""
    if annotation is None or annotation is types.NoneType:
        return "None"
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__qualname__
    if isinstance(annotation, types.UnionType) or get_origin(annotation) is typing.Union:
        return " | ".join(describe(member) for member in get_args(annotation))
    origin: Any = get_origin(annotation)
    if isinstance(origin, type):
        return f"{origin.__qualname__}[{', '.join(map(describe, get_args(annotation)))}]"
    return str(annotation).replace("typing.", "").replace("Ellipsis", "...")


def describe_value(value: Any) -> str:
    """Write a value and its type, short."""
    text = repr(value)
    shown = text if len(text) <= 60 else text[:57] + "…"
    return f"{shown} ({type(value).__qualname__})"


def _resolve(annotation: Any, names: Mapping[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, dict(names))
    except (NameError, AttributeError, SyntaxError, TypeError):  # imported under TYPE_CHECKING, or a local class
        return Any


def _plain(annotation: Any) -> Any:
    """Reduce an annotation to what can be compared; Any where nothing can be said."""
    if annotation is None:
        return types.NoneType
    if isinstance(annotation, str | typing.TypeVar | typing.ForwardRef):
        return Any
    if get_origin(annotation) is typing.Annotated:
        return _plain(get_args(annotation)[0])
    if isinstance(annotation, typing.NewType):
        return _plain(annotation.__supertype__)
    if typing.is_typeddict(annotation):
        return dict
    if getattr(annotation, "_is_protocol", False) and annotation.__module__ not in ("typing", "collections.abc"):
        return Any
    return annotation


def _members(annotation: Any) -> tuple[Any, ...]:
    if isinstance(annotation, types.UnionType) or get_origin(annotation) is typing.Union:
        return get_args(annotation)
    return (annotation,)


def _fits_one(given: Any, expected: Any) -> bool:
    given, expected = _plain(given), _plain(expected)
    if Any in (given, expected):
        return True
    if get_origin(given) is Literal:
        return all(value_fits(value, expected) for value in get_args(given))
    if get_origin(expected) is Literal:
        return any(fits(given, type(value)) for value in get_args(expected))
    actual, wanted = get_origin(given) or given, get_origin(expected) or expected
    if not isinstance(actual, type) or not isinstance(wanted, type):
        return True
    if (actual, wanted) in _WIDENINGS:
        return True
    return _is_subclass(actual, wanted) and _arguments_fit(actual, wanted, get_args(given), get_args(expected))


def _arguments_fit(actual: type, wanted: type, given: tuple[Any, ...], expected: tuple[Any, ...]) -> bool:
    if not given or not expected or wanted in (collections.abc.Callable, type):
        return True
    if actual is tuple and wanted is tuple and Ellipsis not in given and Ellipsis not in expected:
        return len(given) == len(expected) and all(map(fits, given, expected))
    if actual is tuple or len(given) != len(expected):
        wider = expected[0]
        return all(fits(one, wider) for one in given if one is not Ellipsis) if len(expected) <= 2 else True
    return all(map(fits, given, expected)) if actual.__module__ in ("builtins", "collections.abc", "typing") else True


def _value_fits_one(value: Any, expected: Any) -> bool:
    if expected is Any:
        return True
    origin = get_origin(expected)
    if origin is Literal:
        return any(value == allowed and type(value) is type(allowed) for allowed in get_args(expected))
    wanted = origin or expected
    if not isinstance(wanted, type):
        return True
    if not _is_instance(value, wanted) and (type(value), wanted) not in _WIDENINGS:
        return False
    return _elements_fit(value, get_args(expected))


def _elements_fit(value: Any, arguments: tuple[Any, ...]) -> bool:
    if not arguments:
        return True
    if isinstance(value, dict) and len(arguments) == 2:
        head = list(value.items())[:_ELEMENTS_CHECKED]
        return all(value_fits(key, arguments[0]) and value_fits(item, arguments[1]) for key, item in head)
    if isinstance(value, tuple) and Ellipsis not in arguments:
        return len(value) == len(arguments) and all(map(value_fits, value, arguments))
    if isinstance(value, list | tuple | set | frozenset):
        return all(value_fits(item, arguments[0]) for item in list(value)[:_ELEMENTS_CHECKED])
    return True


def _is_subclass(actual: type, wanted: type) -> bool:
    try:
        return issubclass(actual, wanted)
    except TypeError:  # a class that cannot be asked, such as a protocol with data members
        return True


def _is_instance(value: Any, wanted: type) -> bool:
    try:
        return isinstance(value, wanted)
    except TypeError:
        return True
