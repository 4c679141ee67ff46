"""Experiments: what runs belong to. A pipeline is the experiment of its name."""

from enum import Enum

import msgspec

from flyball.core.errors import ConflictError, InvalidInputError, NotFoundError

DEFAULT_ID = 0
MAX_NAME_LENGTH = 500
MAX_LOCATION_LENGTH = 2_048


class View(Enum):
    """Which things a search shows."""

    ACTIVE = "active only"
    DELETED = "deleted only"
    ALL = "all"


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """A named group of runs.

    Attributes:
        artifact_location: Where clients put its runs' files; empty for Flyball's own store.
    """

    id: int
    name: str
    artifact_location: str
    created_at_us: int
    updated_at_us: int
    is_deleted: bool
    tags: dict[str, str] = {}

    @property
    def root(self) -> str:
        """The address below which its runs' files are."""
        return self.artifact_location or f"mlflow-artifacts:/{self.id}"

    def run_root(self, run_id: str) -> str:
        """Return the address of a run's files."""
        path, mark, query = self.root.partition("?")
        return f"{path.rstrip('/')}/{run_id}/artifacts{mark}{query}"


class ExperimentNotFoundError(NotFoundError):
    """There is no such experiment."""

    code = "tracking/experiment-not-found"

    def __init__(self, name: str | int) -> None:
        if isinstance(name, int):
            super().__init__(f"No Experiment with id={name} exists")
        else:
            super().__init__(f"Could not find experiment with name '{name}'")


class ExperimentExistsError(ConflictError):
    """Another experiment has that name."""

    code = "tracking/experiment-exists"

    def __init__(self, name: str, *, is_deleted: bool) -> None:
        state = " in deleted state" if is_deleted else ""
        hint = "Restore it, or choose another name." if is_deleted else "Choose another name, or use that one."
        super().__init__(f"Experiment(name={name}) already exists{state}", hint=hint)


class ExperimentStateError(ConflictError):
    """The experiment is deleted, or is not, and so the request cannot be carried out."""

    code = "tracking/experiment-state"

    def __init__(self, experiment_id: int, *, is_deleted: bool) -> None:
        wanted, state = ("active", "deleted") if is_deleted else ("deleted", "active")
        super().__init__(
            f"The experiment {experiment_id} must be in the '{wanted}' state. Current state is '{state}'",
            hint="Restore it first." if is_deleted else "",
        )


class ExperimentTagNotFoundError(NotFoundError):
    """The experiment has no such tag."""

    code = "tracking/experiment-tag-not-found"

    def __init__(self, experiment_id: int, name: str) -> None:
        super().__init__(f"No tag with name: {name} in experiment with id {experiment_id}")


class ExperimentIdError(InvalidInputError):
    """An experiment's id is no whole number."""

    code = "tracking/experiment-id"

    def __init__(self, text: str) -> None:
        super().__init__(f"Invalid experiment ID '{text[:100]}'. Experiment ID must be a valid integer")


def parse_experiment_id(text: str) -> int:
    """Return the number in an experiment's id.

    Raises:
        ExperimentIdError: It is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ExperimentIdError(text)
    return int(text)
