"""Experiments: made, found, renamed, deleted, tagged."""

from typing import Any

import msgspec

from flyball.domain.tracking.client_runs import (
    MAX_KEY_LENGTH,
    ItemInvalidError,
    check_first_tags,
    check_key,
    check_text,
    check_value,
)
from flyball.domain.tracking.experiments import MAX_LOCATION_LENGTH, MAX_NAME_LENGTH, parse_experiment_id
from flyball.server.mlflow.requests import Int64, ParameterMissingError, Request
from flyball.server.mlflow.routing import Route, Work, lookup, read, write
from flyball.server.mlflow.wire import KeyValue, read_view, write_experiment
from flyball.workspace.home import Home

MAX_PAGE = 50_000
_MAX_TAG_LENGTH = 20_000
_A = "/api/2.0/mlflow/experiments/"


class Creation(msgspec.Struct):
    """An experiment to be made."""

    name: str
    artifact_location: str | None = None
    tags: list[KeyValue] | None = None


class Reference(msgspec.Struct):
    """One experiment."""

    experiment_id: str


class Named(msgspec.Struct):
    """An experiment's name."""

    experiment_name: str


class Search(msgspec.Struct):
    """What experiments to show."""

    max_results: Int64 | None = None
    page_token: str | None = None
    filter: str | None = None
    order_by: list[str] | None = None
    view_type: str | int | None = None


class Update(msgspec.Struct):
    """An experiment's new name."""

    experiment_id: str
    new_name: str | None = None


class Tag(msgspec.Struct):
    """A tag of an experiment."""

    experiment_id: str
    key: str
    value: str


class TagReference(msgspec.Struct):
    """A tag of an experiment to be removed."""

    experiment_id: str
    key: str


def create(home: Home, request: Request) -> Work:
    """Make an experiment."""
    fields = request.decode(Creation)
    _check_name(fields.name, "name")
    location = fields.artifact_location or ""
    if len(location) > MAX_LOCATION_LENGTH:
        raise ItemInvalidError("artifact_location", location, f"it exceeds {MAX_LOCATION_LENGTH} characters")
    if location.startswith("runs:") or any(part == ".." for part in location.replace("\\", "/").split("/")):
        raise ItemInvalidError("artifact_location", location, "it must be the address of a place for files")
    check_text(location, "artifact_location")
    check_first_tags(len(fields.tags or []))
    tags = {tag.key: tag.value for tag in fields.tags or []}
    for place, (key, value) in enumerate(tags.items()):
        _check_tag(key, value, f"tags[{place}]")
    return lambda tx: {
        "experiment_id": str(home.experiments.create(tx, fields.name, artifact_location=location, tags=tags))
    }


def get(home: Home, request: Request) -> Any:
    """Return an experiment."""
    fields = request.decode(Reference)
    return {"experiment": write_experiment(home.experiments.get(parse_experiment_id(fields.experiment_id)))}


def get_by_name(home: Home, request: Request) -> Any:
    """Return the experiment of a name."""
    return {"experiment": write_experiment(home.experiments.get_by_name(request.decode(Named).experiment_name))}


def search(home: Home, request: Request) -> Any:
    """Return a page of experiments."""
    fields = request.decode(Search)
    found, token = home.experiments.search(
        filter_text=fields.filter or "",
        orders=fields.order_by or [],
        view=read_view(fields.view_type),
        limit=read_limit(fields.max_results, 1_000, MAX_PAGE),
        token=fields.page_token or "",
    )
    answer: dict[str, Any] = {"experiments": [write_experiment(experiment) for experiment in found]}
    return answer | ({"next_page_token": token} if token else {})


def update(home: Home, request: Request) -> Work:
    """Rename an experiment."""
    fields = request.decode(Update)
    experiment_id = parse_experiment_id(fields.experiment_id)
    if not fields.new_name:
        raise ParameterMissingError("new_name")
    name = fields.new_name
    _check_name(name, "new_name")
    return lambda tx: home.experiments.rename(tx, experiment_id, name)


def delete(home: Home, request: Request) -> Work:
    """Mark an experiment and its runs as deleted."""
    experiment_id = parse_experiment_id(request.decode(Reference).experiment_id)
    return lambda tx: home.experiments.delete(tx, experiment_id)


def restore(home: Home, request: Request) -> Work:
    """Take a deletion back."""
    experiment_id = parse_experiment_id(request.decode(Reference).experiment_id)
    return lambda tx: home.experiments.restore(tx, experiment_id)


def set_tag(home: Home, request: Request) -> Work:
    """Keep a tag."""
    fields = request.decode(Tag)
    experiment_id = parse_experiment_id(fields.experiment_id)
    _check_tag(fields.key, fields.value, "")
    return lambda tx: home.experiments.set_tag(tx, experiment_id, fields.key, fields.value)


def delete_tag(home: Home, request: Request) -> Work:
    """Remove a tag."""
    fields = request.decode(TagReference)
    experiment_id = parse_experiment_id(fields.experiment_id)
    return lambda tx: home.experiments.delete_tag(tx, experiment_id, fields.key)


def read_limit(found: int | None, default: int, most: int) -> int:
    """Return how many results a page may have.

    Raises:
        ItemInvalidError: It is not between 1 and the most.
    """
    if found is None:
        return default
    if not 0 < found <= most:
        raise ItemInvalidError("max_results", str(found), f"It must be a positive integer of at most {most}")
    return found


def _check_name(name: str, path: str) -> None:
    if not name:
        raise ParameterMissingError(path)
    check_value(name, MAX_NAME_LENGTH, path)


def _check_tag(key: str, value: str, path: str) -> None:
    dot = "." if path else ""
    check_key(key, f"{path}{dot}key")
    check_value(key, MAX_KEY_LENGTH, f"{path}{dot}key")
    check_value(value, _MAX_TAG_LENGTH, f"{path}{dot}value")


ROUTES: tuple[Route, ...] = (
    write("POST", _A + "create", create),
    lookup("GET", _A + "get", get),
    lookup("GET", _A + "get-by-name", get_by_name),
    read("POST", _A + "search", search),
    read("GET", _A + "search", search),
    write("POST", _A + "update", update),
    write("POST", _A + "delete", delete),
    write("POST", _A + "restore", restore),
    write("POST", _A + "set-experiment-tag", set_tag),
    write("POST", _A + "delete-experiment-tag", delete_tag),
)
