"""Logged models: made, finalised, found, deleted, tagged."""

from typing import Any

import msgspec

from flyball.domain.registry.logged_models import MAX_TYPE_LENGTH, DatasetUse
from flyball.domain.registry.logged_service import OrderBy
from flyball.domain.tracking.client_runs import (
    MAX_PARAM_LENGTH,
    MAX_TAG_LENGTH,
    BatchTooLargeError,
    check_key,
    check_unique,
    check_value,
)
from flyball.domain.tracking.experiments import parse_experiment_id
from flyball.server.mlflow.experiments import read_limit
from flyball.server.mlflow.registry_wire import read_model_status, write_logged
from flyball.server.mlflow.requests import Int64, ParameterMissingError, Request
from flyball.server.mlflow.routing import Route, Work, lookup, read, write
from flyball.server.mlflow.runs import KeyOptionalValue, read_experiment_ids
from flyball.workspace.home import Home

MAX_PAGE = 1_000
_MAX_ITEMS = 10_000
_MAX_ID_LENGTH = 500
_A = "/api/2.0/mlflow/logged-models"


class Creation(msgspec.Struct):
    """A model to be logged."""

    experiment_id: str = ""
    name: str | None = None
    model_type: str | None = None
    source_run_id: str | None = None
    params: list[KeyOptionalValue] | None = None
    tags: list[KeyOptionalValue] | None = None


class Finalisation(msgspec.Struct):
    """Whether all files of a model are there."""

    status: str | int


class Params(msgspec.Struct):
    """Parameters of a model."""

    params: list[KeyOptionalValue] | None = None


class Tags(msgspec.Struct):
    """Tags of a model."""

    tags: list[KeyOptionalValue] | None = None


class Retrieval(msgspec.Struct):
    """Whether a deleted model may be shown."""

    allow_deleted: bool = False


class Dataset(msgspec.Struct):
    """A dataset on which metrics were computed."""

    dataset_name: str
    dataset_digest: str | None = None


class Order(msgspec.Struct):
    """What results are ordered by."""

    field_name: str
    ascending: bool = True
    dataset_name: str | None = None
    dataset_digest: str | None = None


class Search(msgspec.Struct):
    """What models to show."""

    experiment_ids: list[str] | None = None
    filter: str | None = None
    datasets: list[Dataset] | None = None
    max_results: Int64 | None = None
    order_by: list[Order] | None = None
    page_token: str | None = None


def create(home: Home, request: Request) -> Work:
    """Add a model whose files are to follow."""
    fields = request.decode(Creation)
    if not fields.experiment_id:
        raise ParameterMissingError("experiment_id")
    experiment_id = parse_experiment_id(fields.experiment_id)
    params, tags = _read_params(fields.params or []), _read_tags(fields.tags or [])
    model_type, run_id = fields.model_type or "", fields.source_run_id or ""
    check_value(model_type, MAX_TYPE_LENGTH, "model_type")
    check_value(run_id, _MAX_ID_LENGTH, "source_run_id")
    return lambda tx: {
        "model": write_logged(
            home.logged_models.create(
                tx,
                experiment_id,
                name=fields.name or "",
                model_type=model_type,
                run_id=run_id,
                params=params,
                tags=tags,
            )
        )
    }


def get(home: Home, request: Request) -> Any:
    """Return a model."""
    allow_deleted = request.decode(Retrieval).allow_deleted
    return {"model": write_logged(home.logged_models.get(request.values["model_id"], allow_deleted=allow_deleted))}


def finalize(home: Home, request: Request) -> Work:
    """Say whether all files of a model are there."""
    status, model_id = read_model_status(request.decode(Finalisation).status), request.values["model_id"]
    return lambda tx: {"model": write_logged(home.logged_models.finalize(tx, model_id, status))}


def delete(home: Home, request: Request) -> Work:
    """Mark a model as deleted."""
    model_id = request.values["model_id"]
    return lambda tx: home.logged_models.delete(tx, model_id)


def log_params(home: Home, request: Request) -> Work:
    """Keep parameters."""
    params, model_id = _read_params(request.decode(Params).params or []), request.values["model_id"]
    return lambda tx: home.logged_models.log_params(tx, model_id, params)


def set_tags(home: Home, request: Request) -> Work:
    """Keep tags."""
    tags, model_id = _read_tags(request.decode(Tags).tags or []), request.values["model_id"]
    return lambda tx: {"model": write_logged(home.logged_models.set_tags(tx, model_id, tags))}


def delete_tag(home: Home, request: Request) -> Work:
    """Remove a tag."""
    model_id, key = request.values["model_id"], request.values["key"]
    return lambda tx: home.logged_models.delete_tag(tx, model_id, key)


def search(home: Home, request: Request) -> Any:
    """Return a page of models."""
    fields = request.decode(Search)
    found, token = home.logged_models.search(
        read_experiment_ids(fields.experiment_ids or []),
        filter_text=fields.filter or "",
        datasets=_read_datasets(fields.datasets or []),
        orders=[
            OrderBy(
                order.field_name,
                order.ascending,
                DatasetUse(order.dataset_name, order.dataset_digest or "") if order.dataset_name else None,
            )
            for order in fields.order_by or []
        ],
        limit=read_limit(fields.max_results, 100, MAX_PAGE),
        token=fields.page_token or "",
    )
    answer: dict[str, Any] = {"models": [write_logged(model) for model in found]}
    return answer | ({"next_page_token": token} if token else {})


def _read_datasets(found: list[Dataset]) -> list[DatasetUse]:
    if len(found) > 100:
        raise BatchTooLargeError("datasets", 100, len(found))
    for place, dataset in enumerate(found):
        if not dataset.dataset_name:
            raise ParameterMissingError(f"datasets[{place}].dataset_name")
    return [DatasetUse(dataset.dataset_name, dataset.dataset_digest or "") for dataset in found]


def _read_params(found: list[KeyOptionalValue]) -> dict[str, str]:
    _check_count("params", found)
    for place, item in enumerate(found):
        check_key(item.key, f"params[{place}].key")
        check_value(item.value, MAX_PARAM_LENGTH, f"params[{place}].value")
    check_unique([item.key for item in found])
    return {item.key: item.value for item in found}


def _read_tags(found: list[KeyOptionalValue]) -> dict[str, str]:
    _check_count("tags", found)
    for place, item in enumerate(found):
        check_key(item.key, f"tags[{place}].key")
        check_value(item.value, MAX_TAG_LENGTH, f"tags[{place}].value")
    return {item.key: item.value for item in found}


def _check_count(what: str, found: list[KeyOptionalValue]) -> None:
    if len(found) > _MAX_ITEMS:
        raise BatchTooLargeError(what, _MAX_ITEMS, len(found))


ROUTES: tuple[Route, ...] = (
    write("POST", _A, create),
    read("POST", _A + "/search", search),
    lookup("GET", _A + "/{model_id}", get),
    write("PATCH", _A + "/{model_id}", finalize),
    write("DELETE", _A + "/{model_id}", delete),
    write("POST", _A + "/{model_id}/params", log_params),
    write("PATCH", _A + "/{model_id}/tags", set_tags),
    write("DELETE", _A + "/{model_id}/tags/{key}", delete_tag),
)
