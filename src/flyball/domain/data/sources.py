"""What a project's Python files say, without how they are written: comments, docstrings and formatting do not count."""

import ast
import sys
import sysconfig
from collections.abc import Collection, Iterator
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from types import CodeType
from typing import Any

_INSTALLED = {"site-packages", "dist-packages"}
_STDLIB = Path(sysconfig.get_path("stdlib"))
_Named = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_Documented = ast.Module | _Named


class SourceFile:
    """One parsed and compiled file of a project."""

    def __init__(self, path: Path, text: bytes) -> None:
        self.path = path
        self.tree = ast.parse(text, str(path))
        self.module_code: CodeType = compile(text, str(path), "exec", dont_inherit=True)
        self._nodes: dict[tuple[int, str], list[ast.AST]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, _Named):
                first_line = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                self._nodes.setdefault((first_line, node.name), []).append(node)
            elif isinstance(node, ast.Lambda):
                self._nodes.setdefault((node.lineno, "<lambda>"), []).append(node)
        self._codes: dict[str, list[CodeType]] = {}
        for code in nested_codes(self.module_code):
            self._codes.setdefault(code.co_qualname, []).append(code)

    def find_functions(self, live: CodeType) -> list[ast.AST]:
        """Return the nodes that a running function was made from; none if the file says something else by now."""
        for code in self._codes.get(live.co_qualname, ()):
            if is_same_code(code, live):
                return self._nodes.get((code.co_firstlineno, code.co_name), [])
        return []

    def find_classes(self, qualname: str) -> list[tuple[ast.AST, CodeType]]:
        """Return the nodes and bodies of the classes of that name; several if it is defined more than once."""
        return [
            (node, code)
            for code in self._codes.get(qualname, ())
            for node in self._nodes.get((code.co_firstlineno, code.co_name), [])
            if isinstance(node, ast.ClassDef)
        ]


def read_source(path: Path) -> SourceFile | None:
    """Parse a file, once for each of its states; None if it is gone or is no Python."""
    try:
        stat = path.stat()
        return _read_source(path, stat.st_mtime_ns, stat.st_size, stat.st_ino)
    except (OSError, SyntaxError, ValueError):
        return None


@lru_cache(maxsize=512)
def _read_source(path: Path, mtime_ns: int, size_bytes: int, inode: int) -> SourceFile:
    return SourceFile(path, path.read_bytes())


def normalise(node: ast.AST, *, without: Collection[ast.AST] = ()) -> str:
    """Write a syntax tree as text that is equal for code that differs only in comments, docstrings or layout."""
    skipped = set(map(id, without))
    parts: list[str] = []

    def write(value: Any) -> None:
        if isinstance(value, list):
            parts.append("[")
            for item in value:
                if id(item) not in skipped:
                    write(item)
            parts.append("]")
        elif isinstance(value, ast.Constant):
            parts.append(f"{type(value.value).__name__} {value.value!r},")
        elif isinstance(value, ast.AST):
            parts.append(type(value).__name__ + "(")
            for name, field in ast.iter_fields(value):
                if (
                    name == "body"
                    and isinstance(value, _Documented)
                    and ast.get_docstring(value, clean=False) is not None
                ):
                    # A body of nothing but a docstring does the same as one of nothing but "pass".
                    field = field[1:] or [ast.Pass()]
                write(field)
            parts.append(")")
        else:
            parts.append(f"{value!r},")

    write(node)
    return "".join(parts)


def _without_docstring(node: ast.AST, body: Any) -> Any:
    if isinstance(node, _Documented) and ast.get_docstring(node, clean=False) is not None:
        # A body of nothing but a docstring does the same as one of nothing but "pass".
        return body[1:] or [ast.Pass()]
    return body


def nested_codes(code: CodeType) -> Iterator[CodeType]:
    """Yield the code objects inside a code object, at any depth."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from nested_codes(constant)


def is_same_code(one: CodeType, other: CodeType) -> bool:
    """Tell whether two code objects do the same; where in a file they stand does not count."""
    if (one.co_code, one.co_names, one.co_varnames, one.co_freevars, len(one.co_consts)) != (
        other.co_code,
        other.co_names,
        other.co_varnames,
        other.co_freevars,
        len(other.co_consts),
    ):
        return False
    for mine, theirs in zip(one.co_consts, other.co_consts, strict=True):
        if isinstance(mine, CodeType) and isinstance(theirs, CodeType):
            if not is_same_code(mine, theirs):
                return False
        elif type(mine) is not type(theirs) or (repr(mine) != repr(theirs) and mine != theirs):
            return False
    return True


def describe_code(code: CodeType) -> list[Any]:
    """Describe compiled code whose source cannot be read, or says something else by now."""
    constants: list[Any] = []
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            constants.append(describe_code(constant))
        elif isinstance(constant, frozenset):
            constants.append(sorted(map(repr, constant)))
        else:
            constants.append(repr(constant))
    return [code.co_code.hex(), list(code.co_names), list(code.co_varnames), constants]


def is_project_file(path: Path, root: Path) -> bool:
    """Tell whether a file is the project's own: below its root, and not installed there in a virtual environment."""
    return path.is_relative_to(root) and not _INSTALLED.intersection(path.parts) and not path.is_relative_to(_STDLIB)


def is_installed_file(path: Path) -> bool:
    """Tell whether a file came with Python or with an installed distribution, so that a version identifies it."""
    return bool(_INSTALLED.intersection(path.parts)) or path.is_relative_to(_STDLIB)


@lru_cache(maxsize=1024)
def distribution_version(package: str) -> str | None:
    """Return the version that identifies the code of a top-level package; None if it was not installed as one."""
    if package in sys.stdlib_module_names or package in ("builtins", "__builtin__"):
        return f"python {sys.version_info.major}.{sys.version_info.minor}"
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        names = {found.metadata["Name"] for found in _distributions().get(package, ())}
        return ", ".join(sorted(f"{name} {metadata.version(name)}" for name in names)) or None


@lru_cache(maxsize=1)
def _distributions() -> dict[str, list[metadata.Distribution]]:
    """Return which distributions bring each top-level package.

    `metadata.packages_distributions` says the same and takes many times as long: it parses the metadata of each
    distribution and makes an object of each of its files.
    """
    found: dict[str, list[metadata.Distribution]] = {}
    for distribution in metadata.distributions():
        for package in (distribution.read_text("top_level.txt") or "").split() or _top_level(distribution):
            found.setdefault(package, []).append(distribution)
    return found


def _top_level(distribution: metadata.Distribution) -> set[str]:
    record = distribution.read_text("RECORD")
    if record is None:
        paths = [str(path) for path in distribution.files or ()]
    else:
        paths = [line.partition(",")[0].strip('"') for line in record.splitlines()]
    return {path.partition("/")[0].removesuffix(".py") for path in paths if path.endswith(".py")}
