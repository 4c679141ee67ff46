"""What clients read of registered models, versions and logged models, as the protocol's messages name it."""

from typing import Any

import msgspec

from flyball.core.durations import to_us
from flyball.domain.registry.logged_models import LoggedModel, ModelStatus
from flyball.domain.registry.models import ClientVersion, RegisteredModel
from flyball.domain.registry.sources import location_of
from flyball.domain.registry.versions import ModelVersion, Status
from flyball.domain.tracking.client_runs import ItemInvalidError
from flyball.server.mlflow.wire import KeyValue, MetricValue, write_number

_NUMBERS = {1: ModelStatus.PENDING, 2: ModelStatus.READY, 3: ModelStatus.FAILED}
_STANDING = {
    Status.CANDIDATE: "its gates are not judged yet",
    Status.REJECTED: "its gates say no",
    Status.AWAITING_APPROVAL: "it waits for approval",
    Status.APPROVED: "",
    Status.ARCHIVED: "it is archived",
}


class AliasBody(msgspec.Struct, frozen=True):
    """An alias and the version that it means."""

    alias: str
    version: str


class ParamBody(msgspec.Struct, frozen=True):
    """A parameter of the logged model that a version was made from."""

    name: str
    value: str


class VersionBody(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A version of a model."""

    name: str
    version: str
    creation_timestamp: int
    last_updated_timestamp: int
    user_id: str = ""
    current_stage: str
    description: str = ""
    source: str
    run_id: str = ""
    status: str
    status_message: str = ""
    tags: list[KeyValue] = []
    run_link: str = ""
    aliases: list[str] = []
    model_id: str = ""
    model_params: list[ParamBody] = []
    model_metrics: list[MetricValue] = []


class ModelBody(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A registered model."""

    name: str
    creation_timestamp: int
    last_updated_timestamp: int
    description: str = ""
    latest_versions: list[VersionBody] = []
    tags: list[KeyValue] = []
    aliases: list[AliasBody] = []


def write_model(model: RegisteredModel) -> ModelBody:
    """Return a registered model as clients read it."""
    return ModelBody(
        name=model.name,
        creation_timestamp=model.created_at_us // 1000,
        last_updated_timestamp=model.updated_at_us // 1000,
        description=model.description,
        latest_versions=[write_version(version) for version in model.latest],
        tags=_pairs(model.tags),
        aliases=[AliasBody(alias, str(number)) for alias, number in model.aliases.items()],
    )


def write_version(found: ClientVersion) -> VersionBody:
    """Return a version as clients read it."""
    version = found.version
    created_ms = to_us(version.created_at) // 1000
    return VersionBody(
        name=version.model,
        version=str(version.number),
        creation_timestamp=created_ms,
        last_updated_timestamp=to_us(version.updated_at) // 1000 if version.updated_at else created_ms,
        user_id=version.created_by,
        current_stage=version.stage,
        description=version.description,
        source=version.source or location_of(version),
        run_id=version.run_id,
        status="READY",
        status_message=_STANDING[version.status],
        tags=_pairs(found.tags),
        run_link=version.run_link,
        aliases=found.aliases,
        model_id=version.logged_model,
        model_params=[ParamBody(name, value) for name, value in found.params.items()],
        model_metrics=_metrics(version, created_ms),
    )


def write_logged(model: LoggedModel) -> dict[str, Any]:
    """Return a logged model as clients read it."""
    info: dict[str, Any] = {
        "model_id": model.id,
        "experiment_id": str(model.experiment_id),
        "name": model.name,
        "creation_timestamp_ms": model.created_at_us // 1000,
        "last_updated_timestamp_ms": model.updated_at_us // 1000,
        "artifact_uri": model.root,
        "status": model.status.value,
        "model_type": model.model_type,
        "source_run_id": model.run_id,
        "tags": _pairs(model.tags),
        "registrations": [{"name": name, "version": str(number)} for name, number in model.registered],
    }
    metrics = [
        MetricValue(
            metric.key,
            write_number(metric.value),
            metric.at_us // 1000,
            metric.step,
            model.id,
            metric.dataset_name or None,
            metric.dataset_digest or None,
            metric.run_id,
        )
        for metric in model.metrics
    ]
    return {"info": info, "data": {"params": _pairs(model.params), "metrics": metrics}}


def read_model_status(found: str | int) -> ModelStatus:
    """Return whether a logged model's files are all there.

    Raises:
        ItemInvalidError: There is no such status.
    """
    status = _NUMBERS.get(found) if isinstance(found, int) else next((one for one in ModelStatus if one == found), None)
    if status is None:
        raise ItemInvalidError("status", str(found), f"There are {', '.join(ModelStatus)}")
    return status


def _metrics(version: ModelVersion, at_ms: int) -> list[MetricValue]:
    return [
        MetricValue(name, value, at_ms, 0, version.logged_model or None, run_id=version.run_id or None)
        for name, value in version.metrics.items()
    ]


def _pairs(found: dict[str, str]) -> list[KeyValue]:
    return [KeyValue(key, value) for key, value in found.items()]
