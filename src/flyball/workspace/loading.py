"""Runs a project's file: the live one, or the copy that a model's package carries."""

import importlib
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from flyball.core.errors import FlyballError, InvalidInputError, NotFoundError
from flyball.core.settings import PROJECT_FILE
from flyball.workspace.fresh import import_fresh

MODULE = PROJECT_FILE.removesuffix(".py")
_lock = threading.RLock()


class ProjectFileError(InvalidInputError):
    """The project file, or a module it imports, raises while it is loaded."""

    code = "workspace/project-file"


def import_project(root: Path) -> tuple[ModuleType, dict[str, ModuleType]]:
    """Run ``project.py`` of a folder in this process and keep its modules importable.

    A project that was loaded before leaves: one process works on one project at a time.

    Returns:
        The project file's module, and all modules of the folder that it imported, by path relative to ``root``.

    Raises:
        NotFoundError: The folder has no project file.
        ProjectFileError: Something raised; the message names the file and line.
    """
    root = root.resolve()
    with _lock:
        _leave_other_projects(root)
        if str(root) not in sys.path:
            sys.path.insert(0, str(root))
        import_fresh(root)
        module = _run(root)
        return module, _modules_below(root)


def import_copy(root: Path) -> ModuleType:
    """Run the project file of a package's ``source`` folder apart from the live project and from other copies.

    Raises:
        NotFoundError: The folder has no project file.
        ProjectFileError: Something raised; the message names the file and line.
    """
    root = root.resolve()
    with _lock, _apart(root):
        return _run(root)


def _run(root: Path) -> ModuleType:
    file = root / PROJECT_FILE
    if not file.is_file():
        raise NotFoundError(
            f"there is no {PROJECT_FILE} in {str(root)!r}",
            hint="Go to a project's folder, name it with --project, or make a new one with: flyball init DIR",
        )
    importlib.invalidate_caches()
    try:
        return importlib.import_module(MODULE)
    except FlyballError as error:
        place = _place(error, root)
        raise ProjectFileError(f"{place}: {error.message}", hint=error.hint) from error
    except SyntaxError as error:
        name = Path(error.filename or PROJECT_FILE).name
        raise ProjectFileError(f"{name} line {error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        raise ProjectFileError(
            f"{_place(error, root)}: {type(error).__name__}: {error}",
            hint="The project file is run to read its declarations; it must load without an error.",
        ) from error


def _place(error: BaseException, root: Path) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(root)]
    if not frames:
        return PROJECT_FILE
    return f"{Path(frames[-1].filename).relative_to(root)} line {frames[-1].lineno}"


def _modules_below(root: Path) -> dict[str, ModuleType]:
    found = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not file or "site-packages" in file:
            continue
        path = Path(file)
        if path.is_relative_to(root) and path.suffix == ".py":
            found[str(path.relative_to(root))] = module
    return found


def _leave_other_projects(root: Path) -> None:
    loaded = sys.modules.get(MODULE)
    if loaded is not None and (file := getattr(loaded, "__file__", None)):
        other = Path(file).parent
        for module in _modules_below(other).values():
            sys.modules.pop(module.__name__, None)
        if other != root:
            sys.path[:] = [entry for entry in sys.path if entry != str(other)]


@contextmanager
def _apart(root: Path) -> Iterator[None]:
    """Hide the modules of the live project while a copy of it is imported, then put them back."""
    hidden = {}
    loaded = sys.modules.get(MODULE)
    if loaded is not None and (file := getattr(loaded, "__file__", None)):
        hidden = {module.__name__: module for module in _modules_below(Path(file).parent).values()}
    for name in hidden:
        sys.modules.pop(name, None)
    sys.path.insert(0, str(root))
    # Packages are read-only evidence: nothing may be written beside their source.
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes
        sys.path.remove(str(root))
        for module in _modules_below(root).values():
            sys.modules.pop(module.__name__, None)
        sys.modules.update(hidden)
