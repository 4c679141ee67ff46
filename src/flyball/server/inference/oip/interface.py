"""A model's inputs and outputs as tensors: one input a field, or all fields as one matrix."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from flyball.domain.data.schemas import DType, Field
from flyball.domain.registry.signatures import Signature
from flyball.domain.serving.direct import Block, DirectVersion
from flyball.domain.serving.loaded import LoadedVersion
from flyball.server.inference.asking import MAX_ROWS, Answered, Columns, required_fields
from flyball.server.inference.oip.tensors import BOOL, BYTES, FP64, INT64, Array, Tensor, TensorError

PREDICTION, SCORES, PREDICTION_ID, MODEL_VERSION = "prediction", "scores", "prediction_id", "model_version"
_DATATYPES: dict[DType, str] = {
    "int": INT64,
    "float": FP64,
    "bool": BOOL,
    "string": BYTES,
    "datetime": BYTES,
    "date": BYTES,
}
_LARGEST_EXACT = 2**53


class TensorSpec(msgspec.Struct, frozen=True):
    """What a model's metadata says of a tensor; -1 is a dimension of any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Interface(msgspec.Struct, frozen=True):
    """The tensors of one model version.

    Attributes:
        fields: All fields that a request may carry, in order.
        required: Those that it must carry: the columns of a matrix.
        inputs: A tensor for each field.
        outputs: What can be asked for.
        answered: Which outputs are answered unless others are asked for.
        is_plain: Whether all required fields are numbers that may not be missing, so that floats are taken as they are.
    """

    fields: dict[str, Field]
    required: tuple[Field, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: dict[str, TensorSpec]
    answered: tuple[str, ...]
    is_plain: bool

    @classmethod
    def of(cls, loaded: LoadedVersion) -> "Interface":
        """Derive the tensors from a version's request schema and signature."""
        signature = loaded.signature
        outputs = [TensorSpec(PREDICTION, _prediction_datatype(signature), (-1,))]
        if signature.task == "multiclass":
            outputs.append(TensorSpec(SCORES, FP64, (-1, len(signature.classes))))
        answered = tuple(spec.name for spec in outputs)
        outputs += [TensorSpec(PREDICTION_ID, BYTES, (-1,)), TensorSpec(MODEL_VERSION, BYTES, (-1,))]
        fields = loaded.request.schema.fields
        return cls(
            fields={field.name: field for field in fields},
            required=tuple(required_fields(loaded)),
            is_plain=all(field.dtype == "float" and not field.nullable for field in required_fields(loaded)),
            inputs=tuple(TensorSpec(field.name, _DATATYPES[field.dtype], (-1,)) for field in fields),
            outputs={spec.name: spec for spec in outputs},
            answered=answered,
        )


def _prediction_datatype(signature: Signature) -> str:
    """Return the datatype of predictions: numbers, or classes as they are."""
    if signature.task != "multiclass":
        return FP64
    kinds = {type(label) for label in signature.classes}
    return {bool: BOOL, int: INT64, float: FP64}.get(kinds.pop(), BYTES) if len(kinds) == 1 else BYTES


def read_block(version: DirectVersion, tensors: Sequence[Tensor]) -> Block | None:
    """Return the rows of one matrix of all fields for the short way; None where they must be read as columns."""
    if len(tensors) != 1 or not version.is_matrix:
        return None
    tensor = tensors[0]
    shape, values = tensor.shape, tensor.values
    if len(shape) != 2 or shape[1] != version.width or tensor.datatype in (BOOL, BYTES):
        return None
    if version.width == 1 and tensor.name in version.layout.names:
        return None
    if not 0 < shape[0] <= MAX_ROWS:
        return None
    return Block(values.tolist() if isinstance(values, np.ndarray) else values, shape[0], text=tensor.text)


def read_columns(interface: Interface, tensors: Sequence[Tensor]) -> Columns:
    """Return the rows that input tensors hold; missing and unknown fields are left to the data plane to tell.

    Raises:
        TensorError: A shape is none of a column or of a matrix of all fields, or a value does not fit its field.
    """
    if len(tensors) == 1 and _is_matrix(interface, tensors[0]):
        return _read_matrix(interface, tensors[0])
    height = -1
    columns: dict[str, Sequence[Any]] = {}
    for tensor in tensors:
        shape, name = tensor.shape, tensor.name
        if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
            raise TensorError(
                f"input {name!r} has the shape {list(shape)}, but a field's is [rows] or [rows, 1]",
                hint=f"Or send all {len(interface.required)} fields as one input of the shape "
                f"[rows, {len(interface.required)}].",
            )
        if name in columns:
            raise TensorError(f"input {name!r} was given twice")
        if height not in (-1, shape[0]):
            raise TensorError(f"input {name!r} has {shape[0]:,} rows, but the one before it has {height:,}")
        height = shape[0]
        field = interface.fields.get(name)
        columns[name] = tensor.to_list() if field is None else convert(tensor.values, tensor.datatype, field)
    return Columns(columns, max(height, 0))


def _is_matrix(interface: Interface, tensor: Tensor) -> bool:
    if len(tensor.shape) != 2:
        return False
    return tensor.shape[1] > 1 or (tensor.name not in interface.fields and len(interface.required) == 1)


def _read_matrix(interface: Interface, tensor: Tensor) -> Columns:
    height, width = tensor.shape
    fields = interface.required
    if width != len(fields):
        raise TensorError(
            f"input {tensor.name!r} has the shape {list(tensor.shape)}, but a row has {len(fields)} fields: "
            f"{', '.join(field.name for field in fields)}"
        )
    values = tensor.values
    columns: list[list[Any]]
    if isinstance(values, np.ndarray):
        columns = values.reshape(height, width).T.tolist()
    else:
        columns = [list(values[at::width]) for at in range(width)]
    if not (interface.is_plain and tensor.datatype.startswith("FP")):
        pairs = zip(columns, fields, strict=True)
        columns = [convert(column, tensor.datatype, field) for column, field in pairs]
    return Columns(dict(zip([field.name for field in fields], columns, strict=True)), height)


def convert(values: Sequence[Any] | Array, datatype: str, field: Field) -> list[Any]:
    """Return a column's elements as JSON values of a field; NaN stands for null, which tensors do not have.

    Raises:
        TensorError: They are of a kind that the field does not take.
    """
    wanted = _DATATYPES[field.dtype]
    is_float = datatype.startswith(("FP", "BF"))
    found = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if is_float and field.nullable:
        found = [None if value is not None and value != value else value for value in found]
    if wanted == datatype or (wanted == FP64 and datatype not in (BOOL, BYTES)):
        return found
    if wanted == INT64 and (is_float or "INT" in datatype):
        return [_whole(value, field, datatype) for value in found]
    if wanted == BOOL and datatype not in (BYTES, BOOL):
        return [_flag(value, field, datatype) for value in found]
    raise TensorError(f"field {field.name!r} is {wanted}, but the input is {datatype}")


def _whole(value: Any, field: Field, datatype: str) -> int | None:
    if value is None or type(value) is int:
        return value
    if value != value or abs(value) > _LARGEST_EXACT or value != int(value):
        raise TensorError(f"field {field.name!r} is INT64, but {value!r} was given as {datatype}")
    return int(value)


def _flag(value: Any, field: Field, datatype: str) -> bool | None:
    if value is None:
        return None
    if value not in (0, 1):
        raise TensorError(f"field {field.name!r} is BOOL, but {value!r} was given as {datatype}")
    return bool(value)


def write_output(spec: TensorSpec, answered: Answered) -> Tensor:
    """Return one output of `Interface.outputs`."""
    rows = len(answered.ids)
    if spec.name == SCORES:
        scores = answered.scores or []
        return Tensor(SCORES, FP64, (rows, spec.shape[1]), [value for row in scores for value in row])
    if spec.name == PREDICTION_ID:
        return Tensor(PREDICTION_ID, BYTES, (rows,), list(answered.ids))
    if spec.name == MODEL_VERSION:
        return Tensor(MODEL_VERSION, BYTES, (rows,), answered.numbers)
    values = answered.predictions
    if spec.datatype == BYTES:
        values = [str(value) for value in values]
    return Tensor(PREDICTION, spec.datatype, (rows,), values)
