"""Random numbers that repeat: every step begins with generators seeded from its cache key."""

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_SEEDERS: dict[str, Callable[[Any, int], object]] = {
    "numpy.random": lambda module, seed: module.seed(seed),
    "polars": lambda module, seed: module.set_random_seed(seed),
    "torch": lambda module, seed: module.manual_seed(seed),
}
"""Global generators of libraries, by the module that holds them. None is imported for this."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python's generator and those of the libraries that are loaded, or get loaded in the block."""
    random.seed(seed)
    for name, seeder in _SEEDERS.items():
        if name in sys.modules:
            seeder(sys.modules[name], seed)
    finder = _SeedingFinder(seed)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _SeedingFinder(MetaPathFinder):
    """Seeds a library right after it was imported: one that a step imports itself would start at random."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `MetaPathFinder.find_spec`."""
        if fullname not in _SEEDERS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _SeedingLoader(spec.loader, _SEEDERS[fullname], self._seed)
        return spec


class _SeedingLoader(Loader):
    """Loads as another loader does, then seeds the module."""

    def __init__(self, loader: Loader, seeder: Callable[[Any, int], object], seed: int) -> None:
        self._loader = loader
        self._seeder = seeder
        self._seed = seed

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """See `Loader.create_module`."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """See `Loader.exec_module`."""
        # The module must not remember this loader: resource readers ask its real one.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._seeder(module, self._seed)
