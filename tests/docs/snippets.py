"""Reads the fenced blocks of the documentation and runs a page's, in order, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + list((ROOT / "docs").rglob("*.md")),
    key=lambda page: page.as_posix(),
)
_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_TIMEOUT_S = 300


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """One fenced block.

    Attributes:
        language: The info string's first word.
        options: The words after it: ``run``, ``fails`` or ``file=NAME``.
        text: What stands between the fences.
        line: Where it begins.
    """

    language: str
    options: tuple[str, ...]
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The name under which the block is written before anything else of it happens."""
        return next((option.removeprefix("file=") for option in self.options if option.startswith("file=")), None)


def read_blocks(page: Path) -> list[Block]:
    """Return a page's blocks in order."""
    source = page.read_text(encoding="utf-8")
    blocks = []
    for found in _FENCE.finditer(source):
        language, *options = found["info"].split() or [""]
        line = source.count("\n", 0, found.start()) + 1
        blocks.append(Block(language=language, options=tuple(options), text=found["text"], line=line))
    return blocks


def has_shell(page: Path) -> bool:
    """Tell whether a page runs commands, and so needs the whole system."""
    return any(block.language == "bash" and "run" in block.options for block in read_blocks(page))


def run_page(page: Path, folder: Path) -> None:
    """Run a page's blocks in ``folder``; Python blocks share their names, each shell block begins in the folder."""
    names: dict[str, object] = {"__name__": "snippet"}
    for block in read_blocks(page):
        place = f"{page.name}:{block.line}"
        if block.file is not None:
            (folder / block.file).write_text(block.text, encoding="utf-8")
            if block.language == "python":
                compile(block.text, place, "exec")
        elif block.language == "python":
            # Blank lines in front make a traceback name the page's own line.
            exec(compile("\n" * block.line + block.text, str(page), "exec", dont_inherit=True), names)
        elif block.language == "bash" and "run" in block.options:
            _run_shell(block, folder, place)


def _run_shell(block: Block, folder: Path, place: str) -> None:
    scripts = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    shall_fail = "fails" in block.options
    told = f"{place} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert (done.returncode == 1) if shall_fail else (done.returncode == 0), told
    assert "flyball/internal" not in done.stderr, told
