"""The cache key of a step, and why a step has to run: pure functions of what the step depends on."""

from collections.abc import Mapping
from typing import Any

import msgspec

from flyball.core.hashing import digest_value, shorten

_FORMAT = 1
"""Raised when results kept by an older release must not be taken."""
_SHOWN = 3


class KeyParts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a step's result depends on.

    Attributes:
        code_digest: Identity of the code; empty for built-in operations, whose code is Flyball's.
        code: Digest of each function, class and constant that the step's code reaches, by name.
        own_code: The name in ``code`` of the step's own function.
        parameters: JSON text of each plain parameter.
        files: Digest of the content of each file or folder that a parameter names, by ``PARAMETER=PATH``.
        inputs: Content of each value that comes from another step, by ``PARAMETER``.
        sources: The steps that they come from, by ``PARAMETER``; shown to people, no part of the key.
        identity: What a built-in operation says that it depends on besides.
    """

    code_digest: str
    code: dict[str, str]
    own_code: str
    parameters: dict[str, str]
    files: dict[str, str]
    inputs: dict[str, str]
    sources: dict[str, str]
    identity: str = ""


class LastTime(msgspec.Struct, frozen=True, kw_only=True):
    """How a step of this name went in the pipeline's last run.

    Attributes:
        window: When it last really ran, in nanoseconds: files changed meanwhile are what it wrote.
    """

    run_id: str
    status: str
    parts: KeyParts
    window: tuple[int, int] | None = None


def compute_key(parts: KeyParts) -> str:
    """Return the digest under which a step's result is kept. File names and step names do not count."""
    files = sorted([entry.partition("=")[0], digest] for entry, digest in parts.files.items())
    return digest_value(
        [_FORMAT, parts.code_digest, sorted(parts.parameters.items()), files, parts.inputs, parts.identity]
    )


def compute_seed(key: str) -> int:
    """Return the 32-bit seed of the random generators of a step: the same work draws the same numbers."""
    return int(key[:8], 16)


def explain(step: str, now: KeyParts, last: LastTime | None) -> str:
    """Say why a step has to run: what differs from the last time it did.

    Args:
        step: The step's name.
        now: What it depends on now.
        last: The last time; None when there was none.
    """
    if last is None:
        return "never run"
    reasons = [
        *_code_reasons(step, now, last.parts),
        *_parameter_reasons(now.parameters, last.parts.parameters),
        *_input_reasons(now, last.parts),
    ]
    if now.identity != last.parts.identity:
        reasons.append("the data or declarations it reads changed")
    if reasons:
        return "; ".join(reasons)
    if last.status != "ran":
        return f"{last.status} in run {last.run_id}"
    return "its stored result is gone"


def _code_reasons(step: str, now: KeyParts, last: KeyParts) -> list[str]:
    if now.code_digest == last.code_digest:
        return []
    names = sorted(name for name in now.code.keys() | last.code.keys() if now.code.get(name) != last.code.get(name))
    helpers = [_short_name(name) for name in names if name not in (now.own_code, last.own_code)]
    if not helpers:
        return [f"code of {step} changed"]
    return [f"code of {step} changed: {_listed('helper', helpers)}"]


def _parameter_reasons(now: Mapping[str, str], last: Mapping[str, str]) -> list[str]:
    reasons = []
    for name in sorted(now.keys() | last.keys()):
        if name not in last:
            reasons.append(f"parameter {name} is new")
        elif name not in now:
            reasons.append(f"parameter {name} is gone")
        elif now[name] != last[name]:
            reasons.append(f"parameter {name} {_shown(last[name])} → {_shown(now[name])}")
    return reasons


def _input_reasons(now: KeyParts, last: KeyParts) -> list[str]:
    changed = [
        f"{name} (from {now.sources[name]})" if name in now.sources else name
        for name in sorted(now.inputs)
        if now.inputs[name] != last.inputs.get(name)
    ]
    then = {entry.partition("=")[0]: digest for entry, digest in last.files.items()}
    changed += [
        f"file {path}"
        for parameter, path, digest in ((*entry.partition("=")[::2], digest) for entry, digest in now.files.items())
        if digest != then.get(parameter)
    ]
    return [f"input data changed: {_listed('', changed)}"] if changed else []


def _listed(kind: str, names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    if not kind:
        return shown
    return f"{kind}{'s' if len(names) > 1 else ''} {shown}"


def _short_name(part: str) -> str:
    """Return the function's name of ``helpers.py::clean``; the file's name for a whole module."""
    path, _, name = part.partition("::")
    return name or path


def _shown(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:30]}… ({shorten(digest_value(text))})"


def as_json(value: Any) -> str:
    """Return the canonical JSON text of a plain value, so that equal values give equal text."""
    return msgspec.json.encode(value, order="deterministic").decode()
