"""Models as pickles that hold the project's own classes and functions by value, so that they load anywhere."""

import pickle
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from flyball.domain.registry.runtimes import ModelNotLoadedError, ModelNotSavedError

FILE_NAME = "model.pkl"
_INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_OURS = str(Path(__file__).parents[1])
_lock = threading.Lock()


def dump_model(model: Any, folder: Path) -> None:
    """Write a model as ``model.pkl``.

    Raises:
        ModelNotSavedError: Something in it cannot be pickled.
    """
    with _lock, _project_by_value():
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


@contextmanager
def _project_by_value() -> Iterator[None]:
    """Pickle what modules of the project define as code, since a server does not import the project to load a model."""
    known = cloudpickle.list_registry_pickle_by_value()
    modules = [module for module in list(sys.modules.values()) if _is_project(module) and module.__name__ not in known]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _is_project(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    name = getattr(module, "__name__", None)
    if not isinstance(file, str) or not isinstance(name, str) or sys.modules.get(name) is not module:
        return False
    return name != "__main__" and file.endswith(".py") and not file.startswith((*_INSTALLED, _OURS))
