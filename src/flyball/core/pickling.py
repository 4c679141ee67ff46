"""Pickles that hold what a project defines by value, so that a process without the project can load them."""

import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import cloudpickle

_INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_OURS = str(Path(__file__).parents[1])
_lock = threading.Lock()


@contextmanager
def project_by_value() -> Iterator[None]:
    """Let `cloudpickle` write what modules of the project define as code, in this block; one thread at a time."""
    with _lock:
        yield from _registered()


def _registered() -> Iterator[None]:
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
