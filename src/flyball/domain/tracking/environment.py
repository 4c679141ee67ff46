"""Where and with what a run is made: version control, installed distributions, machine, seeds."""

import os
import platform
import re
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Protocol

from flyball.domain.tracking.distributions import installed_distributions
from flyball.domain.tracking.runs import CodeFacts, RunFacts
from flyball.version import __version__

_DIFF_LIMIT_BYTES = 10_000_000
_UNTRACKED_SUFFIXES = {".py", ".toml"}
_GIT_TIMEOUT_S = 20


class BytesKeeper(Protocol):
    """Takes the bytes that facts name: a blob store, or a spool on the way to one."""

    def put_bytes(self, data: bytes) -> str:
        """Keep bytes and return their digest."""
        ...


class EnvironmentProbe:
    """Collects the facts of a run; git works in the background from the moment the probe is made.

    Args:
        root: The project's folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._status = _start_git(root, "status", "--porcelain=v2", "--branch", "-z", "--", ".")

    def facts(self, blobs: BytesKeeper) -> RunFacts:
        """Wait for git and keep the environment's pins and the uncommitted difference as blobs."""
        pins = "".join(f"{name}=={version}\n" for name, version in sorted(installed_distributions().items()))
        return RunFacts(
            code=self._code(blobs),
            environment=blobs.put_bytes(pins.encode()),
            python=platform.python_version(),
            flyball=__version__,
            machine=machine(),
            hash_seed=os.environ.get("PYTHONHASHSEED") or "random",
        )

    def close(self) -> None:
        """End git if nobody waited for it."""
        if self._status is not None and self._status.returncode is None:
            self._status.kill()
            self._status.communicate()

    def _code(self, blobs: BytesKeeper) -> CodeFacts | None:
        output = _finish_git(self._status)
        if output is None:
            return None
        commit, branch, changed, untracked = _read_status(output.decode(errors="replace"))
        diff = _diff(self._root, untracked) if changed or untracked else b""
        return CodeFacts(
            commit=commit,
            branch=branch,
            changed=(*changed, *untracked),
            diff=blobs.put_bytes(diff) if diff else "",
        )


@cache
def machine() -> dict[str, str | int]:
    """Return host, operating system, processor, cores and memory."""
    facts: dict[str, str | int] = {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "cores": os.cpu_count() or 1,
    }
    with suppress(OSError, ValueError):
        facts["memory_bytes"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError):
        match = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        if match:
            facts["processor"] = match[1].strip()
    return facts


def _start_git(root: Path, *arguments: str) -> "subprocess.Popen[bytes] | None":
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        return subprocess.Popen(
            ["git", "-C", str(root), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    except OSError:  # no git on this machine
        return None


def _finish_git(process: "subprocess.Popen[bytes] | None") -> bytes | None:
    if process is None:
        return None
    try:
        output, _ = process.communicate(timeout=_GIT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    return output if process.returncode == 0 else None


def _read_status(text: str) -> tuple[str, str, list[str], list[str]]:
    """Read ``git status --porcelain=v2 --branch -z``: commit, branch, changed paths, untracked paths."""
    commit, branch = "", ""
    changed: list[str] = []
    untracked: list[str] = []
    entries = iter(text.split("\0"))
    for entry in entries:
        if entry.startswith("# branch.oid "):
            commit = entry.removeprefix("# branch.oid ")
        elif entry.startswith("# branch.head "):
            branch = entry.removeprefix("# branch.head ").replace("(detached)", "")
        elif entry.startswith("1 "):
            changed.append(entry.split(" ", 8)[8])
        elif entry.startswith("2 "):
            changed.append(entry.split(" ", 9)[9])
            next(entries, None)  # a renamed path is followed by its old name
        elif entry.startswith("u "):
            changed.append(entry.split(" ", 10)[10])
        elif entry.startswith("? "):
            untracked.append(entry[2:])
    return commit.replace("(initial)", ""), branch, changed, untracked


def _diff(root: Path, untracked: list[str]) -> bytes:
    """Return the difference to the commit, with new source files written as additions."""
    parts = [_finish_git(_start_git(root, "diff", "HEAD", "--no-ext-diff", "--no-color", "--", ".")) or b""]
    top = (_finish_git(_start_git(root, "rev-parse", "--show-toplevel")) or b"").decode().strip()
    for name in untracked:
        path = Path(top) / name
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        for file in files:
            if file.suffix in _UNTRACKED_SUFFIXES and file.is_file():
                lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
                header = f"--- /dev/null\n+++ b/{file.relative_to(top)}\n@@ -0,0 +1,{len(lines)} @@\n"
                parts.append((header + "".join(f"+{line}\n" for line in lines)).encode())
    diff = b"".join(parts)
    if len(diff) > _DIFF_LIMIT_BYTES:
        return diff[:_DIFF_LIMIT_BYTES] + b"\n(cut: the difference is larger than 10 MB)\n"
    return diff
