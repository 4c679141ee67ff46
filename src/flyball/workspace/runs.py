"""Runs one pipeline with as little loaded as it needs.

Most steps are plain functions: for them the rooms of the registry, serving and the loop need not be imported. A
built-in operation that asks for a service brings them in, in the worker that runs it.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from flyball.core.clock import SystemClock
from flyball.core.settings import load_settings
from flyball.domain.journal.service import Journal
from flyball.domain.pipelines.fingerprints import LOADED_NS
from flyball.domain.pipelines.results import Progress, RunResult
from flyball.domain.pipelines.service import PipelineService
from flyball.domain.tracking.service import TrackingService
from flyball.engines.local import LocalEngine
from flyball.storage.blobs import LocalBlobStore
from flyball.storage.db import Database, database_url
from flyball.workspace.project import Project


def run_pipeline(
    project_dir: Path,
    home: Path,
    pipeline: str,
    params: Mapping[str, Any],
    *,
    cause: int | None = None,
    actor: str = "user",
    progress: Progress | None = None,
) -> RunResult:
    """Run a pipeline of a project in worker processes. See `PipelineService.run`.

    Raises:
        UnknownNameError: The project declares no such pipeline.
        InvalidInputError: The pipeline cannot be drawn, or a parameter is wrong.
    """
    root = project_dir.resolve()
    settings = load_settings(root)[0]
    project = Project.load(root)
    declared = project.pipeline(pipeline)
    db = Database(database_url(home, settings.database))
    clock, blobs = SystemClock(), LocalBlobStore(home / "blobs")
    journal = Journal(db, clock)
    service = PipelineService(
        db,
        journal,
        clock,
        TrackingService(db, journal, clock, blobs),
        blobs,
        LocalEngine(settings.workers or None),
        WorkspaceServices(project, home),
        root,
        tables=lambda: [table.place(root) for table in project.tables.values()],
        loaded_ns=LOADED_NS,
    )
    return service.run(declared, params, cause=cause, actor=actor, progress=progress)


class WorkspaceServices(Mapping[type, Any]):
    """The services of a workspace by type, wired when the first is asked for."""

    def __init__(self, project: Project, home: Path) -> None:
        self._project = project
        self._home = home

    @cached_property
    def _services(self) -> Mapping[type, Any]:
        from flyball.workspace.workspace import Workspace

        return Workspace(self._project.root, self._home, project=self._project).run_services()

    def __getitem__(self, key: type) -> Any:
        return self._services[key]

    def __iter__(self) -> Iterator[type]:
        return iter(self._services)

    def __len__(self) -> int:
        return len(self._services)
