"""The identity of a function: what it and everything of the project that it uses say.

A digest made here changes if and only if something changed that can change what the function does: its own code, the
project's functions and classes it reaches in any module, the constants they use (and the content of a file which a
constant names), default arguments, the values it closes over, and the versions of the packages it calls.
"""

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from flyball.core.errors import InvalidInputError
from flyball.core.hashing import digest_file, digest_value
from flyball.domain.data.constants import describe_plain, is_plain, reduce_object
from flyball.domain.data.references import chains, dotted, find_place, global_chains, imports
from flyball.domain.data.sources import (
    describe_code,
    distribution_version,
    is_installed_file,
    is_project_file,
    nested_codes,
    normalise,
    read_source,
)

_MISSING = object()


class CodeIdentity(NamedTuple):
    """What a function is made of.

    Attributes:
        digest: The SHA-256 of all parts.
        parts: The digest of each function, class and constant, by a name such as ``helpers.py::clean``; comparing
            two of them says what changed.
        files: The project's source files, and the data files named by constants, that were read.
        absent: Paths that constants might name, where there is no file: if one appears, the identity changes.
    """

    digest: str
    parts: dict[str, str]
    files: tuple[Path, ...]
    absent: tuple[Path, ...] = ()


def code_digest(function: Callable[..., Any], root: Path) -> str:
    """Return the identity of a function of a project. See `identify_code`."""
    return identify_code(function, root).digest


def project_files_of(function: Callable[..., Any], root: Path) -> tuple[Path, ...]:
    """Return the project's files that a function depends on, sorted."""
    return identify_code(function, root).files


def identify_code(
    function: Callable[..., Any], root: Path, *, digest: Callable[[Path], str] = digest_file
) -> CodeIdentity:
    """Describe a function and all it uses.

    Args:
        function: A function, class, method or partial.
        root: The project's folder; code below it is followed, other code counts with its distribution's version.
        digest: Returns the digest of a data file that a constant names; an empty one means that it does not count.

    Raises:
        InvalidInputError: It cannot be called.
    """
    if not callable(function):
        raise InvalidInputError(f"{function!r} is not a function, so it has no code to identify")
    walk = _Walk(root.resolve(), digest)
    entry = walk.describe(function)
    return CodeIdentity(
        digest=digest_value([entry, walk.parts]),
        parts=walk.parts,
        files=tuple(sorted(walk.files)),
        absent=tuple(sorted(walk.absent)),
    )


class _Walk:
    """One traversal of what a function reaches; each function, class and module is described once."""

    def __init__(self, root: Path, digest: Callable[[Path], str]) -> None:
        self.root = root
        self.parts: dict[str, str] = {}
        self.files: set[Path] = set()
        self.absent: set[Path] = set()
        self._digest = digest
        self._labels: dict[int, str] = {}
        self._alive: list[Any] = []

    def describe(self, value: Any, *, names_files: bool = False) -> Any:
        """Return a JSON value that identifies ``value``; functions, classes and modules become labels of parts."""
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, ModuleType):
            return self._module(value)
        if isinstance(value, str | Path):
            content = self._file_content(str(value)) if names_files else None
            return [type(value).__name__, self._relative(str(value)), content]
        if is_plain(value):
            return describe_plain(value, lambda item: self.describe(item, names_files=names_files))
        return self._object(value)

    def _object(self, value: Any) -> Any:
        if id(value) in self._labels:
            return self._labels[id(value)]
        self._labels[id(value)] = "an object that contains itself"
        self._alive.append(value)
        self._labels[id(value)] = digest_value(self._parts_of(value))
        return self._labels[id(value)]

    def _parts_of(self, value: Any) -> list[Any]:
        kind = self.describe(type(value))
        inner = getattr(value, "__dict__", {}).get("__wrapped__")
        if inner is None and type(value).__module__.startswith("flyball."):
            inner = getattr(value, "function", None)
        if callable(inner):
            return [kind, self.describe(inner)]
        reduced = reduce_object(value)
        if isinstance(reduced, str):
            return [kind, reduced]
        return [kind, [self.describe(part) for part in reduced]]

    def _function(self, function: FunctionType) -> Any:
        path = Path(function.__code__.co_filename)
        if not self._follows(path):
            return self._external(function.__module__, function.__qualname__, path)
        label, is_new = self._label(function, path, function.__qualname__)
        if is_new:
            source = read_source(path)
            nodes = source.find_functions(function.__code__) if source else []
            cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
            captured = {name: _cell_value(cell) for name, cell in cells.items()}
            self._add(
                label,
                self._text(nodes, function.__code__, function.__globals__),
                {
                    "defaults": self.describe(list(function.__defaults__ or ())),
                    "keyword defaults": self.describe(dict(function.__kwdefaults__ or {})),
                    "captured": {name: self.describe(value) for name, value in captured.items()},
                    "wrapped": self.describe(getattr(function, "__wrapped__", None)),
                },
                self._references([function.__code__], function.__globals__, path),
            )
        return label

    def _class(self, class_: type) -> Any:
        module = sys.modules.get(class_.__module__)
        path = Path(getattr(module, "__file__", None) or "<unknown>")
        if class_.__module__ == "builtins" or not self._follows(path):
            return self._external(class_.__module__, class_.__qualname__, path)
        label, is_new = self._label(class_, path, class_.__qualname__)
        if is_new:
            source = read_source(path)
            found = source.find_classes(class_.__qualname__) if source else []
            methods = [item for item in map(_unwrap, vars(class_).values()) if isinstance(item, FunctionType)]
            own = [method for method in methods if Path(method.__code__.co_filename) == path]
            # Methods may be replaced, or the file changed, after the class was made: then only they tell the truth.
            stray = [method for method in own if not (source and source.find_functions(method.__code__))]
            names = vars(module) if module else {}
            self._add(
                label,
                [normalise(node) for node, _ in found],
                {
                    "bases": [self.describe(base) for base in class_.__bases__],
                    "methods": [self.describe(method) for method in (stray if found else methods)],
                    "captured": [
                        self.describe(_cell_value(cell))
                        for method in own
                        for name, cell in zip(method.__code__.co_freevars, method.__closure__ or (), strict=False)
                        if name != "__class__"
                    ],
                },
                self._references([code for _, code in found], names, path),
            )
        return label

    def _module(self, module: ModuleType) -> Any:
        path = Path(getattr(module, "__file__", None) or "<built-in>")
        if path.name == "<built-in>" or not self._follows(path):
            return self._external(module.__name__, "", path)
        label, is_new = self._label(module, path, "")
        source = read_source(path)
        if is_new and source:
            self._add(
                label,
                [normalise(source.tree)],
                {},
                self._references([source.module_code], vars(module), path),
            )
        return label

    def _resolve(self, chain: tuple[str, ...], names: dict[str, Any]) -> Any:
        """Return what a dotted name stands for, as far as it leads through the project's modules."""
        if not chain or chain[0] not in names or chain[0].startswith("__"):
            return _MISSING
        value = names[chain[0]]
        for attribute in chain[1:]:
            file = getattr(value, "__file__", None) if isinstance(value, ModuleType) else None
            if not file or not self._follows(Path(file)):
                break
            inner = getattr(value, attribute, _MISSING)
            if inner is _MISSING:
                break
            value = inner
        return value

    def _text(self, nodes: list[ast.AST], code: CodeType, names: dict[str, Any]) -> Any:
        """The normalised source of a function without Flyball's decorators, whose arguments are declarations."""
        texts = []
        for node in nodes:
            decorators = getattr(node, "decorator_list", [])
            ours = [item for item in decorators if _is_flyball(self._resolve(dotted(item), names))]
            followed = {
                ".".join(chain): self.describe(self._resolve(chain, names))
                for item in decorators
                if item not in ours
                for chain in chains(item)
                if self._resolve(chain, names) is not _MISSING
            }
            texts.append([normalise(node, without=ours), followed])
        return texts or describe_code(code)

    def _references(self, codes: list[CodeType], names: dict[str, Any], path: Path) -> dict[str, Any]:
        """What global names, imports and file names inside code stand for."""
        found: dict[str, Any] = {}
        everything = [inner for code in codes for inner in (code, *nested_codes(code))]
        for code in everything:
            for chain in global_chains(code):
                key = ".".join(chain)
                if key not in found and (value := self._resolve(chain, names)) is not _MISSING:
                    found[key] = self._global(chain, value, path)
            for name in imports(code, str(names.get("__package__") or "")):
                found[f"import {name}"] = self._import(name)
            for constant in code.co_consts:
                if isinstance(constant, str) and (content := self._file_content(constant)):
                    found[f"file {self._relative(constant)}"] = content
        return found

    def _global(self, chain: tuple[str, ...], value: Any, path: Path) -> Any:
        if isinstance(value, FunctionType | type | ModuleType):
            return self.describe(value)
        label = f"{self._relative(str(path))}::{'.'.join(chain)}"
        if label not in self.parts:
            self.parts[label] = ""
            self.parts[label] = digest_value(self.describe(value, names_files=True))
        return label

    def _import(self, name: str) -> Any:
        """Follow an import inside a function: the project's own modules are imported, others looked up."""
        module_name, _, attribute = name.partition(":")
        # Looking up a submodule imports its parents, which may be heavy and is only needed for the project's own.
        place = find_place(module_name.partition(".")[0])
        if place is None or not self._follows(place):
            return self._external(module_name, attribute, place)
        try:
            module = importlib.import_module(module_name)
        except ImportError:
            return ["missing", module_name]
        if attribute and attribute != "*":
            value = getattr(module, attribute, _MISSING)
            if value is not _MISSING:
                return self._global((attribute,), value, Path(module.__file__ or "<built-in>"))
            return self._import(f"{module_name}.{attribute}:")
        return self.describe(module)

    def _external(self, module: str | None, name: str, path: Path | None) -> Any:
        package = (module or "builtins").partition(".")[0]
        version = distribution_version(package)
        is_loose = version is None or (path is not None and path.is_file() and not is_installed_file(path))
        if is_loose and package != "flyball" and path is not None and path.is_file():
            version = self._digest(path)
        return ["external", module, name, version]

    def _label(self, value: Any, path: Path, qualname: str) -> tuple[str, bool]:
        if id(value) in self._labels:
            return self._labels[id(value)], False
        label = f"{self._relative(str(path))}::{qualname}"
        number = 1
        while label in self.parts:
            number += 1
            label = f"{self._relative(str(path))}::{qualname}#{number}"
        self._labels[id(value)] = label
        self._alive.append(value)
        self.parts[label] = ""
        if path.is_file():
            self.files.add(path.resolve())
        return label, True

    def _add(self, label: str, text: Any, surroundings: dict[str, Any], references: dict[str, Any]) -> None:
        self.parts[label] = digest_value([text, surroundings, references])

    def _follows(self, path: Path) -> bool:
        # Code typed at a prompt or in a notebook has no file; it is the user's own.
        return str(path).startswith("<") or is_project_file(path.resolve(), self.root)

    def _relative(self, text: str) -> str:
        path = Path(text)
        if path.is_absolute() and path.resolve().is_relative_to(self.root):
            return path.resolve().relative_to(self.root).as_posix()
        return text

    def _file_content(self, text: str) -> str | None:
        if not 0 < len(text) < 1024 or "\0" in text or "\n" in text or not ("." in text or "/" in text):
            return None
        path = self.root / text
        try:
            if path.suffix == ".py":
                return None
            if not path.is_file():
                self.absent.add(path)
                return None
            self.files.add(path.resolve())
            return self._digest(path) or None
        except OSError:
            return None


def _is_flyball(value: Any) -> bool:
    module = getattr(value, "__module__", None) or getattr(value, "__name__", "")
    return isinstance(module, str) and module.partition(".")[0] == "flyball"


def _unwrap(item: Any) -> Any:
    if isinstance(item, staticmethod | classmethod):
        return item.__func__
    return item.fget if isinstance(item, property) else item


def _cell_value(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the name is not bound yet
        return None
