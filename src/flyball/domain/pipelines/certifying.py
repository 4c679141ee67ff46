"""Writes the certificate of a successful run."""

import sys
from collections.abc import Iterable
from pathlib import Path

from flyball.core.boots import boot_id
from flyball.domain.data.sources import is_project_file
from flyball.domain.pipelines.certificates import (
    SETTINGS_FILE,
    VERSION,
    Certificate,
    list_modules,
    source_folders,
)
from flyball.domain.pipelines.fingerprints import FileDigests
from flyball.domain.pipelines.graph import Graph
from flyball.domain.pipelines.results import RunResult, StoredValue
from flyball.domain.pipelines.steps import Step
from flyball.domain.tracking.distributions import environment_digest

_OPERATIONS_DEPEND_ON = ["registry."]
"""Built-in operations look at the registry (champions, versions); an event of it means that they must look again."""


def certify(
    result: RunResult,
    *,
    root: Path,
    graph: Graph,
    files: FileDigests,
    paths: Iterable[str],
    absent: Iterable[str] | None,
    tables: Iterable[str],
    values: list[StoredValue],
    seq: int,
    started_ns: int,
    loaded_ns: int,
) -> Certificate | None:
    """Return the certificate of a run that has just succeeded.

    Args:
        result: The run; what its operations noted as ``source``, ``unless_event`` and ``valid_until_us`` counts.
        root: The project's folder.
        graph: The run's graph.
        files: Digests of the files as the run read them.
        paths: What parameters and constants named.
        absent: What they might name, where there is nothing; None if that is not known.
        tables: Files, folders and globs that tables are read from.
        values: What all steps returned.
        seq: The journal's last event.
        started_ns: When the run began.
        loaded_ns: When the project's source files were read at the earliest.

    Returns:
        None if a file changed meanwhile, so that nobody knows which state of it was used, or a table is a database's.
    """
    notes, tables = result.notes, list(tables)
    if any("://" in table for table in tables):  # only asking a database tells what it holds now
        return None
    sources, settings = project_sources(root), root / SETTINGS_FILE
    stamped = files.watch(sources, since_ns=loaded_ns)
    named = [path for value in values for path, _ in value.files]
    watched = files.watch([*sorted(paths), *tables, *map(str, notes.get("source", [])), *named], since_ns=started_ns)
    if absent is None or stamped is None or watched is None or _results_changed(values, files):
        return None
    has_operations = any(not isinstance(call.operation, Step) for call in graph.calls)
    blobs = dict.fromkeys(digest for value in values for digest in value.blobs)
    return Certificate(
        version=VERSION,
        run_id=result.run_id,
        project=str(root),
        environment=environment_digest(),
        boot=boot_id() if blobs else "",
        sources=[stamp for source in stamped for stamp in source.files],
        listings={folder: list_modules(folder) for folder in source_folders(sources)},
        watched=watched,
        absent=sorted({*absent, *([] if settings.exists() else [str(settings)])}),
        blobs=list(blobs),
        seq=seq,
        unless=[*(_OPERATIONS_DEPEND_ON if has_operations else []), *map(str, notes.get("unless_event", []))],
        valid_until_us=min(map(int, notes["valid_until_us"])) if notes.get("valid_until_us") else None,
        outputs=result.outputs,
        notes=notes,
    )


def project_sources(root: Path) -> list[str]:
    """Return the project's Python files that this process has loaded, and its settings file if there is one."""
    found = {str(root / SETTINGS_FILE)} if (root / SETTINGS_FILE).is_file() else set()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.endswith(".py") and is_project_file(Path(file), root):
            found.add(file)
    return sorted(found)


def _results_changed(values: list[StoredValue], files: FileDigests) -> bool:
    try:
        return any(files.digest(Path(path)) != digest for value in values for path, digest in value.files)
    except OSError:
        return True
