"""What clients read of experiments and runs, as the protocol's messages name it."""

import math
import sys
from collections.abc import Iterable

import msgspec

from flyball.core.errors import InvalidInputError
from flyball.domain.tracking.client_runs import ClientRun, LoggedRun
from flyball.domain.tracking.experiments import Experiment, View
from flyball.domain.tracking.points import HistoryRow
from flyball.domain.tracking.runs import RunStatus

_MAX = sys.float_info.max
STATUS = {
    RunStatus.SCHEDULED: "SCHEDULED",
    RunStatus.RUNNING: "RUNNING",
    RunStatus.SUCCEEDED: "FINISHED",
    RunStatus.FAILED: "FAILED",
    RunStatus.CANCELLED: "KILLED",
}
STATUS_OF = {name: status for status, name in STATUS.items()}
# Enumerations come by name or by number, as the JSON of Protocol Buffers allows.
_STATUS_NUMBERS = dict(enumerate(("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"), start=1))
_VIEWS: dict[str | int | None, View] = {
    **dict.fromkeys((None, "", "ACTIVE_ONLY", 1), View.ACTIVE),
    **dict.fromkeys(("DELETED_ONLY", 2), View.DELETED),
    **dict.fromkeys(("ALL", 3), View.ALL),
}


class KeyValue(msgspec.Struct, frozen=True, gc=False):
    """A parameter or a tag."""

    key: str
    value: str


class MetricValue(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A point of a metric; Protocol Buffers write NaN and infinities as texts."""

    key: str
    value: float | str
    timestamp: int
    step: int | None = None  # 0 is written too
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None
    run_id: str | None = None


class RunInfo(msgspec.Struct, frozen=True):
    """A run."""

    run_id: str
    run_uuid: str
    run_name: str
    experiment_id: str
    user_id: str
    status: str
    start_time: int
    end_time: int | msgspec.UnsetType
    artifact_uri: str
    lifecycle_stage: str


class RunData(msgspec.Struct, frozen=True):
    """What was logged to a run."""

    metrics: list[MetricValue]
    params: list[KeyValue]
    tags: list[KeyValue]


class DatasetBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """A dataset."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None


class DatasetInputBody(msgspec.Struct, frozen=True):
    """A dataset that a run read."""

    tags: list[KeyValue]
    dataset: DatasetBody


class ModelInputBody(msgspec.Struct, frozen=True):
    """A logged model that a run read."""

    model_id: str


class ModelOutputBody(msgspec.Struct, frozen=True):
    """A logged model that a run made."""

    model_id: str
    step: int


class RunInputs(msgspec.Struct, frozen=True):
    """What a run read."""

    dataset_inputs: list[DatasetInputBody]
    model_inputs: list[ModelInputBody]


class RunOutputs(msgspec.Struct, frozen=True):
    """What a run made."""

    model_outputs: list[ModelOutputBody]


class RunBody(msgspec.Struct, frozen=True):
    """A run with all that belongs to it."""

    info: RunInfo
    data: RunData
    inputs: RunInputs
    outputs: RunOutputs


class ExperimentBody(msgspec.Struct, frozen=True):
    """An experiment."""

    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    last_update_time: int
    creation_time: int
    tags: list[KeyValue]


def write_experiment(experiment: Experiment) -> ExperimentBody:
    """Return an experiment as clients read it."""
    return ExperimentBody(
        str(experiment.id),
        experiment.name,
        experiment.root,
        "deleted" if experiment.is_deleted else "active",
        experiment.updated_at_us // 1000,
        experiment.created_at_us // 1000,
        [KeyValue(name, value) for name, value in experiment.tags.items()],
    )


def write_info(run: ClientRun, name: str) -> RunInfo:
    """Return a run as clients read it."""
    return RunInfo(
        run.id,
        run.id,
        name,
        str(run.experiment_id),
        run.actor,
        STATUS[run.status],
        run.started_at_us // 1000,
        msgspec.UNSET if run.finished_at_us is None else run.finished_at_us // 1000,
        run.artifact_root,
        "deleted" if run.is_deleted else "active",
    )


def write_run(logged: LoggedRun, name_tag: str = "mlflow.runName") -> RunBody:
    """Return a run with what was logged to it as clients read it."""
    name = next((value for _, key, value in logged.tags if key == name_tag), "")
    inputs = [
        DatasetInputBody(
            [KeyValue(key, value) for key, value in found.tags.items()],
            DatasetBody(
                found.dataset.name,
                found.dataset.digest,
                found.dataset.source_type,
                found.dataset.source,
                found.dataset.schema,
                found.dataset.profile,
            ),
        )
        for found in logged.datasets
    ]
    return RunBody(
        write_info(logged.run, name),
        RunData(
            [
                MetricValue(
                    key, value if value is not None and -_MAX <= value <= _MAX else write_number(value), at, step
                )
                for _, key, value, at, step in logged.metrics
            ],
            [KeyValue(key, value) for _, key, value in logged.params],
            [KeyValue(key, value) for _, key, value in logged.tags],
        ),
        RunInputs(inputs, [ModelInputBody(model.model_id) for model in logged.read_models]),
        RunOutputs([ModelOutputBody(model.model_id, model.step) for model in logged.made_models]),
    )


def write_history(name: str, rows: Iterable[HistoryRow], run_id: str | None = None) -> list[MetricValue]:
    """Return a metric's points as clients read them."""
    return [
        MetricValue(
            name,
            write_number(None if is_nan else value) if is_nan or not -_MAX <= value <= _MAX else value,
            at_us // 1000,
            step,
            model_id,
            dataset_name,
            dataset_digest,
            run_id,
        )
        for at_us, step, value, is_nan, model_id, dataset_name, dataset_digest, _ in rows
    ]


def write_number(value: float | None) -> float | str:
    """Return a number as the JSON of Protocol Buffers has it; None is NaN."""
    if value is None or math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def read_view(name: str | int | None) -> View:
    """Return what a search shows.

    Raises:
        InvalidInputError: There is no such view.
    """
    view = _VIEWS.get(name)
    if view is None:
        raise InvalidInputError(
            f"Invalid value '{str(name)[:100]}' for parameter 'view_type' supplied",
            hint="There are ACTIVE_ONLY, DELETED_ONLY and ALL.",
        )
    return view


def read_status(name: str | int) -> RunStatus:
    """Return where a run stands.

    Raises:
        InvalidInputError: There is no such status.
    """
    status = STATUS_OF.get(_STATUS_NUMBERS.get(name, "") if isinstance(name, int) else name)
    if status is None:
        raise InvalidInputError(
            f"Invalid value '{str(name)[:100]}' for parameter 'status' supplied",
            hint=f"There are {', '.join(STATUS_OF)}.",
        )
    return status
