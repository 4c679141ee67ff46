"""The messages of the Open Inference Protocol over gRPC, and of gRPC's health protocol.

They are described here, not generated: the classes live in a pool of their own, so that they neither clash with those
of a client library in the same process nor bind the release of protobuf.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"
HEALTH_SERVICE = "grpc.health.v1.Health"
_Field = descriptor_pb2.FieldDescriptorProto
_KINDS = {
    "bool": _Field.TYPE_BOOL,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
    "float": _Field.TYPE_FLOAT,
    "double": _Field.TYPE_DOUBLE,
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
}
# Each field's kind: a scalar, another message, `[...]` for many of them, `{...}` for a map from text; a leading `?`
# puts the field into the message's choice, of which one is set.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": (1, "bool")},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": (1, "bool")},
    "ModelReadyRequest": {"name": (1, "string"), "version": (2, "string")},
    "ModelReadyResponse": {"ready": (1, "bool")},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {"name": (1, "string"), "version": (2, "string"), "extensions": (3, "[string]")},
    "ModelMetadataRequest": {"name": (1, "string"), "version": (2, "string")},
    "TensorMetadata": {"name": (1, "string"), "datatype": (2, "string"), "shape": (3, "[int64]")},
    "ModelMetadataResponse": {
        "name": (1, "string"),
        "versions": (2, "[string]"),
        "platform": (3, "string"),
        "inputs": (4, "[TensorMetadata]"),
        "outputs": (5, "[TensorMetadata]"),
    },
    "InferParameter": {
        "bool_param": (1, "?bool"),
        "int64_param": (2, "?int64"),
        "string_param": (3, "?string"),
        "double_param": (4, "?double"),
        "uint64_param": (5, "?uint64"),
    },
    "InferTensorContents": {
        "bool_contents": (1, "[bool]"),
        "int_contents": (2, "[int32]"),
        "int64_contents": (3, "[int64]"),
        "uint_contents": (4, "[uint32]"),
        "uint64_contents": (5, "[uint64]"),
        "fp32_contents": (6, "[float]"),
        "fp64_contents": (7, "[double]"),
        "bytes_contents": (8, "[bytes]"),
    },
    "InferTensor": {
        "name": (1, "string"),
        "datatype": (2, "string"),
        "shape": (3, "[int64]"),
        "parameters": (4, "{InferParameter}"),
        "contents": (5, "InferTensorContents"),
    },
    "InferRequestedOutput": {"name": (1, "string"), "parameters": (2, "{InferParameter}")},
    "ModelInferRequest": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, "{InferParameter}"),
        "inputs": (5, "[InferTensor]"),
        "outputs": (6, "[InferRequestedOutput]"),
        "raw_input_contents": (7, "[bytes]"),
    },
    "ModelInferResponse": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, "{InferParameter}"),
        "outputs": (5, "[InferTensor]"),
        "raw_output_contents": (6, "[bytes]"),
    },
    "ModelStreamInferResponse": {"error_message": (1, "string"), "infer_response": (2, "ModelInferResponse")},
    "RepositoryParameter": {
        "bool_param": (1, "?bool"),
        "int64_param": (2, "?int64"),
        "string_param": (3, "?string"),
        "bytes_param": (4, "?bytes"),
    },
    "RepositoryIndexRequest": {"repository_name": (1, "string"), "ready": (2, "bool")},
    "ModelIndex": {
        "name": (1, "string"),
        "version": (2, "string"),
        "state": (3, "string"),
        "reason": (4, "string"),
    },
    "RepositoryIndexResponse": {"models": (1, "[ModelIndex]")},
    # KServe has the model's name where the others have the repository's, and wants to be told the outcome.
    "RepositoryModelRequest": {
        "repository_name": (1, "string"),
        "model_name": (2, "string"),
        "parameters": (3, "{RepositoryParameter}"),
    },
    "RepositoryModelResponse": {"model_name": (1, "string"), "is_done": (2, "bool")},
    "HealthCheckRequest": {"service": (1, "string")},
    "HealthCheckResponse": {"status": (1, "int32")},
}


def make_messages() -> dict[str, Any]:
    """Return the messages' classes by name."""
    file = descriptor_pb2.FileDescriptorProto(name="flyball/inference.proto", package="inference", syntax="proto3")
    for name, fields in _MESSAGES.items():
        _describe(file.message_type.add(name=name), fields)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}")) for name in _MESSAGES
    }


def _describe(message: Any, fields: Mapping[str, tuple[int, str]]) -> None:
    if any(kind.startswith("?") for _, kind in fields.values()):
        message.oneof_decl.add(name="parameter_choice")
    for name, (number, kind) in fields.items():
        field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
        if kind.startswith("?"):
            field.oneof_index = 0
        if kind.startswith(("[", "{")):
            field.label = _Field.LABEL_REPEATED
        inner = kind.strip("?[]{}")
        if kind.startswith("{"):
            inner = _describe_map(message, name, inner)
        if inner in _KINDS:
            field.type = _KINDS[inner]
        else:
            field.type = _Field.TYPE_MESSAGE
            field.type_name = f".inference.{inner}"


def _describe_map(message: Any, name: str, value: str) -> str:
    """Add the entry of a map to a message and return the entry's name inside the package."""
    entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
    entry.options.map_entry = True
    _describe(entry, {"key": (1, "string"), "value": (2, value)})
    return f"{message.name}.{entry.name}"
