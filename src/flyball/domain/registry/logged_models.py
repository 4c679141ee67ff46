"""Logged models: what clients keep of a model in an experiment, before or without registering it."""

import os
import re
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from flyball.core.errors import ConflictError, NotFoundError
from flyball.domain.tracking.client_runs import ItemInvalidError, check_text

MAX_MODEL_NAME_LENGTH = 500
MAX_TYPE_LENGTH = 500
_BAD_SIGNS = re.compile(r"[/:.%\"']")


class ModelStatus(StrEnum):
    """Whether a logged model's files are all there."""

    PENDING = "LOGGED_MODEL_PENDING"
    READY = "LOGGED_MODEL_READY"
    FAILED = "LOGGED_MODEL_UPLOAD_FAILED"


class ModelMetric(msgspec.Struct, frozen=True):
    """The last value of one metric of a logged model on one dataset in one run; None is NaN."""

    key: str
    value: float | None
    at_us: int
    step: int
    dataset_name: str
    dataset_digest: str
    run_id: str


class DatasetUse(msgspec.Struct, frozen=True):
    """A dataset on which metrics were computed; without a digest, every one of the name."""

    name: str
    digest: str = ""


class LoggedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a client logged.

    Attributes:
        number: By which all that belongs to it finds it.
        run_id: The run that made it; empty for none.
        registered: The versions that it was registered as.
    """

    number: int
    id: str
    experiment_id: int
    name: str
    model_type: str
    run_id: str
    status: ModelStatus
    created_at_us: int
    updated_at_us: int
    is_deleted: bool
    root: str
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    metrics: Sequence[ModelMetric] = ()
    registered: Sequence[tuple[str, int]] = ()


class LoggedModelNotFoundError(NotFoundError):
    """There is no such logged model, or no more."""

    code = "registry/logged-model-not-found"

    def __init__(self, model_id: str) -> None:
        super().__init__(f"Logged model with ID '{model_id[:300]}' not found")


class LoggedModelParamChangedError(ConflictError):
    """A parameter of a logged model has another value already."""

    code = "registry/logged-model-param-changed"

    def __init__(self, model_id: str, name: str) -> None:
        super().__init__(f"The parameter {name!r} of the logged model '{model_id}' has another value already")


def new_model_id() -> str:
    """Return an id as clients recognise logged models by."""
    return f"m-{os.urandom(16).hex()}"


def check_logged_name(name: str) -> str:
    """Return a logged model's name if it can be part of an address.

    Raises:
        ItemInvalidError: It cannot.
    """
    if not name or _BAD_SIGNS.search(name):
        raise ItemInvalidError("name", name, "it must be a non-empty text without the signs / : . % \" '")
    if len(name) > MAX_MODEL_NAME_LENGTH:
        raise ItemInvalidError("name", name, f"it exceeds the maximum length of {MAX_MODEL_NAME_LENGTH} characters")
    check_text(name, "name")
    return name
