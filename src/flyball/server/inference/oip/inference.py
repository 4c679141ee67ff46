"""Inference, metadata and the repository of the Open Inference Protocol, without REST or gRPC."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from flyball.core.errors import InvalidInputError, UnknownNameError
from flyball.domain.serving.answers import Answer
from flyball.domain.serving.data_plane import DataPlane
from flyball.domain.serving.direct import find_direct
from flyball.domain.serving.direct_plane import DirectAnswer, DirectAsk
from flyball.domain.serving.fleet import NothingLiveError
from flyball.domain.serving.loaded import LoadedVersion
from flyball.server.inference.asking import Answered, Asker
from flyball.server.inference.exchange import Exchange
from flyball.server.inference.oip.interface import MODEL_VERSION, Interface, read_block, read_columns, write_output
from flyball.server.inference.oip.tensors import Tensor
from flyball.version import __version__

EXTENSIONS = ("binary_tensor_data", "model_repository")
NAME = "flyball"
_MOST_INTERFACES = 100


# What other servers do for these would be missed in silence.
_UNHEARD = {
    "classification": "Ask for the output 'scores', or for 'prediction'.",
    "shared_memory_region": "Send data in the request, and read it from the answer.",
    "config": "Models are configured by the project's file.",
}


class InferRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked.

    Attributes:
        model: The endpoint's name.
        version: The version's number; whoever the routing picks when it is empty.
        id: The client's name for the request, which is given back.
        inputs: The tensors.
        outputs: Which outputs are wanted; those of `Interface.answered` when none is named.
    """

    model: str
    version: str = ""
    id: str = ""
    inputs: Sequence[Tensor]
    outputs: Sequence[str] = ()


class InferAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What is answered."""

    model: str
    version: str
    id: str
    outputs: list[Tensor]


class OpenInference:
    """The protocol's calls over the data plane.

    Args:
        asker: Asks the data plane.
    """

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._interfaces: dict[str, tuple[LoadedVersion, Interface]] = {}

    @property
    def plane(self) -> DataPlane:
        """What answers."""
        return self._asker.plane

    def needs_loading(self, model: str, version: str) -> bool:
        """Tell whether the version that a caller names is not in memory; raises `UnknownNameError`."""
        return bool(version) and self._asker.versions.find(model, version) is None

    def load(self, model: str, version: str = "") -> None:
        """Bring a version into memory; slow. See `VersionsOnDemand.load` for what is raised."""
        self._asker.versions.load(model, version)

    def unload(self, model: str, version: str = "") -> None:
        """Let a version leave the memory; see `VersionsOnDemand.unload` for what is raised."""
        self._asker.versions.unload(model, version)

    def infer(self, request: InferRequest, exchange: Exchange) -> InferAnswer:
        """Answer all rows of a request, or none; see `Asker.ask` and `VersionsOnDemand.load` for what is raised."""
        loaded = self._asker.open(request.model, exchange, request.version)
        interface = self.interface(loaded)
        for name in request.outputs:
            if name not in interface.outputs:
                raise UnknownOutputError(name, list(interface.outputs))
        answered = self._ask(request, loaded, interface, exchange)
        return _write(request.model, request.id, list(request.outputs or interface.answered), interface, answered)

    def begin(self, model: str, tensor: Tensor, started_s: float) -> DirectAsk | None:
        """Return a request of one tensor that can go the short way; None where `infer` must answer it."""
        direct = self._asker.plane.find_direct(model)
        block = None if direct is None else read_block(direct, (tensor,))
        if direct is None or block is None:
            return None
        return self._asker.plane.begin_direct(model, direct, block, started_s)

    def read_rows(self, model: str, tensors: Sequence[Tensor]) -> list[Any]:
        """Return the rows of a request that names no version; raises `TensorError`."""
        return list(read_columns(self.interface(self._asker.versions.load(model)), tensors).rows())

    def conclude(self, model: str, identifier: str, answers: Sequence[Answer], exchange: Exchange) -> InferAnswer:
        """Return what rows of `read_rows` were answered; see `Asker.ask` for what is raised."""
        answered = self._asker.conclude(model, answers, exchange)
        interface = self.interface(self._asker.versions.load(model))
        return _write(model, identifier, list(interface.answered), interface, answered)

    def finish(self, model: str, identifier: str, answer: DirectAnswer, exchange: Exchange) -> InferAnswer:
        """Return what a request of `begin` was answered."""
        interface = self.interface(answer.loaded)
        answered = self._asker.finish(model, answer, exchange)
        return _write(model, identifier, list(interface.answered), interface, answered)

    def _ask(self, request: InferRequest, loaded: LoadedVersion, interface: Interface, exchange: Exchange) -> Answered:
        direct = find_direct(loaded)
        block = None if direct is None else read_block(direct, request.inputs)
        if direct is not None and block is not None:
            answered = self._asker.ask_block(request.model, direct, block, exchange, is_pinned=bool(request.version))
            if answered is not None:
                return answered
        columns = read_columns(interface, request.inputs)
        return self._asker.ask(request.model, columns, exchange, loaded if request.version else None)

    def interface(self, loaded: LoadedVersion) -> Interface:
        """Return the tensors of a version, made once."""
        known = self._interfaces.get(loaded.ref)
        if known is not None and known[0] is loaded:
            return known[1]
        if len(self._interfaces) >= _MOST_INTERFACES:
            self._interfaces.clear()
        interface = Interface.of(loaded)
        self._interfaces[loaded.ref] = loaded, interface
        return interface

    def describe_server(self) -> dict[str, Any]:
        """Return the server's metadata."""
        return {"name": NAME, "version": __version__, "extensions": list(EXTENSIONS)}

    def describe_model(self, model: str, version: str = "") -> dict[str, Any]:
        """Return a model's metadata: versions, inputs and outputs; see `VersionsOnDemand.load` for what is raised."""
        interface = self.interface(self._asker.versions.load(model, version))
        return {
            "name": model,
            "versions": [version] if version else self._list_loaded(model),
            "platform": NAME,
            "inputs": msgspec.to_builtins(interface.inputs),
            "outputs": msgspec.to_builtins(list(interface.outputs.values())),
        }

    def list_models(self) -> list[str]:
        """Return the endpoints' names."""
        return sorted(self._asker.lines)

    def is_ready(self) -> bool:
        """Tell whether every endpoint that has a live version can answer."""
        return self._asker.is_ready()

    def is_model_ready(self, model: str, version: str = "") -> bool:
        """Tell whether a version can answer at once.

        Raises:
            NotFoundError: There is no such endpoint, or no such version.
        """
        try:
            if self._asker.versions.find(model, version) is not None:
                return True
        except NothingLiveError:
            return False
        self._asker.versions.get(model, version)
        return False

    def list_repository(self, *, only_ready: bool = False) -> list[dict[str, str]]:
        """Return every version of every endpoint's model and whether it is in memory."""
        found = []
        for model, line in sorted(self._asker.lines.items()):
            roles = {line.plan.live: "live", line.plan.candidate: line.plan.stage or "candidate"}
            for version in self._asker.versions.list_versions(model):
                is_ready = self._asker.versions.find(model, str(version.number)) is not None
                reason = roles.get(version.ref, "" if is_ready else f"{version.status}, not in memory")
                entry = {"name": model, "version": str(version.number), "reason": reason}
                if is_ready or not only_ready:
                    found.append(entry | {"state": "READY" if is_ready else "UNAVAILABLE"})
        return found

    def _list_loaded(self, model: str) -> list[str]:
        line = self._asker.lines[model]
        return [loaded.ref.rpartition("/")[2] for loaded in (line.live, line.candidate) if loaded is not None]


def _write(model: str, identifier: str, names: list[str], interface: Interface, answered: Answered) -> InferAnswer:
    number = answered.number
    if not number and MODEL_VERSION not in names:
        # Two versions shared the rows: who answered which is never left open.
        names.append(MODEL_VERSION)
    return InferAnswer(
        model=model,
        version=number,
        id=identifier or answered.first_id,
        outputs=[write_output(interface.outputs[name], answered) for name in names],
    )


def check_parameters(what: str, names: Iterable[str]) -> None:
    """Refuse parameters that ask for something else than is done here.

    Raises:
        InvalidInputError: There is one; ``what`` says where.
    """
    for name in names:
        hint = _UNHEARD.get("config" if name.startswith("file:") else name)
        if hint is not None:
            raise InvalidInputError(f"{what} has the parameter {name[:100]!r}, which is not heard here", hint=hint)


class UnknownOutputError(InvalidInputError):
    """A request asks for an output that the model does not have."""

    code = "serving/unknown-output"

    def __init__(self, name: str, known: Sequence[str]) -> None:
        told = UnknownNameError("output", name[:100], known)
        super().__init__(told.message)
