"""What runs read and made: datasets and logged models."""

from typing import Any

import msgspec

from flyball.core.errors import InvalidInputError
from flyball.domain.tracking.client_runs import (
    DIGEST_LENGTH,
    BatchTooLargeError,
    Dataset,
    DatasetInput,
    ItemInvalidError,
    ModelLink,
    check_value,
)
from flyball.server.mlflow.requests import Int64, ParameterMissingError, Request
from flyball.server.mlflow.routing import Route, Work, read, write
from flyball.server.mlflow.runs import KeyOptionalValue, read_experiment_ids, run_id_of
from flyball.workspace.home import Home

_MAX_DATASETS = 1_000
_MAX_LISTED = 1_000
_LIMITS = {
    "name": 500,
    "digest": DIGEST_LENGTH,
    "source_type": 36,
    "source": 65_535,
    "schema": 1_048_575,
    "profile": 16_777_215,
}
_MAX_TAG_KEY = 255
_MAX_TAG_VALUE = 500
_MAX_MODEL_ID = 500
_A = "/api/2.0/mlflow/runs/"


class DatasetFields(msgspec.Struct):
    """A dataset; name and digest must be there."""

    name: str = ""
    digest: str = ""
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None


class InputFields(msgspec.Struct):
    """A dataset that a run read."""

    dataset: DatasetFields
    tags: list[KeyOptionalValue] | None = None


class ModelFields(msgspec.Struct):
    """A logged model."""

    model_id: str
    step: Int64 | None = None


class Inputs(msgspec.Struct):
    """What a run read."""

    run_id: str = ""
    run_uuid: str = ""
    datasets: list[InputFields] | None = None
    models: list[ModelFields] | None = None


class Outputs(msgspec.Struct):
    """What a run made."""

    run_id: str = ""
    run_uuid: str = ""
    models: list[ModelFields] | None = None


class Model(msgspec.Struct):
    """A model's description, as clients before release 3 log it."""

    run_id: str = ""
    run_uuid: str = ""
    model_json: str = ""


class DatasetSearch(msgspec.Struct):
    """Whose datasets are listed."""

    experiment_ids: list[str] | None = None


def log_inputs(home: Home, request: Request) -> Work:
    """Keep which datasets and logged models a run read."""
    fields = request.decode(Inputs)
    run_id = run_id_of(fields)
    found = fields.datasets or []
    if len(found) > _MAX_DATASETS:
        raise BatchTooLargeError("datasets", _MAX_DATASETS, len(found))
    datasets = [_read_input(entry, f"datasets[{place}].") for place, entry in enumerate(found)]
    models = _read_models(fields.models)
    return lambda tx: home.client_runs.log_inputs(tx, run_id, datasets, models)


def log_outputs(home: Home, request: Request) -> Work:
    """Keep which logged models a run made."""
    fields = request.decode(Outputs)
    run_id, models = run_id_of(fields), _read_models(fields.models)
    return lambda tx: home.client_runs.log_outputs(tx, run_id, models)


def log_model(home: Home, request: Request) -> Work:
    """Add a model's description to a run."""
    fields = request.decode(Model)
    run_id = run_id_of(fields)
    try:
        model = msgspec.json.decode(fields.model_json)
    except msgspec.DecodeError as error:
        raise InvalidInputError(f"Malformed model info. It could not be parsed as JSON: {error}") from error
    needed = {"artifact_path", "flavors", "utc_time_created", "run_id"}
    missing = sorted(needed - set(model)) if isinstance(model, dict) else sorted(needed)
    if missing:
        raise InvalidInputError(f"Model json is missing mandatory fields: {missing}")
    return lambda tx: home.client_runs.log_model(tx, run_id, model)


def search_datasets(home: Home, request: Request) -> Any:
    """Return the datasets that the runs of some experiments read."""
    fields = request.decode(DatasetSearch)
    if not fields.experiment_ids:
        raise ParameterMissingError("experiment_ids")
    rows = home.client_runs.list_datasets(read_experiment_ids(fields.experiment_ids), _MAX_LISTED)
    return {
        "dataset_summaries": [
            {"experiment_id": str(experiment), "name": name, "digest": digest}
            | ({"context": context} if context else {})
            for experiment, name, digest, context in rows
        ]
    }


def _read_input(fields: InputFields, path: str) -> DatasetInput:
    dataset = fields.dataset
    for name, limit in _LIMITS.items():
        check_value(getattr(dataset, name) or "", limit, f"{path}dataset.{name}")
    for name in ("name", "digest"):
        if not getattr(dataset, name):
            raise ParameterMissingError(f"{path}dataset.{name}")
    for place, tag in enumerate(fields.tags or []):
        if not tag.key:
            raise ParameterMissingError(f"{path}tags[{place}].key")
        check_value(tag.key, _MAX_TAG_KEY, f"{path}tags[{place}].key")
        check_value(tag.value, _MAX_TAG_VALUE, f"{path}tags[{place}].value")
    return DatasetInput(
        dataset=Dataset(
            name=dataset.name,
            digest=dataset.digest,
            source_type=dataset.source_type,
            source=dataset.source,
            schema=dataset.schema,
            profile=dataset.profile,
        ),
        tags={tag.key: tag.value for tag in fields.tags or []},
    )


def _read_models(found: list[ModelFields] | None) -> list[ModelLink]:
    models = {}
    for place, model in enumerate(found or []):
        if not model.model_id:
            raise ItemInvalidError(f"models[{place}].model_id", "", "A model's id must be provided")
        check_value(model.model_id, _MAX_MODEL_ID, f"models[{place}].model_id")
        models[model.model_id] = ModelLink(model.model_id, model.step or 0)
    return list(models.values())


ROUTES: tuple[Route, ...] = (
    write("POST", _A + "log-inputs", log_inputs),
    write("POST", _A + "outputs", log_outputs),
    write("POST", _A + "log-model", log_model),
    read("POST", "/api/2.0/mlflow/experiments/search-datasets", search_datasets),
    # The reference server's route lacks a slash, and pages call it so.
    read("POST", "/api/2.0mlflow/experiments/search-datasets", search_datasets),
)
