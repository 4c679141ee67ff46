"""Tensors of the Open Inference Protocol: their datatypes, their JSON data and their raw bytes.

Raw bytes are little-endian and row-major; a BYTES element is its length as four bytes, then itself.
"""

import struct
import sys
from collections.abc import Sequence
from itertools import chain
from math import prod
from typing import Any

import msgspec
import numpy as np

from flyball.core.errors import InvalidInputError

Array = np.ndarray[Any, Any]

BYTES, BOOL, INT64, FP64 = "BYTES", "BOOL", "INT64", "FP64"
_decode = msgspec.json.Decoder().decode
_decode_floats = msgspec.json.Decoder(list[float]).decode
_LENGTH = struct.Struct("<I")
_NUMPY = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
# Codes by which Python itself reads and writes them: for a few elements that is quicker than an array.
_CODES = {
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP32": "f",
    "FP64": "d",
}
_FEW = 256 if sys.byteorder == "little" else 0
DATATYPES = (*_NUMPY, "BF16", BYTES)
_RANGES = {
    f"{sign}INT{bits}": (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
}
_NULL = type(None)
_TAKEN = {
    "BOOL": frozenset((bool, _NULL)),
    "BYTES": frozenset((str, _NULL)),
    "FP": frozenset((float, int, _NULL)),
    "INT": frozenset((int, _NULL)),
}
_MOST_DIMENSIONS = 8
_MOST_ELEMENTS = 50_000_000


class TensorError(InvalidInputError):
    """A tensor is not what its name, shape and datatype say."""

    code = "serving/tensor"


class Tensor(msgspec.Struct, frozen=True):
    """One tensor.

    Attributes:
        name: Of the input or output.
        datatype: One of `DATATYPES`.
        shape: Its dimensions.
        values: Its elements, row-major and flat: a list of JSON values, or an array.
        text: The elements as JSON on one line, where they came so.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[Any] | Array
    text: bytes = b""

    def to_list(self) -> list[Any]:
        """Return the elements as JSON values."""
        return self.values.tolist() if isinstance(self.values, np.ndarray) else list(self.values)


def check_tensor(name: str, datatype: str, shape: Sequence[int]) -> int:
    """Return how many elements a tensor has.

    Raises:
        TensorError: Its datatype or its shape is none.
    """
    if datatype not in DATATYPES:
        raise TensorError(f"input {name!r} has the datatype {datatype[:40]!r}; known are {', '.join(DATATYPES)}")
    if len(shape) > _MOST_DIMENSIONS or (shape and min(shape) < 0):
        raise TensorError(f"input {name!r} has the shape {list(shape[:20])}, which no tensor has")
    count = prod(shape)
    if count > _MOST_ELEMENTS:
        raise TensorError(f"input {name!r} has the shape {list(shape)}: more than {_MOST_ELEMENTS:,} elements")
    return count


def read_json(name: str, datatype: str, shape: Sequence[int], data: Any) -> Tensor:
    """Return a tensor whose data is JSON, flat or nested as its shape.

    Raises:
        TensorError: The data is not of that datatype and shape.
    """
    count = check_tensor(name, datatype, shape)
    if datatype in ("FP16", "BF16"):
        raise TensorError(f"input {name!r} is {datatype}, which is sent as binary data, not as JSON")
    if not isinstance(data, list):
        raise TensorError(f"input {name!r} must have a list as its data")
    kinds = set(map(type, data))
    if list in kinds:
        data = _flatten(name, shape, data)
        kinds = set(map(type, data))
    if len(data) != count:
        raise TensorError(f"input {name!r} has the shape {list(shape)}, so {count:,} elements, but {len(data):,} came")
    _check_kinds(name, datatype, data, kinds)
    return Tensor(name, datatype, tuple(shape), data)


def read_text_of_json(name: str, datatype: str, shape: Sequence[int], text: bytes) -> Tensor:
    """Return a tensor whose data is the text of JSON; see `read_json`.

    Raises:
        TensorError: The data is not of that datatype and shape.
        msgspec.DecodeError: The data is not JSON.
    """
    if datatype in ("FP64", "FP32"):
        # Nearly all requests are this: a check of each element is part of decoding then.
        try:
            values = _decode_floats(text)
        except msgspec.DecodeError:
            pass
        else:
            if len(values) == check_tensor(name, datatype, shape):
                return Tensor(name, datatype, tuple(shape), values, b"" if b"\n" in text else text)
    return read_json(name, datatype, shape, _decode(text) if text else None)


def read_raw(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> Tensor:
    """Return a tensor of raw bytes.

    Raises:
        TensorError: The bytes are not of that datatype and shape.
    """
    count = check_tensor(name, datatype, shape)
    if datatype == BYTES:
        return Tensor(name, datatype, tuple(shape), _read_texts(name, count, data))
    dtype = np.dtype("<u2") if datatype == "BF16" else _NUMPY[datatype]
    if len(data) != count * dtype.itemsize:
        raise TensorError(
            f"input {name!r} is {datatype} with the shape {list(shape)}, so {count * dtype.itemsize:,} bytes, "
            f"but {len(data):,} came"
        )
    code = _CODES.get(datatype)
    if code is not None and count <= _FEW:
        return Tensor(name, datatype, tuple(shape), struct.unpack(f"<{count}{code}", data))
    if datatype == "BOOL":
        found = np.frombuffer(data, dtype=np.uint8)
        if found.size and found.max() > 1:
            raise TensorError(f"input {name!r} is BOOL, so each byte must be 0 or 1")
    values = np.frombuffer(data, dtype=dtype)
    if datatype == "BF16":
        # It is the upper half of a float of 32 bits.
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return Tensor(name, datatype, tuple(shape), values)


def write_raw(tensor: Tensor) -> bytes:
    """Return a tensor's raw bytes."""
    code = _CODES.get(tensor.datatype)
    if code is not None and len(tensor.values) <= _FEW:
        return struct.pack(f"<{len(tensor.values)}{code}", *tensor.values)
    if tensor.datatype != BYTES:
        return np.asarray(tensor.values, dtype=_NUMPY[tensor.datatype]).tobytes()
    parts: list[bytes] = []
    for value in tensor.values:
        text = str(value).encode()
        parts += (_LENGTH.pack(len(text)), text)
    return b"".join(parts)


def read_text(name: str, data: bytes | memoryview) -> str:
    """Return an element of a BYTES tensor, which is text here.

    Raises:
        TensorError: It is not UTF-8.
    """
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise TensorError(f"input {name!r} holds bytes that are not UTF-8: {error.reason}") from error


def _read_texts(name: str, count: int, data: bytes | memoryview) -> list[str]:
    texts: list[str] = []
    place, end = 0, len(data)
    view = memoryview(data)
    while place < end and len(texts) <= count:
        start = place + _LENGTH.size
        if start > end:
            break
        (length,) = _LENGTH.unpack_from(view, place)
        place = start + length
        if place > end:
            break
        texts.append(read_text(name, view[start:place]))
    if len(texts) != count or place != end:
        raise TensorError(
            f"input {name!r} is BYTES with {count:,} elements, but its {end:,} bytes hold other lengths than they say"
        )
    return texts


def _flatten(name: str, shape: Sequence[int], data: list[Any]) -> list[Any]:
    """Return nested data as one list; its nesting must be its shape."""
    for depth in range(len(shape) - 1):
        if len(data) != prod(shape[: depth + 1]) or set(map(type, data)) != {list}:
            raise _nesting_error(name, shape)
        width = shape[depth + 1]
        if any(len(part) != width for part in data):
            raise _nesting_error(name, shape)
        data = list(chain.from_iterable(data))
    if list in set(map(type, data)):
        raise _nesting_error(name, shape)
    return data


def _nesting_error(name: str, shape: Sequence[int]) -> TensorError:
    return TensorError(
        f"input {name!r} has the shape {list(shape)}, but its data is nested otherwise",
        hint="Nest the data as the shape says, or send it as one flat list.",
    )


def _check_kinds(name: str, datatype: str, data: list[Any], kinds: set[type]) -> None:
    group = "FP" if datatype.startswith("FP") else "INT" if "INT" in datatype else datatype
    if not kinds <= _TAKEN[group]:
        at, wrong = next((at, value) for at, value in enumerate(data) if type(value) not in _TAKEN[group])
        told = "an object" if isinstance(wrong, dict) else repr(wrong)[:60]
        raise TensorError(f"input {name!r} is {datatype}, but its element {at} is {told}")
    if group == "INT":
        smallest, greatest = _RANGES[datatype]
        for at, value in enumerate(data):
            if value is not None and not smallest <= value <= greatest:
                raise TensorError(f"input {name!r} is {datatype}, but its element {at} is {str(value)[:40]}")
