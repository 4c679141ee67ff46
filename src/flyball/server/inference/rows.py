"""Rows of protocols that say less than our own: values by their place, numbers by their frame's types."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from flyball.core.errors import InvalidInputError, UnknownNameError
from flyball.domain.data.schemas import Field
from flyball.domain.serving.fleet import Line
from flyball.domain.serving.loaded import LoadedVersion
from flyball.server.inference.asking import Answered, required_fields
from flyball.server.inference.messages import Request
from flyball.server.problems import BodyUnreadableError

ENDPOINT_HEADER = b"x-flyball-endpoint"
_decode = msgspec.json.Decoder().decode


class EndpointNotNamedError(InvalidInputError):
    """Several endpoints could be meant."""

    code = "serving/endpoint-not-named"

    def __init__(self, known: Sequence[str]) -> None:
        told = f"there are {', '.join(known)}" if known else "there is none"
        super().__init__(
            f"the address does not say which endpoint is meant, and {told}",
            hint="Name it in the header X-Flyball-Endpoint.",
        )


def pick_endpoint(request: Request, lines: Mapping[str, Line]) -> str:
    """Return the endpoint that a header names, or the only one.

    Raises:
        EndpointNotNamedError: There are several, or none.
        UnknownNameError: The named one does not exist.
    """
    name = request.headers.get(ENDPOINT_HEADER, b"").decode("latin-1")
    if name:
        if name not in lines:
            raise UnknownNameError("endpoint", name[:100], lines)
        return name
    if len(lines) != 1:
        raise EndpointNotNamedError(sorted(lines))
    return next(iter(lines))


def read_object(body: bytes) -> dict[str, Any]:
    """Return a body that must be a JSON object; NaN, which Python's clients write for missing numbers, is null.

    Raises:
        BodyUnreadableError: It is not JSON.
        InvalidInputError: It is no object.
    """
    try:
        content = _decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        content = _decode_with_nan(body, error)
    if not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else "a single value"
        raise InvalidInputError(f"the body must be a JSON object, but it is {kind}")
    return content


def _decode_with_nan(body: bytes, error: Exception) -> Any:
    reason = "it is empty" if not body else "it is nested too deeply" if isinstance(error, RecursionError) else error
    if b"NaN" in body:
        try:
            return json.loads(body, parse_constant=_read_constant)
        except (ValueError, RecursionError) as second:
            raise BodyUnreadableError(str(second)) from second
    raise BodyUnreadableError(str(reason)) from error


def _read_constant(name: str) -> None:
    if name != "NaN":
        raise ValueError(f"{name} is no number of JSON")


def read_rows(loaded: LoadedVersion, rows: Any, *, what: str) -> list[Any]:
    """Return rows of named fields from rows of named fields, or of values in the order of the fields.

    Args:
        loaded: Who is asked.
        rows: Objects, or lists of one length; single values where there is one field.
        what: The name of what holds the rows, for messages.

    Raises:
        InvalidInputError: The rows are neither.
    """
    if not isinstance(rows, list):
        raise InvalidInputError(f"{what} must be a list of rows")
    if rows and not isinstance(rows[0], dict):
        return from_columns(loaded, [field.name for field in required_fields(loaded)], rows, what=what)
    return _fit(loaded, rows)


def from_columns(loaded: LoadedVersion, columns: Sequence[Any], rows: Sequence[Any], *, what: str) -> list[Any]:
    """Return rows of named fields from the fields' names and rows of values.

    Raises:
        InvalidInputError: A row has more or fewer values than there are names, or a name is none.
    """
    width = len(columns)
    if not all(isinstance(name, str) for name in columns) or len(set(columns)) != width:
        raise InvalidInputError(f"the columns of {what} must be different names")
    found = []
    for number, row in enumerate(rows):
        values = row if isinstance(row, list) else [row]
        if len(values) != width:
            raise InvalidInputError(
                f"row {number} of {what} has {len(values):,} values, but there are {width:,} fields: "
                f"{', '.join(columns[:50])}"
            )
        found.append(dict(zip(columns, values, strict=True)))
    return _fit(loaded, found)


def _fit(loaded: LoadedVersion, rows: list[Any]) -> list[Any]:
    """Let whole floats be ints where ints are wanted: frames and arrays have one type for many columns."""
    names = [field.name for field in loaded.request.schema.fields if field.dtype == "int"]
    for row in rows:
        if isinstance(row, dict):
            for name in names:
                value = row.get(name)
                if type(value) is float and value.is_integer() and abs(value) < 2**53:
                    row[name] = int(value)
    return rows


def read_text(text: str, field: Field) -> Any:
    """Return the JSON value that text stands for in a field, as a CSV file has it; what it is not stays text."""
    if text == "" or (text in ("nan", "NaN", "null", "None") and field.dtype != "string"):
        return None
    try:
        if field.dtype == "int":
            return int(text)
        if field.dtype == "float":
            return float(text)
    except ValueError:
        return text
    if field.dtype == "bool":
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    return text


def origin_headers(answered: Answered) -> tuple[tuple[bytes, bytes], ...]:
    """Return headers that say where an answer comes from, for protocols whose bodies have no place for it."""
    headers = [(b"x-flyball-model-version", (answered.number or "several").encode())]
    if len(answered.ids) == 1:
        headers.append((b"x-flyball-prediction-id", answered.first_id.encode()))
    return tuple(headers)
