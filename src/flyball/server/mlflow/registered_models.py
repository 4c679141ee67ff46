"""Registered models: made, found, renamed, deleted, tagged, and their aliases."""

from collections.abc import Sequence
from typing import Any

import msgspec

from flyball.core.errors import InvalidInputError
from flyball.domain.registry.models import (
    MAX_DESCRIPTION_LENGTH,
    MAX_TAG_KEY_LENGTH,
    MAX_TAG_LENGTH,
    check_alias_name,
    check_client_name,
    parse_number,
    parse_stage,
)
from flyball.domain.tracking.client_runs import ItemInvalidError, check_first_tags, check_value
from flyball.server.mlflow.experiments import read_limit
from flyball.server.mlflow.registry_wire import write_model, write_version
from flyball.server.mlflow.requests import Int64, ParameterMissingError, Request
from flyball.server.mlflow.routing import Route, Work, lookup, read, write
from flyball.server.mlflow.runs import KeyOptionalValue
from flyball.workspace.home import Home

MAX_PAGE = 1_000
_A = "/api/2.0/mlflow/registered-models/"


class Creation(msgspec.Struct):
    """A model to be registered."""

    name: str
    description: str | None = None
    tags: list[KeyOptionalValue] | None = None


class Reference(msgspec.Struct):
    """One model."""

    name: str


class Update(msgspec.Struct):
    """What is said of a model."""

    name: str
    description: str | None = None


class Renaming(msgspec.Struct):
    """A model's new name."""

    name: str
    new_name: str = ""


class Search(msgspec.Struct):
    """What models to show."""

    filter: str | None = None
    max_results: Int64 | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


class Stages(msgspec.Struct):
    """Whose newest versions are asked for."""

    name: str
    stages: list[str] | None = None


class Tag(msgspec.Struct):
    """A tag of a model."""

    name: str
    key: str
    value: str = ""


class TagReference(msgspec.Struct):
    """A tag of a model to be removed."""

    name: str
    key: str


class AliasReference(msgspec.Struct):
    """An alias of a model."""

    name: str
    alias: str


class Alias(msgspec.Struct):
    """An alias, and the version that it is to mean."""

    name: str
    alias: str
    version: str | int


def create(home: Home, request: Request) -> Work:
    """Register a model without versions."""
    fields = request.decode(Creation)
    check_client_name(fields.name)
    description = fields.description or ""
    check_value(description, MAX_DESCRIPTION_LENGTH, "description")
    tags = read_tags(fields.tags or [])
    return lambda tx: {
        "registered_model": write_model(
            home.client_registry.create_model(tx, fields.name, description=description, tags=tags)
        )
    }


def get(home: Home, request: Request) -> Any:
    """Return a model."""
    return {"registered_model": write_model(home.client_registry.get_model(_name_of(request.decode(Reference))))}


def update(home: Home, request: Request) -> Work:
    """Keep what is said of a model."""
    fields = request.decode(Update)
    name, description = _name_of(fields), fields.description or ""
    check_value(description, MAX_DESCRIPTION_LENGTH, "description")
    return lambda tx: {"registered_model": write_model(home.client_registry.update_model(tx, name, description))}


def rename(home: Home, request: Request) -> Work:
    """Give a model another name."""
    fields = request.decode(Renaming)
    name = _name_of(fields)
    if not fields.new_name:
        raise ParameterMissingError("new_name")
    new_name = check_client_name(fields.new_name, "new_name")
    return lambda tx: {"registered_model": write_model(home.client_registry.rename_model(tx, name, new_name))}


def delete(home: Home, request: Request) -> Work:
    """Take a model and its versions away."""
    name = _name_of(request.decode(Reference))
    return lambda tx: home.client_registry.delete_model(tx, name)


def search(home: Home, request: Request) -> Any:
    """Return a page of models."""
    fields = request.decode(Search)
    found, token = home.client_registry.search_models(
        filter_text=fields.filter or "",
        orders=fields.order_by or [],
        limit=read_limit(fields.max_results, 100, MAX_PAGE),
        token=fields.page_token or "",
    )
    answer: dict[str, Any] = {"registered_models": [write_model(model) for model in found]}
    return answer | ({"next_page_token": token} if token else {})


def get_latest_versions(home: Home, request: Request) -> Any:
    """Return the newest version of each stage."""
    fields = request.decode(Stages)
    stages = [parse_stage(stage) for stage in fields.stages or []]
    found = home.client_registry.latest_versions(_name_of(fields), stages)
    return {"model_versions": [write_version(version) for version in found]}


def set_tag(home: Home, request: Request) -> Work:
    """Keep a tag."""
    fields = request.decode(Tag)
    name = _name_of(fields)
    check_tag(fields.key, fields.value, "")
    return lambda tx: home.client_registry.set_model_tag(tx, name, fields.key, fields.value)


def delete_tag(home: Home, request: Request) -> Work:
    """Remove a tag."""
    fields = request.decode(TagReference)
    name = _name_of(fields)
    check_tag(fields.key, "", "")
    return lambda tx: home.client_registry.delete_model_tag(tx, name, fields.key)


def set_alias(home: Home, request: Request) -> Work:
    """Let an alias mean a version."""
    fields = request.decode(Alias)
    name, alias, number = _name_of(fields), check_alias_name(fields.alias), parse_number(str(fields.version))
    return lambda tx: home.client_registry.set_alias(tx, name, alias, number)


def delete_alias(home: Home, request: Request) -> Work:
    """Let an alias mean nothing."""
    fields = request.decode(AliasReference)
    name, alias = _name_of(fields), check_alias_name(fields.alias)
    return lambda tx: home.client_registry.delete_alias(tx, name, alias)


def get_by_alias(home: Home, request: Request) -> Any:
    """Return the version that an alias means."""
    fields = request.decode(AliasReference)
    name, alias = _name_of(fields), _known_alias(fields.alias)
    if alias.lower() == "latest":
        newest = max(home.client_registry.latest_versions(name), key=lambda found: found.version.number, default=None)
        if newest is not None:
            return {"model_version": write_version(newest)}
    return {"model_version": write_version(home.client_registry.get_by_alias(name, alias))}


def read_tags(found: Sequence[KeyOptionalValue]) -> dict[str, str]:
    """Return tags; of a key that comes twice the last one counts.

    Raises:
        BatchTooLargeError: They are too many.
        ItemInvalidError: One cannot be kept.
    """
    check_first_tags(len(found))
    for place, tag in enumerate(found):
        check_tag(tag.key, tag.value, f"tags[{place}].")
    return {tag.key: tag.value for tag in found}


def check_tag(key: str, value: str, path: str) -> None:
    """Check a tag of a model or a version.

    Raises:
        ItemInvalidError: It cannot be kept.
    """
    if not key:
        raise ItemInvalidError(f"{path}key", key, "Tag name cannot be empty")
    check_value(key, MAX_TAG_KEY_LENGTH, f"{path}key")
    check_value(value, MAX_TAG_LENGTH, f"{path}value")


def _name_of(fields: Any) -> str:
    """Return the model that a request names; names that cannot be are not looked up."""
    name: str = fields.name
    return check_client_name(name)


def _known_alias(alias: str) -> str:
    if not alias:
        raise InvalidInputError("Registered model alias name cannot be empty")
    return alias


ROUTES: tuple[Route, ...] = (
    write("POST", _A + "create", create),
    lookup("GET", _A + "get", get),
    write("PATCH", _A + "update", update),
    write("POST", _A + "rename", rename),
    write("DELETE", _A + "delete", delete),
    read("GET", _A + "search", search),
    read("POST", _A + "search", search),
    read("POST", _A + "get-latest-versions", get_latest_versions),
    lookup("GET", _A + "get-latest-versions", get_latest_versions),
    write("POST", _A + "set-tag", set_tag),
    write("DELETE", _A + "delete-tag", delete_tag),
    write("POST", _A + "alias", set_alias),
    write("DELETE", _A + "alias", delete_alias),
    lookup("GET", _A + "alias", get_by_alias),
)
