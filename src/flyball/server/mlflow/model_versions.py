"""Versions of registered models: made, found, changed, deleted, tagged."""

from typing import Any

import msgspec

from flyball.domain.registry.models import (
    MAX_DESCRIPTION_LENGTH,
    MAX_SOURCE_LENGTH,
    check_client_name,
    parse_number,
    parse_stage,
)
from flyball.domain.tracking.client_runs import check_value
from flyball.server.mlflow.experiments import read_limit
from flyball.server.mlflow.registered_models import check_tag, read_tags
from flyball.server.mlflow.registry_wire import write_version
from flyball.server.mlflow.requests import Int64, ParameterMissingError, Request
from flyball.server.mlflow.routing import Route, Work, lookup, read, write
from flyball.server.mlflow.runs import KeyOptionalValue
from flyball.workspace.home import Home

MAX_PAGE = 200_000
_MAX_ID_LENGTH = 500
_A = "/api/2.0/mlflow/model-versions/"


class Creation(msgspec.Struct):
    """A version to be registered."""

    name: str
    source: str
    run_id: str | None = None
    run_link: str | None = None
    description: str | None = None
    tags: list[KeyOptionalValue] | None = None
    model_id: str | None = None


class Reference(msgspec.Struct):
    """One version."""

    name: str
    version: str | int


class Update(Reference):
    """What is said of a version."""

    description: str | None = None


class Transition(Reference):
    """The stage that a version is to be in."""

    stage: str = ""
    archive_existing_versions: bool = False


class Search(msgspec.Struct):
    """What versions to show."""

    filter: str | None = None
    max_results: Int64 | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


class Tag(Reference):
    """A tag of a version."""

    key: str = ""
    value: str = ""


def create(home: Home, request: Request) -> Work:
    """Register the next version of a model."""
    fields = request.decode(Creation)
    name = check_client_name(fields.name)
    if not fields.source:
        raise ParameterMissingError("source")
    check_value(fields.source, MAX_SOURCE_LENGTH, "source")
    check_value(fields.description or "", MAX_DESCRIPTION_LENGTH, "description")
    check_value(fields.run_link or "", MAX_SOURCE_LENGTH, "run_link")
    for key in ("run_id", "model_id"):
        check_value(getattr(fields, key) or "", _MAX_ID_LENGTH, key)
    tags = read_tags(fields.tags or [])
    return lambda tx: {
        "model_version": write_version(
            home.client_registry.create_version(
                tx,
                name,
                fields.source,
                run_id=fields.run_id or "",
                run_link=fields.run_link or "",
                model_id=fields.model_id or "",
                description=fields.description or "",
                tags=tags,
            )
        )
    }


def get(home: Home, request: Request) -> Any:
    """Return a version."""
    return {"model_version": write_version(home.client_registry.get_version(*_version_of(request.decode(Reference))))}


def get_download_uri(home: Home, request: Request) -> Any:
    """Return where a version's files are."""
    return {"artifact_uri": home.client_registry.get_location(*_version_of(request.decode(Reference)))}


def update(home: Home, request: Request) -> Work:
    """Keep what is said of a version."""
    fields = request.decode(Update)
    name, number = _version_of(fields)
    description = fields.description or ""
    check_value(description, MAX_DESCRIPTION_LENGTH, "description")
    return lambda tx: {
        "model_version": write_version(home.client_registry.update_version(tx, name, number, description))
    }


def delete(home: Home, request: Request) -> Work:
    """Take a version away."""
    name, number = _version_of(request.decode(Reference))
    return lambda tx: home.client_registry.delete_version(tx, name, number)


def transition_stage(home: Home, request: Request) -> Work:
    """Move a version to a stage."""
    fields = request.decode(Transition)
    name, number = _version_of(fields)
    stage, archives_others = parse_stage(fields.stage), fields.archive_existing_versions
    return lambda tx: {
        "model_version": write_version(
            home.client_registry.set_stage(tx, name, number, stage, archives_others=archives_others)
        )
    }


def search(home: Home, request: Request) -> Any:
    """Return a page of versions."""
    fields = request.decode(Search)
    found, token = home.client_registry.search_versions(
        filter_text=fields.filter or "",
        orders=fields.order_by or [],
        limit=read_limit(fields.max_results, 10_000, MAX_PAGE),
        token=fields.page_token or "",
    )
    answer: dict[str, Any] = {"model_versions": [write_version(version) for version in found]}
    return answer | ({"next_page_token": token} if token else {})


def set_tag(home: Home, request: Request) -> Work:
    """Keep a tag."""
    fields = request.decode(Tag)
    name, number = _version_of(fields)
    check_tag(fields.key, fields.value, "")
    return lambda tx: home.client_registry.set_version_tag(tx, name, number, fields.key, fields.value)


def delete_tag(home: Home, request: Request) -> Work:
    """Remove a tag."""
    fields = request.decode(Tag)
    name, number = _version_of(fields)
    check_tag(fields.key, "", "")
    return lambda tx: home.client_registry.delete_version_tag(tx, name, number, fields.key)


def _version_of(fields: Reference) -> tuple[str, int]:
    return check_client_name(fields.name), parse_number(str(fields.version))


ROUTES: tuple[Route, ...] = (
    write("POST", _A + "create", create),
    lookup("GET", _A + "get", get),
    lookup("GET", _A + "get-download-uri", get_download_uri),
    write("PATCH", _A + "update", update),
    write("DELETE", _A + "delete", delete),
    write("POST", _A + "transition-stage", transition_stage),
    read("GET", _A + "search", search),
    read("POST", _A + "search", search),
    write("POST", _A + "set-tag", set_tag),
    write("DELETE", _A + "delete-tag", delete_tag),
)
