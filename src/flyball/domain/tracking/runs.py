"""Runs, and what is known about them, as values."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from flyball.core.errors import ConflictError, NotFoundError


class RunStatus(StrEnum):
    """Where a run stands; one of Flyball's own that is no longer ``running`` cannot change."""

    SCHEDULED = "scheduled"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Maker(StrEnum):
    """What makes a run: Flyball itself, which closes it for good, or a client, which may go on with it."""

    FLYBALL = "flyball"
    CLIENT = "client"


class CodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The version-control state of a project's folder.

    Attributes:
        commit: The commit that was checked out.
        branch: Its branch; empty when detached.
        changed: Paths that differ from the commit or are not under version control.
        diff: Digest of the blob with the uncommitted difference; empty when there is none.
    """

    commit: str
    branch: str = ""
    changed: tuple[str, ...] = ()
    diff: str = ""


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Where and with what a run was made.

    Attributes:
        code: None when the project is not under version control.
        environment: Digest of the blob with every installed distribution, one ``name==version`` a line.
        python: The interpreter's version.
        flyball: The version of Flyball.
        machine: Host, operating system, processor, cores and memory.
        hash_seed: ``PYTHONHASHSEED`` of the process, or ``random``.
        unchanged_since: The run whose facts these are, when nothing had changed since it.
    """

    code: CodeFacts | None
    environment: str
    python: str
    flyball: str
    machine: dict[str, str | int]
    hash_seed: str
    unchanged_since: str = ""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a pipeline.

    Attributes:
        pipeline: Its name; it is also its experiment's.
        id: Sorts by start.
        cause: The journal event that brought it about.
        as_of: Nothing that became known later was used; None means its start.
        error: Why it failed, in one line.
    """

    id: str
    pipeline: str
    status: RunStatus
    actor: str
    cause: int | None
    as_of: datetime | None
    started_at: datetime
    finished_at: datetime | None = None
    error: str = ""
    facts: RunFacts | None = None

    @property
    def duration(self) -> timedelta | None:
        """How long it took; None while it runs."""
        return self.finished_at - self.started_at if self.finished_at else None


class MetricPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One measured value.

    Attributes:
        step: Iteration, epoch or batch number; 0 for a single figure.
        source: The pipeline step that measured it.
        logged_at: When; the service fills it in where it is None.
    """

    name: str
    value: float
    step: int = 0
    source: str = ""
    logged_at: datetime | None = None


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A named file of a run."""

    name: str
    digest: str
    size_bytes: int


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """What a run read or made: ``kind`` such as ``snapshot`` or ``version``, and its reference."""

    kind: str
    ref: str


class RunDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A run with everything logged to it; ``metrics`` holds each metric's last value."""

    run: Run
    params: dict[str, Any]
    metrics: dict[str, float]
    artifacts: list[Artifact]
    inputs: list[Link]
    outputs: list[Link]
    tags: dict[str, str]
    notes: dict[str, list[Any]]


class RunNotFoundError(NotFoundError):
    """There is no such run."""

    code = "tracking/run-not-found"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"there is no run {run_id!r}", hint="See the runs with: flyball runs list")


class RunClosedError(ConflictError):
    """The run has ended, so nothing more can be logged to it."""

    code = "tracking/run-closed"

    def __init__(self, run_id: str, status: RunStatus) -> None:
        super().__init__(
            f"run {run_id!r} is {status.value}, so nothing can be added to it",
            hint="Start a new run with: flyball run PIPELINE",
        )


def as_points(metrics: Mapping[str, float], *, step: int = 0, source: str = "") -> list[MetricPoint]:
    """Turn names and values into points of one step."""
    return [MetricPoint(name=name, value=float(value), step=step, source=source) for name, value in metrics.items()]
