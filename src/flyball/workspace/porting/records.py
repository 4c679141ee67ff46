"""What a store of MLflow holds, as values, and what reads them from one."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import msgspec

from flyball.core.errors import InvalidInputError
from flyball.domain.registry.foreign import ForeignLoggedModel, ForeignModel
from flyball.domain.registry.models import Stage
from flyball.domain.tracking.foreign import ForeignExperiment, ForeignRun
from flyball.domain.tracking.points import Point
from flyball.domain.tracking.runs import RunStatus
from flyball.domain.tracking.traces import Span, Trace

LARGEST = 1.7976931348623157e308
"""What MLflow's tables hold in place of infinity."""


class SourceInvalidError(InvalidInputError):
    """What is to be brought over is no store of MLflow, or holds what cannot be read."""

    code = "porting/source-invalid"


class SourceTrace(NamedTuple):
    """A trace with its spans; none where they are in a file below its address. Some may have been unreadable."""

    trace: Trace
    spans: Sequence[Span]
    location: str
    unreadable: int = 0


class SourceFile(Protocol):
    """A file of an artifact."""

    @property
    def path(self) -> str:
        """Its path below the address."""
        ...

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        ...

    def open(self) -> BinaryIO:
        """Open it for reading."""
        ...


class LocalFile(msgspec.Struct, frozen=True):
    """Implements `SourceFile` on this machine."""

    path: str
    size_bytes: int
    place: Path

    def open(self) -> BinaryIO:
        """See `SourceFile.open`."""
        return self.place.open("rb")


class Source(Protocol):
    """A store of MLflow."""

    name: str

    def list_experiments(self) -> list[ForeignExperiment]:
        """Return all experiments, deleted ones too."""
        ...

    def read_runs(self) -> Iterator[list[ForeignRun]]:
        """Yield all runs, deleted ones too, the earliest first."""
        ...

    def read_points(self, runs: Sequence[ForeignRun]) -> Iterator[Mapping[str, Sequence[Point]]]:
        """Yield all points of some runs by run, in pages that fit into memory."""
        ...

    def read_logged_models(self) -> Iterator[list[ForeignLoggedModel]]:
        """Yield all logged models, deleted ones too."""
        ...

    def read_models(self) -> Iterator[ForeignModel]:
        """Yield all registered models with their versions."""
        ...

    def read_traces(self) -> Iterator[list[SourceTrace]]:
        """Yield all traces."""
        ...

    def list_files(self, location: str, run_id: str = "") -> Iterator[SourceFile] | None:
        """Yield the files below an address; None where it is a place that clients reach by themselves."""
        ...

    def list_missing(self) -> list[str]:
        """Return places of files that are not there although something should be."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...


def read_stage(text: str | None) -> Stage:
    """Return a version's stage; one that MLflow does not have any more is none."""
    return next((stage for stage in Stage if stage.value == text), Stage.NONE)


STATUS_OF = {
    "RUNNING": RunStatus.RUNNING,
    "SCHEDULED": RunStatus.SCHEDULED,
    "FINISHED": RunStatus.SUCCEEDED,
    "FAILED": RunStatus.FAILED,
    "KILLED": RunStatus.CANCELLED,
}


def restore_infinity(value: float) -> float:
    """Return what was logged: the largest number stands for infinity there."""
    if value != value or abs(value) < LARGEST:  # NaN stays
        return value
    return float("inf") if value > 0 else float("-inf")
