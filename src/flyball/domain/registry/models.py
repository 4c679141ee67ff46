"""Registered models and their versions as clients of the MLflow protocol make and see them."""

import posixpath
import re
from enum import StrEnum

import msgspec

from flyball.core.errors import ConflictError, InvalidInputError, NotFoundError
from flyball.domain.registry.versions import ModelVersion
from flyball.domain.tracking.client_runs import ItemInvalidError, check_text

MAX_NAME_LENGTH = 256
MAX_ALIAS_LENGTH = 255
MAX_TAG_KEY_LENGTH = 250
MAX_TAG_LENGTH = 100_000
MAX_DESCRIPTION_LENGTH = 100_000
MAX_SOURCE_LENGTH = 2_048
PROMPT_TAG = "mlflow.prompt.is_prompt"
"""The tag by which clients tell prompts from models."""
_ALIAS = re.compile(r"[\w\-]+")
_RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)


class Stage(StrEnum):
    """What clients call a version's stage; Flyball itself goes by aliases."""

    NONE = "None"
    STAGING = "Staging"
    PRODUCTION = "Production"
    ARCHIVED = "Archived"


class ClientVersion(msgspec.Struct, frozen=True):
    """A version with what belongs to it.

    Attributes:
        params: Those of the logged model that it was made from.
    """

    version: ModelVersion
    tags: dict[str, str]
    aliases: list[str]
    params: dict[str, str] = {}


class RegisteredModel(msgspec.Struct, frozen=True):
    """A model with what belongs to it.

    Attributes:
        aliases: The number of the version that each means.
        latest: The newest version of each stage.
    """

    name: str
    description: str
    created_at_us: int
    updated_at_us: int
    tags: dict[str, str] = {}
    aliases: dict[str, int] = {}
    latest: list[ClientVersion] = []


class ModelNotFoundError(NotFoundError):
    """No model is registered under that name."""

    code = "registry/model-not-found"

    def __init__(self, name: str) -> None:
        super().__init__(f"Registered Model with name={name[:300]} not found")


class ModelExistsError(ConflictError):
    """A model of that name is registered already."""

    code = "registry/model-exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"Registered Model (name={name}) already exists", hint="Use that one, or another name.")


class ClientVersionNotFoundError(NotFoundError):
    """The model has no such version, or no more."""

    code = "registry/version-not-found"

    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"Model Version (name={name[:300]}, version={number}) not found")


class AliasNotFoundError(NotFoundError):
    """The alias means no version."""

    code = "registry/alias-not-found"

    def __init__(self, name: str, alias: str) -> None:
        super().__init__(f"Registered model alias {alias[:300]} not found for the model {name[:300]}")


class RegistryTagNotFoundError(NotFoundError):
    """There is no such tag."""

    code = "registry/tag-not-found"

    def __init__(self, what: str, key: str) -> None:
        super().__init__(f"No tag with name: {key[:300]} in {what}")


class ModelInUseError(ConflictError):
    """An endpoint of the project takes its versions from the model, so it cannot be taken away."""

    code = "registry/model-in-use"

    def __init__(self, what: str, used_as: str) -> None:
        super().__init__(
            f"{what} is {used_as} of a model that an endpoint serves, so it cannot be deleted",
            hint="Let another version take its place first.",
        )


class ModelJudgedError(ConflictError):
    """A model whose versions were judged keeps its name: their evidence and signatures are about that name."""

    code = "registry/model-judged"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the model {name!r} cannot be renamed: gates were judged and approvals signed for versions of that name",
            hint="Register the versions under the new name: copy_model_version in MLflow's client.",
        )


class SourceMissingError(NotFoundError):
    """There is nothing at the place that a version is to be made from."""

    code = "registry/source-missing"

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(
            f"Unable to find the source {source[:500]!r} of the model version: {reason}",
            hint="Log the model first, and name the place that its client was told.",
        )


class SourceInvalidError(InvalidInputError):
    """A version cannot be made from a place of that kind."""

    code = "registry/source-invalid"

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"Invalid model version source: {source[:500]!r}: {reason}")


def check_client_name(name: str, path: str = "name") -> str:
    """Return a model's name if clients may use it.

    Raises:
        ItemInvalidError: It is empty, too long, or could not be part of an address.
    """
    if not name.strip():
        raise ItemInvalidError(path, name, "Registered model name cannot be empty")
    if "/" in name or ":" in name:
        raise ItemInvalidError(path, name, "Names cannot contain '/' or ':'")
    if len(name) > MAX_NAME_LENGTH:
        raise ItemInvalidError(path, name, f"it exceeds the maximum length of {MAX_NAME_LENGTH} characters")
    if posixpath.normpath(name) != name or name in (".", ".."):
        raise ItemInvalidError(path, name, "it would be another name in an address")
    check_text(name, path)
    return name


def check_alias_name(alias: str) -> str:
    """Return an alias if clients may use it.

    Raises:
        ItemInvalidError: It is empty, too long, has other signs than words have, or means something already.
    """
    if not _ALIAS.fullmatch(alias):
        raise ItemInvalidError("alias", alias, "Names may only contain alphanumerics, underscores (_) and dashes (-)")
    if len(alias) > MAX_ALIAS_LENGTH:
        raise ItemInvalidError("alias", alias, f"it exceeds the maximum length of {MAX_ALIAS_LENGTH} characters")
    if _RESERVED_ALIAS.fullmatch(alias):
        raise ItemInvalidError("alias", alias, "the names latest, v1, v2 … are reserved")
    return alias


def parse_number(text: str) -> int:
    """Return a version's number.

    Raises:
        ItemInvalidError: It is no whole number from 1 on.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0):
        raise ItemInvalidError("version", text, "Model version must be an integer")
    return int(text)


def parse_stage(text: str) -> Stage:
    """Return a stage, however its letters are written.

    Raises:
        ItemInvalidError: There is no such stage.
    """
    for stage in Stage:
        if stage.value.lower() == text.strip().lower():
            return stage
    raise ItemInvalidError("stage", text, f"There are {', '.join(Stage)}")
