"""What serving needs of a project's file, kept so that the gateway need not run it.

A project's file imports the libraries that its models are trained with, which takes seconds and hundreds of megabytes.
To answer requests the gateway needs a few names of it, once models are served without those libraries. An outline holds
for as long as every file that was run is the same, in the same environment; where anything differs, the file is run.
"""

import ast
import threading
from pathlib import Path
from typing import Literal

import msgspec

from flyball.core.encoding import to_json
from flyball.core.files import write_bytes
from flyball.domain.pipelines.certificates import list_modules, source_folders
from flyball.domain.pipelines.certifying import project_sources
from flyball.domain.pipelines.fingerprints import LOADED_NS, FileDigests, Stamp, Watched, check_watched
from flyball.domain.predictions.masking import Masking
from flyball.domain.tracking.distributions import environment_digest
from flyball.workspace.project import Project

_FILE = "outline.json"
_VERSION = 1
# What a file's own code reads besides itself may change without it. A few harmless names are among these, too.
_FILES = {"open", "read_text", "read_bytes", "iterdir", "glob", "rglob", "listdir", "scandir", "walk", "load", "loads"}
_STATE = {"environ", "getenv", "argv", "exists", "is_file", "is_dir", "now", "today", "exec", "eval", "import_module"}
_READING = _FILES | _STATE
_lock = threading.Lock()


class EndpointOutline(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway needs to know of an endpoint.

    Attributes:
        model: Its model.
        on_violation: What becomes of a request that breaks an expectation of severity ``fail``.
        sensitive: What the log may not hold of its fields.
        is_plain: Whether a model answers, and nothing else has a part in it; otherwise the project's file must be run.
    """

    model: str
    on_violation: Literal["refuse", "quarantine"]
    sensitive: dict[str, Masking]
    is_plain: bool


class Outline(msgspec.Struct, frozen=True, kw_only=True):
    """A project's endpoints, by name, and what all of them may not log."""

    endpoints: dict[str, EndpointOutline]
    sensitive: dict[str, Masking]

    @classmethod
    def of(cls, project: Project) -> "Outline":
        """Take what is needed of a loaded project."""
        return cls(
            endpoints={
                name: EndpointOutline(
                    model=endpoint.model,
                    on_violation=endpoint.on_violation,
                    sensitive=dict(endpoint.sensitive),
                    is_plain=endpoint.graph is None and endpoint.prepare is None,
                )
                for name, endpoint in project.endpoints.items()
            },
            sensitive={name: "hash" for table in project.tables.values() for name in table.sensitive},
        )

    @property
    def is_plain(self) -> bool:
        """Whether every endpoint is."""
        return all(endpoint.is_plain for endpoint in self.endpoints.values())


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    project: str
    environment: str
    sources: list[Stamp]
    listings: dict[str, list[str]]
    outline: Outline


def find_outline(home: Path, project_dir: Path) -> Outline | None:
    """Return the outline of a project that is as it was when the outline was kept; None where its file must be run."""
    try:
        kept = msgspec.json.decode((home / _FILE).read_bytes(), type=_Kept)
        if kept.version != _VERSION or kept.project != str(project_dir.resolve()):
            return None
        if kept.environment != environment_digest():
            return None
        if any(list_modules(folder) != names for folder, names in kept.listings.items()):
            return None
        if any(check_watched(Watched(stamp.path, [stamp])) is None for stamp in kept.sources):
            return None
    except (OSError, msgspec.DecodeError):
        return None
    return kept.outline


def keep_outline(home: Path, project: Project, *, loaded_ns: int = LOADED_NS) -> None:
    """Keep a project's outline for the next process, unless its files read more than themselves.

    Args:
        home: Where it is kept.
        project: What the file declares.
        loaded_ns: When its files were read at the earliest, by `clock_ns`.
    """
    if any(map(_reads_more, project.files.values())):
        return
    with _lock:
        sources = project_sources(project.root)
        stamped = FileDigests().watch(sources, since_ns=loaded_ns)
        if stamped is None:  # a file changed since then: who knows which state of it was run
            return
        kept = _Kept(
            version=_VERSION,
            project=str(project.root),
            environment=environment_digest(),
            sources=[stamp for source in stamped for stamp in source.files],
            listings={folder: list_modules(folder) for folder in source_folders(sources)},
            outline=Outline.of(project),
        )
        write_bytes(home / _FILE, to_json(kept), durable=False)


def _reads_more(source: bytes) -> bool:
    """Tell whether code that runs when a file is imported may read files, the environment or the time."""
    functions: dict[str, list[ast.stmt]] = {}
    waiting: list[ast.AST] = [ast.parse(source)]
    called: set[str] = set()
    while waiting or called & functions.keys():
        if not waiting:
            # A function of the file that is called while the file is run.
            waiting += functions.pop((called & functions.keys()).pop())
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            # The body runs later, for somebody else; what is written around it runs now.
            functions.setdefault(node.name, []).extend(node.body)
            waiting += [*node.decorator_list, node.args]
            continue
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called.add(node.func.id)
        if isinstance(node, ast.Attribute) and node.attr in _READING:
            return True
        if isinstance(node, ast.Name) and node.id in _READING:
            return True
        if isinstance(node, ast.alias) and node.name.rpartition(".")[2] in _READING:
            return True
        waiting += ast.iter_child_nodes(node)
    return False
