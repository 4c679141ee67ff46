"""What the loop asks for when it retrains; live it is a process of its own, in a replay a plain call."""

from typing import Any, Protocol

import msgspec

from flyball.domain.loop.reactions import Reaction
from flyball.domain.pipelines.steps import Pipeline


class TrainingOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a training ended.

    Attributes:
        endpoint: Whose reaction it was.
        cause: The reaction's cause.
        run_id: The run, if it came so far as to begin one.
        error: Why it failed; None when it succeeded.
    """

    endpoint: str
    cause: int
    run_id: str | None
    error: str | None


class Trainer(Protocol):
    """Runs retraining pipelines, at most one for an endpoint at a time."""

    def start(self, reaction: Reaction, pipeline: Pipeline[..., Any]) -> None:
        """Set a retraining in motion and return."""
        ...

    def is_running(self, endpoint: str) -> bool:
        """Tell whether a retraining of the endpoint is under way in this process."""
        ...

    def collect(self) -> list[TrainingOutcome]:
        """Return what has ended since the last call."""
        ...

    def stop(self) -> None:
        """End what is under way; it goes on from its last finished step when started again."""
        ...
