"""Which names outside itself a piece of code reads."""

import ast
import dis
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

_GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_ATTRIBUTE = {"LOAD_ATTR", "LOAD_METHOD"}


def find_place(package: str) -> Path | None:
    """Return where a top-level module or package lies, without importing it."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    places = [spec.origin] if spec.has_location else list(spec.submodule_search_locations or ())
    return Path(places[0]) if places and places[0] else None


def global_chains(code: CodeType) -> Iterator[tuple[str, ...]]:
    """Yield the global names that code reads, each with the attributes read from it at once."""
    chain: list[str] = []
    for instruction in dis.get_instructions(code):
        if chain and instruction.opname in _ATTRIBUTE:
            chain.append(str(instruction.argval))
            continue
        if chain:
            yield tuple(chain)
            chain = []
        if instruction.opname in _GLOBAL:
            chain = [str(instruction.argval)]
    if chain:
        yield tuple(chain)


def imports(code: CodeType, package: str) -> Iterator[str]:
    """Yield what code imports while it runs, as ``module:`` or ``module:attribute``."""
    level, module = 0, ""
    recent: list[Any] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            level = next((value for value in reversed(recent) if isinstance(value, int)), 0)
            names = recent[-1] if recent else None
            module = str(instruction.argval)
            if level and package:
                module = importlib.util.resolve_name("." * level + module, package)
            if not names:
                yield f"{module}:"
        elif instruction.opname == "IMPORT_FROM":
            yield f"{module}:{instruction.argval}"
        elif instruction.opname in ("IMPORT_STAR", "CALL_INTRINSIC_1") and module:
            yield f"{module}:*"
            module = ""
        recent = [*recent[-1:], instruction.argval] if instruction.opname.startswith("LOAD_") else recent


def chains(node: ast.AST) -> Iterator[tuple[str, ...]]:
    """Yield the dotted names in an expression."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name | ast.Attribute) and (chain := dotted(inner)):
            yield chain


def dotted(node: ast.AST) -> tuple[str, ...]:
    """Return the names of ``a.b.c`` or of a call of it; nothing for any other expression."""
    if isinstance(node, ast.Call):
        return dotted(node.func)
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)):
        return (*before, node.attr)
    return ()
