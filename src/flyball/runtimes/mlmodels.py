"""Models in the folders that MLflow's clients log, read without MLflow."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from flyball.core.errors import InvalidInputError
from flyball.domain.data.schemas import DType, Field, Schema
from flyball.domain.registry.runtimes import ModelNotLoadedError

if TYPE_CHECKING:
    import polars as pl

MLMODEL = "MLmodel"
# MLflow's names of types, and those of Flyball's schemas.
_TYPES: dict[str, DType] = {
    "boolean": "bool",
    "integer": "int",
    "long": "int",
    "float": "float",
    "double": "float",
    "string": "string",
    "datetime": "datetime",
}
_XGBOOST = ("XGBClassifier", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor")


class FlavorUnservedError(InvalidInputError):
    """A model that a client logged cannot be served by Flyball's endpoints."""

    code = "registry/flavor-unserved"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the model cannot be served: {reason}",
            hint="Log it with mlflow.sklearn.log_model(model, input_example=rows), from a frame with named columns.",
        )


class ClientModel(msgspec.Struct, frozen=True, kw_only=True):
    """What an ``MLmodel`` file says.

    Attributes:
        flavors: How it can be loaded, by library.
        inputs: The columns that it takes, in order.
        example: The file with rows to try it on; empty for none.
    """

    flavors: Mapping[str, Mapping[str, Any]]
    inputs: Schema
    example: str = ""


def read_mlmodel(folder: Path) -> ClientModel:
    """Return what a folder's ``MLmodel`` says.

    Raises:
        FlavorUnservedError: There is no such file, it cannot be read, or its columns have no names.
    """
    import yaml

    path = folder / MLMODEL
    if not path.is_file():
        raise FlavorUnservedError("there is no file MLmodel")
    try:
        found = yaml.safe_load(path.read_bytes())
        flavors = dict(found["flavors"])
        columns = json.loads((found.get("signature") or {}).get("inputs") or "[]")
        example = (found.get("saved_input_example_info") or {}).get("artifact_path") or ""
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FlavorUnservedError(f"its file MLmodel cannot be read: {error}") from error
    if not columns:
        raise FlavorUnservedError("it has no signature, so what it takes is not known")
    if any("name" not in column for column in columns):
        raise FlavorUnservedError("the columns that it takes have no names")
    unknown = [column["name"] for column in columns if column.get("type") not in _TYPES]
    if unknown:
        raise FlavorUnservedError(f"its columns {', '.join(map(str, unknown))} are of types that requests cannot have")
    return ClientModel(
        flavors=flavors,
        inputs=Schema(
            tuple(
                Field(name=column["name"], dtype=_TYPES[column["type"]], nullable=not column.get("required", True))
                for column in columns
            )
        ),
        example=example,
    )


def read_example(folder: Path, model: ClientModel) -> "pl.DataFrame | None":
    """Return the rows that a client logged with a model, typed as its signature says; None where there are none.

    Raises:
        FlavorUnservedError: They do not fit the signature.
    """
    import polars as pl

    if not model.example:
        return None
    try:
        content = json.loads(_inside(folder, model.example).read_bytes())
        if isinstance(content, dict) and "data" in content:
            columns = content.get("columns") or model.inputs.names
            frame = pl.DataFrame(content["data"], schema=columns, orient="row", infer_schema_length=None)
        else:
            frame = pl.DataFrame(content, infer_schema_length=None)
        return frame.select(pl.col(name).cast(dtype) for name, dtype in model.inputs.to_polars().items())
    except (OSError, ValueError, TypeError, pl.exceptions.PolarsError) as error:
        raise FlavorUnservedError(f"its input example does not fit its signature: {error}") from error


def load_model(folder: Path, model: ClientModel) -> Any:
    """Return the model itself. Only ever called on files whose digests are those that were registered.

    Raises:
        FlavorUnservedError: It is of no flavor that is served.
        ModelNotLoadedError: It cannot be loaded with the libraries that are installed here.
    """
    try:
        if "sklearn" in model.flavors:
            return _load_sklearn(folder, model.flavors["sklearn"])
        if "xgboost" in model.flavors:
            return _load_xgboost(folder, model.flavors["xgboost"])
    except InvalidInputError:
        raise
    except Exception as error:
        raise ModelNotLoadedError("the registered model", f"{type(error).__name__}: {error}") from error
    raise FlavorUnservedError(f"its flavors are {', '.join(sorted(model.flavors))}; sklearn and xgboost are served")


def _load_sklearn(folder: Path, flavor: Mapping[str, Any]) -> Any:
    path = _inside(folder, str(flavor.get("pickled_model", "")))
    form = flavor.get("serialization_format", "pickle")
    if form == "skops":
        try:
            from skops.io import get_untrusted_types, load
        except ModuleNotFoundError as error:
            raise FlavorUnservedError(
                "it is written by skops, which is not installed here: pip install 'flyball[mlflow]'"
            ) from error
        # The registry's record vouches for the file, as it does for a pickle.
        return load(path, trusted=get_untrusted_types(file=path))
    if form not in ("pickle", "cloudpickle"):
        raise FlavorUnservedError(f"it is written as {form}")
    return pickle.loads(path.read_bytes())


def _load_xgboost(folder: Path, flavor: Mapping[str, Any]) -> Any:
    import xgboost

    kind = str(flavor.get("model_class", "")).rpartition(".")[2]
    if kind not in _XGBOOST:
        raise FlavorUnservedError(f"it is a {kind or 'model'} of XGBoost; {', '.join(_XGBOOST)} are served")
    model = getattr(xgboost, kind)()
    model.load_model(_inside(folder, str(flavor.get("data", ""))))
    return model


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not name or not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise FlavorUnservedError(f"its file {name!r} is missing")
    return path
