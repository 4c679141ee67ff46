"""Imports a project's modules from their source, always.

Python takes byte code for current when the source's size and whole second of change are the same, so an edit within a
second of the last run could go unseen, and a stale result be kept under the new code.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from flyball.domain.data.sources import is_project_file


class FreshFinder(MetaPathFinder):
    """Finds the modules of one project."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `MetaPathFinder.find_spec`."""
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None or not isinstance(spec.loader, SourceFileLoader):
            return None
        if not is_project_file(Path(spec.origin), self.root):
            return None
        spec.loader = _SourceLoader(fullname, spec.origin)
        return spec


class _SourceLoader(SourceFileLoader):
    """Compiles the source without looking at byte code, and writes none."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def import_fresh(root: Path) -> None:
    """From now on, import the modules below a project's folder from their source; those of the last project no more."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, FreshFinder)]
    sys.meta_path.insert(0, FreshFinder(root))
