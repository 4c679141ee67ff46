"""Experiments and runs as another store has them, to be brought over as they are."""

from collections.abc import Sequence

import msgspec

from flyball.domain.tracking.client_runs import DatasetInput, ModelLink
from flyball.domain.tracking.runs import RunStatus


class ForeignExperiment(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment; times are milliseconds here and below."""

    id: int
    name: str
    location: str
    created_ms: int
    updated_ms: int
    is_deleted: bool
    tags: dict[str, str]


class ForeignRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run without its points.

    Attributes:
        location: The address of its files.
        metrics: The names of its metrics, where the other store tells them with the run.
    """

    id: str
    experiment_id: int
    user: str
    status: RunStatus
    started_ms: int
    ended_ms: int | None
    deleted_ms: int | None
    location: str
    params: dict[str, str]
    tags: dict[str, str]
    datasets: Sequence[DatasetInput] = ()
    read_models: Sequence[ModelLink] = ()
    made_models: Sequence[ModelLink] = ()
    metrics: Sequence[str] = ()
