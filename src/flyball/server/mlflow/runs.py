"""Runs: made, changed, logged to, read and searched."""

from collections.abc import Sequence
from typing import Any

import msgspec

from flyball.domain.tracking.client_runs import (
    MAX_PARAM_LENGTH,
    MAX_TAG_LENGTH,
    BatchTooLargeError,
    check_counts,
    check_first_tags,
    check_key,
    check_time_ms,
    check_unique,
    check_value,
)
from flyball.domain.tracking.experiments import parse_experiment_id
from flyball.domain.tracking.points import Point
from flyball.server.mlflow.experiments import read_limit
from flyball.server.mlflow.requests import Int64, ParameterMissingError, Request
from flyball.server.mlflow.routing import Route, Work, lookup, read, write
from flyball.server.mlflow.wire import KeyValue, read_status, read_view, write_info, write_run
from flyball.workspace.home import Home

MAX_PAGE = 50_000
_MAX_EXPERIMENTS = 10_000
_MAX_USER_LENGTH = 256
_MAX_MODEL_FIELD = 500
_A = "/api/2.0/mlflow/runs/"


class Creation(msgspec.Struct):
    """A run to be begun."""

    experiment_id: str = "0"
    user_id: str | None = None
    run_name: str | None = None
    start_time: Int64 | None = None
    tags: list[KeyValue] | None = None


class Reference(msgspec.Struct):
    """One run; older clients say ``run_uuid``."""

    run_id: str = ""
    run_uuid: str = ""


class Update(msgspec.Struct):
    """What changes of a run."""

    run_id: str = ""
    run_uuid: str = ""
    status: str | int | None = None
    end_time: Int64 | None = None
    run_name: str | None = None


class MetricFields(msgspec.Struct):
    """One value to be logged."""

    key: str
    value: float
    timestamp: Int64
    step: Int64 | None = None
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class MetricRequest(MetricFields, kw_only=True):
    """One value to be logged to a run."""

    run_id: str = ""
    run_uuid: str = ""


class KeyOptionalValue(msgspec.Struct):
    """A parameter or a tag; Protocol Buffers leave out an empty value."""

    key: str
    value: str = ""


class ItemRequest(KeyOptionalValue, kw_only=True):
    """A parameter or a tag of a run."""

    run_id: str = ""
    run_uuid: str = ""


class TagReference(msgspec.Struct):
    """A tag to be removed."""

    key: str
    run_id: str = ""
    run_uuid: str = ""


class Batch(msgspec.Struct):
    """All that is logged to a run at once."""

    run_id: str = ""
    run_uuid: str = ""
    metrics: list[MetricFields] | None = None
    params: list[KeyOptionalValue] | None = None
    tags: list[KeyOptionalValue] | None = None


class Search(msgspec.Struct):
    """What runs to show."""

    experiment_ids: list[str] | None = None
    filter: str | None = None
    run_view_type: str | int | None = None
    max_results: Int64 | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


def create(home: Home, request: Request) -> Work:
    """Begin a run."""
    fields = request.decode(Creation)
    experiment_id = parse_experiment_id(fields.experiment_id)
    started_at_us = check_time_ms(fields.start_time, "start_time") if fields.start_time else None
    check_first_tags(len(fields.tags or []))
    tags = {tag.key: tag.value for tag in fields.tags or []}
    for place, (key, value) in enumerate(tags.items()):
        _check_tag(key, value, f"tags[{place}].")
    user, name = fields.user_id or "", fields.run_name or ""
    check_value(user, _MAX_USER_LENGTH, "user_id")
    check_value(name, MAX_TAG_LENGTH, "run_name")
    return lambda tx: {
        "run": write_run(
            home.client_runs.create(tx, experiment_id, name=name, user=user, started_at_us=started_at_us, tags=tags)
        )
    }


def get(home: Home, request: Request) -> Any:
    """Return a run with all that was logged to it."""
    return {"run": write_run(home.client_runs.get(run_id_of(request.decode(Reference))))}


def update(home: Home, request: Request) -> Work:
    """Change a run's status, end or name."""
    fields = request.decode(Update)
    run_id = run_id_of(fields)
    status = None if fields.status is None else read_status(fields.status)
    ended = None if fields.end_time is None else check_time_ms(fields.end_time, "end_time")
    name = fields.run_name or ""
    check_value(name, MAX_TAG_LENGTH, "run_name")
    return lambda tx: {
        "run_info": write_info(*home.client_runs.update(tx, run_id, status=status, finished_at_us=ended, name=name))
    }


def delete(home: Home, request: Request) -> Work:
    """Mark a run as deleted."""
    run_id = run_id_of(request.decode(Reference))
    return lambda tx: home.client_runs.delete(tx, run_id)


def restore(home: Home, request: Request) -> Work:
    """Take a deletion back."""
    run_id = run_id_of(request.decode(Reference))
    return lambda tx: home.client_runs.restore(tx, run_id)


def log_metric(home: Home, request: Request) -> Work:
    """Keep one value."""
    fields = request.decode(MetricRequest)
    run_id, points = run_id_of(fields), [read_point(fields, "")]
    return lambda tx: home.client_runs.log(tx, run_id, points=points)


def log_parameter(home: Home, request: Request) -> Work:
    """Keep one parameter."""
    fields = request.decode(ItemRequest)
    run_id, params = run_id_of(fields), {fields.key: fields.value}
    _check_param(fields.key, fields.value, "")
    return lambda tx: home.client_runs.log(tx, run_id, params=params)


def set_tag(home: Home, request: Request) -> Work:
    """Keep one tag."""
    fields = request.decode(ItemRequest)
    run_id, tags = run_id_of(fields), {fields.key: fields.value}
    _check_tag(fields.key, fields.value, "")
    return lambda tx: home.client_runs.log(tx, run_id, tags=tags)


def delete_tag(home: Home, request: Request) -> Work:
    """Remove a tag."""
    fields = request.decode(TagReference)
    run_id = run_id_of(fields)
    return lambda tx: home.client_runs.delete_tag(tx, run_id, fields.key)


def log_batch(home: Home, request: Request) -> Work:
    """Keep values, parameters and tags, all or none."""
    fields = request.decode(Batch)
    run_id = run_id_of(fields)
    metrics, params, tags = fields.metrics or [], fields.params or [], fields.tags or []
    check_counts(len(metrics), len(params), len(tags))
    points = [read_point(metric, f"metrics[{place}].") for place, metric in enumerate(metrics)]
    for place, item in enumerate(params):
        _check_param(item.key, item.value, f"params[{place}].")
    check_unique([item.key for item in params])
    for place, item in enumerate(tags):
        _check_tag(item.key, item.value, f"tags[{place}].")
    named_params = {item.key: item.value for item in params}
    named_tags = {item.key: item.value for item in tags}
    return lambda tx: home.client_runs.log(tx, run_id, points=points, params=named_params, tags=named_tags)


def search(home: Home, request: Request) -> Any:
    """Return a page of runs."""
    fields = request.decode(Search)
    page = home.client_runs.search(
        read_experiment_ids(fields.experiment_ids or []),
        filter_text=fields.filter or "",
        orders=fields.order_by or [],
        view=read_view(fields.run_view_type),
        limit=read_limit(fields.max_results, 1_000, MAX_PAGE),
        token=fields.page_token or "",
    )
    answer: dict[str, Any] = {"runs": [write_run(run) for run in page.runs]}
    return answer | ({"next_page_token": page.token} if page.token else {})


def run_id_of(fields: Any) -> str:
    """Return the run that a request names, by its new or its old name.

    Raises:
        ParameterMissingError: It names none.
    """
    found: str = fields.run_id or fields.run_uuid
    if not found:
        raise ParameterMissingError("run_id")
    return found


def read_experiment_ids(found: Sequence[str]) -> list[int]:
    """Return the numbers of experiments.

    Raises:
        ExperimentIdError: One is no number.
        BatchTooLargeError: They are too many.
    """
    if len(found) > _MAX_EXPERIMENTS:
        raise BatchTooLargeError("experiment_ids", _MAX_EXPERIMENTS, len(found))
    return [parse_experiment_id(text) for text in found]


def read_point(fields: MetricFields, path: str) -> Point:
    """Return a value to be logged.

    Raises:
        ItemInvalidError: Its key or its time cannot be kept.
    """
    key = fields.key
    # Most keys are plain words: a look at the signs costs a tenth of the whole check.
    if not (key.isidentifier() and len(key) <= 250):
        check_key(key, f"{path}key")
    timestamp = fields.timestamp
    at_us = timestamp * 1000 if 0 <= timestamp < 10_000_000_000_000 else check_time_ms(timestamp, f"{path}timestamp")
    if fields.model_id is None and fields.dataset_name is None and fields.dataset_digest is None:
        return Point(key, fields.value, at_us, fields.step or 0)
    for name in ("model_id", "dataset_name", "dataset_digest"):
        check_value(getattr(fields, name) or "", _MAX_MODEL_FIELD, f"{path}{name}")
    return Point(
        key,
        fields.value,
        at_us,
        fields.step or 0,
        "",
        fields.model_id or None,
        fields.dataset_name or None,
        fields.dataset_digest or None,
    )


def _check_param(key: str, value: str, path: str) -> None:
    check_key(key, f"{path}key")
    check_value(value, MAX_PARAM_LENGTH, f"{path}value")


def _check_tag(key: str, value: str, path: str) -> None:
    check_key(key, f"{path}key")
    check_value(value, MAX_TAG_LENGTH, f"{path}value")


ROUTES: tuple[Route, ...] = (
    write("POST", _A + "create", create),
    lookup("GET", _A + "get", get),
    write("POST", _A + "update", update),
    write("POST", _A + "delete", delete),
    write("POST", _A + "restore", restore),
    write("POST", _A + "log-metric", log_metric),
    write("POST", _A + "log-parameter", log_parameter),
    write("POST", _A + "set-tag", set_tag),
    write("POST", _A + "delete-tag", delete_tag),
    write("POST", _A + "log-batch", log_batch),
    read("POST", _A + "search", search),
)
