"""What a run and its steps came to, as values; light enough for the start-up path."""

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from flyball.domain.tracking.runs import RunStatus


class StepStatus(StrEnum):
    """What happened to a step."""

    CACHED = "cached"
    RAN = "ran"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class StoredValue(msgspec.Struct, frozen=True, kw_only=True):
    """A value that a step returned, where its bytes are kept.

    Attributes:
        digest: Of the bytes.
        format: How it is written: ``json``, ``arrow``, ``lazy``, ``npy``, ``training-set`` or ``pickle``.
        type_name: The value's class, for people.
        is_inline: The bytes are small and lie in the database; otherwise they are a blob.
        boot: The machine's boot at which the blob was written. Blobs are not forced to disk one by one; after
            another boot the digest is checked once before the value is used.
        parts: Digest of the blob of each file, where the value is a folder of files.
        files: Files that the value names, with the digest of their content when the step returned.
    """

    digest: str
    format: str
    size_bytes: int
    type_name: str
    is_inline: bool
    boot: str = ""
    parts: dict[str, str] = {}
    files: tuple[tuple[str, str], ...] = ()

    @property
    def blobs(self) -> list[str]:
        """Digests of the blobs that hold the value."""
        if self.is_inline:
            return []
        return list(self.parts.values()) or [self.digest]

    @property
    def content(self) -> list[Any]:
        """What counts of the value in the cache key of a step that takes it."""
        return [self.format, [digest for _, digest in self.files] or self.digest]


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a run.

    Attributes:
        reason: Why it ran or did not, for people.
        attempts: How often it was tried; 0 when it was not.
        error: What went wrong, in short, with the user's own lines of the traceback.
        traceback: The whole traceback.
    """

    name: str
    status: StepStatus
    reason: str
    duration: timedelta = timedelta()
    attempts: int = 0
    error: str = ""
    traceback: str = ""


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """A value that the pipeline returned; a tuple when it has several parts."""

    values: tuple[StoredValue, ...]
    is_tuple: bool = False


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to.

    Attributes:
        steps: In the order of the pipeline.
        outputs: What the pipeline returned, by step; load one with `PipelineService.load`.
        notes: Facts that operations noted, by kind, such as ``{"version": ["credit-risk/3"]}``.
        error: The first failed step's error, in one line.
        is_unchanged: Nothing had changed, so that the project was not even imported.
    """

    run_id: str
    pipeline: str
    status: RunStatus
    steps: list[StepResult]
    outputs: dict[str, Output]
    notes: dict[str, list[Any]]
    duration: timedelta
    error: str = ""
    is_unchanged: bool = False

    def count(self, status: StepStatus) -> int:
        """Return how many steps came to ``status``."""
        return sum(step.status is status for step in self.steps)


class Progress(Protocol):
    """Is told how a run goes on; called in the process that asked for the run."""

    def planned(self, run_id: str, steps: Sequence[str]) -> None:
        """All steps are known."""
        ...

    def started(self, step: str) -> None:
        """A step began to run; cached ones never do."""
        ...

    def finished(self, result: StepResult) -> None:
        """A step came to its end."""
        ...


class NoProgress:
    """Implements `Progress` and tells nobody."""

    def planned(self, run_id: str, steps: Sequence[str]) -> None:
        """See `Progress.planned`."""

    def started(self, step: str) -> None:
        """See `Progress.started`."""

    def finished(self, result: StepResult) -> None:
        """See `Progress.finished`."""
