"""Runs as clients of the MLflow protocol see them, and what they may log to them."""

import posixpath
import random
import re
from collections.abc import Sequence

import msgspec

from flyball.core.errors import ConflictError, InvalidInputError, NotFoundError
from flyball.domain.tracking.runs import Maker, RunStatus

NAME_TAG = "mlflow.runName"
MODELS_TAG = "mlflow.log-model.history"
CONTEXT_TAG = "mlflow.data.context"
MAX_METRICS = 1_000
MAX_PARAMS = 100
MAX_TAGS = 100
MAX_ITEMS = 1_000
MAX_FIRST_TAGS = 10_000
"""The most tags that something may be made with, and the most names that one request may link."""
MAX_KEY_LENGTH = 250
MAX_PARAM_LENGTH = 6_000
MAX_TAG_LENGTH = 8_000
DIGEST_LENGTH = 36
"""The most signs that a client gives a dataset's digest; the first ones of a longer one name it."""
SHORTEST_DIGEST = 12
"""The fewest signs of a snapshot's id that name it."""
# Instants are microseconds since 1970 within; the last one that a calendar of four-digit years has.
MAX_TIME_MS = 253_402_300_799_999
_KEY = re.compile(r"[/\w.\- :]*")


class ClientRun(msgspec.Struct, frozen=True):
    """A run without what was logged to it.

    Attributes:
        number: By which all that is logged finds it.
        artifact_root: Where its files are.
    """

    number: int
    id: str
    experiment_id: int
    maker: Maker
    status: RunStatus
    actor: str
    started_at_us: int
    finished_at_us: int | None
    is_deleted: bool
    artifact_root: str


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """What a run read, as its client tells it; ``schema`` and ``profile`` are JSON texts."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None


class DatasetInput(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset, and how a run used it."""

    dataset: Dataset
    tags: dict[str, str] = {}


class ModelLink(msgspec.Struct, frozen=True):
    """A logged model that a run read or made; step tells when in training it was made."""

    model_id: str
    step: int = 0


Latest = tuple[int, str, float | None, int, int]
"""A metric's last point: the run's number, name, value (None for NaN), time in milliseconds, step.

A plain tuple, as are parameters and tags: a page of runs has tens of thousands of them.
"""
Named = tuple[int, str, str]
"""A parameter or a tag: the run's number, name, value."""


class LoggedRun(msgspec.Struct, frozen=True):
    """A run with what was logged to it, all by name."""

    run: ClientRun
    metrics: list[Latest]
    params: list[Named]
    tags: list[Named]
    datasets: list[DatasetInput]
    read_models: list[ModelLink]
    made_models: list[ModelLink]


class ItemInvalidError(InvalidInputError):
    """Something that a client logs has a key or a value that cannot be kept."""

    code = "tracking/item-invalid"

    def __init__(self, path: str, shown: str, reason: str) -> None:
        super().__init__(f"Invalid value {shown[:200]!r} for parameter '{path}' supplied: {reason}")


class BatchTooLargeError(InvalidInputError):
    """A batch holds more items than are taken at once."""

    code = "tracking/batch-too-large"

    def __init__(self, what: str, limit: int, found: int) -> None:
        super().__init__(
            f"A batch logging request can contain at most {limit} {what}. Got {found} {what}",
            hint=f"Please split up {what} across multiple requests and try again.",
        )


class ParamChangedError(ConflictError):
    """A parameter has another value already."""

    code = "tracking/param-changed"

    def __init__(self, run_id: str, name: str, old: str, new: str) -> None:
        super().__init__(
            f"Changing param values is not allowed. Param with key='{name}' was already logged with"
            f" value='{old[:500]}' for run ID='{run_id}'. Attempted logging new value '{new[:500]}'",
            hint="Log it to a run of its own, such as a nested one.",
        )


class RunStateError(ConflictError):
    """The run is deleted, or is not, and so the request cannot be carried out."""

    code = "tracking/run-state"

    def __init__(self, run_id: str, *, is_deleted: bool) -> None:
        wanted, state = ("active", "deleted") if is_deleted else ("deleted", "active")
        super().__init__(
            f"The run {run_id} must be in the '{wanted}' state. Current state is {state}",
            hint="Restore it first." if is_deleted else "",
        )


class RunNotYoursError(ConflictError):
    """A run that Flyball makes is ended by Flyball, and by nobody else."""

    code = "tracking/run-not-yours"

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"run {run_id} is made by Flyball itself, so a client can neither end it nor open it again",
            hint="Its tags can be changed; log the rest to a run of your own.",
        )


class TagNotFoundError(NotFoundError):
    """The run has no such tag."""

    code = "tracking/tag-not-found"

    def __init__(self, run_id: str, name: str) -> None:
        super().__init__(f"No tag with name: {name} in run with id {run_id}")


def check_key(key: str, path: str) -> None:
    """Check the key of a metric, a parameter or a tag.

    Raises:
        ItemInvalidError: It is empty, too long, or could not be a file's name.
    """
    if not key:
        raise ItemInvalidError(path, key, "A key name must be provided")
    if not _KEY.fullmatch(key):
        raise ItemInvalidError(
            path,
            key,
            "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:)"
            " and slashes (/)",
        )
    if len(key) > MAX_KEY_LENGTH:
        raise ItemInvalidError(path, key, f"it exceeds the maximum length of {MAX_KEY_LENGTH} characters")
    if "/" in key or key in (".", ".."):
        norm = posixpath.normpath(key)
        if norm != key or norm.startswith(("..", "/")) or norm == ".":
            raise ItemInvalidError(
                path, key, f"Names may be treated as files in certain cases; this one would resolve to {norm!r}"
            )


def check_value(value: str, limit: int, path: str) -> None:
    """Check a text.

    Raises:
        ItemInvalidError: It is too long, or holds what no database keeps.
    """
    if len(value) > limit:
        raise ItemInvalidError(path, value, f"it exceeds the maximum length of {limit} characters")
    check_text(value, path)


def check_text(value: str, path: str) -> None:
    """Check that a text can be kept by every database.

    Raises:
        ItemInvalidError: It holds NUL, or half of a pair of UTF-16.
    """
    if "\0" in value:
        raise ItemInvalidError(path, value, "it holds the sign NUL")
    if not value.isascii() and any("\ud800" <= sign <= "\udfff" for sign in value):
        raise ItemInvalidError(path, ascii(value), "it holds half of a surrogate pair, which is no Unicode text")


def check_time_ms(time_ms: int, path: str) -> int:
    """Return a time in microseconds.

    Raises:
        ItemInvalidError: It is before 1970, or in a year after 9999.
    """
    if not 0 <= time_ms <= MAX_TIME_MS:
        raise ItemInvalidError(path, str(time_ms), "Timestamp must be milliseconds since 1970, up to the year 9999")
    return time_ms * 1000


def check_counts(metrics: int, params: int, tags: int) -> None:
    """Check how many items a batch has.

    Raises:
        BatchTooLargeError: They are too many.
    """
    for what, limit, found in (
        ("metrics", MAX_METRICS, metrics),
        ("params", MAX_PARAMS, params),
        ("tags", MAX_TAGS, tags),
        ("metrics, params, and tags", MAX_ITEMS, metrics + params + tags),
    ):
        if found > limit:
            raise BatchTooLargeError(what, limit, found)


def check_first_tags(tags: int) -> None:
    """Check how many tags something is made with.

    Raises:
        BatchTooLargeError: They are too many.
    """
    if tags > MAX_FIRST_TAGS:
        raise BatchTooLargeError("tags", MAX_FIRST_TAGS, tags)


def check_unique(keys: Sequence[str]) -> None:
    """Check that no parameter comes twice in a batch.

    Raises:
        InvalidInputError: One does.
    """
    if len(set(keys)) < len(keys):
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise InvalidInputError(
            f"Duplicate parameter keys have been submitted: {twice}",
            hint="Please ensure the request contains only one param value per param key.",
        )


_FIRST = ("amber", "brave", "calm", "clever", "eager", "fair", "gentle", "happy", "keen", "lively", "merry", "quick")
_SECOND = ("beam", "cam", "crank", "dial", "gear", "hinge", "lever", "piston", "pulley", "rotor", "spring", "wheel")


def random_name() -> str:
    """Return a name for a run that nobody named."""
    return f"{random.choice(_FIRST)}-{random.choice(_SECOND)}-{random.randrange(1000)}"
