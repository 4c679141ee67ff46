"""Models as pickles that hold the project's own classes and functions by value, so that they load anywhere."""

import pickle
from pathlib import Path
from typing import Any

import cloudpickle

from flyball.core.pickling import project_by_value
from flyball.domain.registry.runtimes import ModelNotLoadedError, ModelNotSavedError

FILE_NAME = "model.pkl"


def dump_model(model: Any, folder: Path) -> None:
    """Write a model as ``model.pkl``.

    Raises:
        ModelNotSavedError: Something in it cannot be pickled.
    """
    with project_by_value():
        try:
            # The default protocol is the one that MLflow's loaders of any version read.
            data = cloudpickle.dumps(model, protocol=pickle.DEFAULT_PROTOCOL)
        except Exception as error:
            raise ModelNotSavedError(type(model).__name__, f"{type(error).__name__}: {error}") from error
    (folder / FILE_NAME).write_bytes(data)


def load_model(folder: Path) -> Any:
    """Read ``model.pkl``. Only ever called on packages whose digests the registry has checked.

    Raises:
        ModelNotLoadedError: A class of it cannot be found or restored here.
    """
    data = (folder / FILE_NAME).read_bytes()
    try:
        return pickle.loads(data)
    except Exception as error:
        raise ModelNotLoadedError(f"the model in {str(folder)!r}", f"{type(error).__name__}: {error}") from error
