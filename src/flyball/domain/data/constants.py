"""Values of a program as JSON that is equal for equal values, in every process."""

import copyreg
import io
import re
from collections.abc import Callable
from datetime import date, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from types import BuiltinFunctionType, MethodType
from typing import Any
from uuid import UUID

from flyball.core.encoding import to_canonical_json
from flyball.core.hashing import digest_bytes

_BY_REPR = (int, float, complex, str, date, time, timedelta, tzinfo, Decimal, Fraction, UUID, range, slice, PurePath)
_CONTAINERS = (list, tuple, dict, set, frozenset)


def is_plain(value: Any) -> bool:
    """Tell whether `describe_plain` knows the value's type."""
    if value is None or value is Ellipsis or value is NotImplemented:
        return True
    if isinstance(value, Enum | re.Pattern | MethodType | BuiltinFunctionType | bytes | bytearray):
        return True
    return type(value) in _CONTAINERS or isinstance(value, _BY_REPR) or _is_array(value) or _is_frame(value)


def describe_plain(value: Any, describe: Callable[[Any], Any]) -> Any:
    """Describe a value of a plain type.

    Args:
        value: One for which `is_plain` holds.
        describe: Describes what the value contains.
    """
    name = type(value).__name__
    if isinstance(value, Enum):
        return [describe(type(value)), value.name]
    if isinstance(value, list | tuple):
        return [name, *map(describe, value)]
    if isinstance(value, dict):
        return [name, *([describe(key), describe(item)] for key, item in value.items())]
    if isinstance(value, set | frozenset):
        return [name, *sorted(map(describe, value), key=to_canonical_json)]
    if isinstance(value, bytes | bytearray):
        return [name, digest_bytes(bytes(value))]
    if isinstance(value, re.Pattern):
        return [name, repr(value.pattern), value.flags]
    if isinstance(value, MethodType):
        return [name, describe(value.__self__), describe(value.__func__)]
    if isinstance(value, BuiltinFunctionType):
        owner = value.__self__
        of = getattr(owner, "__name__", None) or type(owner).__qualname__
        return [name, value.__module__, str(of), value.__qualname__]
    if _is_array(value):
        return [name, str(value.dtype), list(value.shape), digest_bytes(value.tobytes())]
    if _is_frame(value):
        written = io.BytesIO()
        frame = value.to_frame() if hasattr(value, "to_frame") else value
        frame.write_ipc(written)
        return [name, digest_bytes(written.getvalue())]
    return [name, repr(value)]


def reduce_object(value: Any) -> tuple[Any, ...] | str:
    """Take an object apart the way pickling would; the text of its type where it cannot be.

    Returns:
        The constructor, its arguments, the state and the items; the name under which it is found if that is all.
    """
    try:
        reduced = value.__reduce_ex__(4)
    except (TypeError, AttributeError, NotImplementedError):  # locks, generators, connections
        return f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(reduced, str):
        return reduced
    constructor, arguments, *rest = reduced
    if constructor is copyreg.__newobj__:  # type: ignore[attr-defined]
        constructor, arguments = arguments[0], arguments[1:]
    state, items, pairs = (*rest, None, None, None)[:3]
    return (constructor, list(arguments), state, list(items or ()), list(pairs or ()))


def _is_array(value: Any) -> bool:
    return type(value).__module__ == "numpy" and hasattr(value, "tobytes") and not _holds_objects(value)


def _holds_objects(value: Any) -> bool:
    return bool(getattr(value.dtype, "hasobject", False))


def _is_frame(value: Any) -> bool:
    return type(value).__module__ in ("polars.dataframe.frame", "polars.series.series")
