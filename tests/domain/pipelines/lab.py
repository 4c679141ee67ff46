"""What the tests of this room share: services over a temporary home, and projects run in processes of their own."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flyball.core.clock import SystemClock
from flyball.domain.journal.service import Journal
from flyball.domain.pipelines.engine import Engine
from flyball.domain.pipelines.results import RunResult, StepResult
from flyball.domain.pipelines.service import PipelineService
from flyball.domain.tracking.service import TrackingService
from flyball.engines.inline import InlineEngine
from flyball.storage.blobs import LocalBlobStore
from flyball.storage.db import Database

RUNNER = Path(__file__).parent / "runner.py"


class Lab:
    """Services over one home, running inline unless another engine is given."""

    def __init__(self, home: Path, *, engine: Engine | None = None, services: dict[type, Any] | None = None) -> None:
        self.home = home
        self.clock = SystemClock()
        self.db = Database(f"sqlite:///{home}/flyball.db")
        self.blobs = LocalBlobStore(home / "blobs")
        self.journal = Journal(self.db, self.clock)
        self.tracking = TrackingService(self.db, self.journal, self.clock, self.blobs)
        self.services = services or {}
        self.root = home / "project"
        self.root.mkdir(parents=True, exist_ok=True)
        self.pipelines = PipelineService(
            self.db,
            self.journal,
            self.clock,
            self.tracking,
            self.blobs,
            engine or InlineEngine(),
            self.services,
            self.root,
        )


def statuses(result: RunResult) -> dict[str, str]:
    return {step.name: step.status.value for step in result.steps}


def step_of(result: RunResult, name: str) -> StepResult:
    return next(step for step in result.steps if step.name == name)


@dataclass
class Outcome:
    """What a process said about its run."""

    result: dict[str, Any]
    modules: list[str]
    stderr: str

    @property
    def statuses(self) -> dict[str, str]:
        return {step["name"]: step["status"] for step in self.result["steps"]}

    @property
    def ran(self) -> set[str]:
        return {name for name, status in self.statuses.items() if status == "ran"}

    @property
    def reasons(self) -> dict[str, str]:
        return {step["name"]: step["reason"] for step in self.result["steps"]}

    def step(self, name: str) -> dict[str, Any]:
        return next(step for step in self.result["steps"] if step["name"] == name)


@dataclass
class Project:
    """A project folder whose runs are processes of their own, as with ``flyball run``."""

    root: Path
    home: Path
    tables: list[str] = field(default_factory=list)

    def write(self, name: str, text: str) -> Path:
        """Write a file as if it had lain there for a minute, so that nobody takes it for just changed."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def start(self, pipeline: str, **options: Any) -> "subprocess.Popen[str]":
        settings = {
            "root": str(self.root),
            "home": str(self.home),
            "pipeline": pipeline,
            "tables": self.tables,
            **options,
        }
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        return subprocess.Popen(
            [sys.executable, "-W", "error", str(RUNNER), json.dumps(settings)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(self, pipeline: str = "training", **options: Any) -> Outcome:
        process = self.start(pipeline, **options)
        return finish(process)


def finish(process: "subprocess.Popen[str]", timeout_s: float = 60) -> Outcome:
    stdout, stderr = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, stderr
    said = json.loads(stdout)
    return Outcome(said["result"], said["modules"], stderr)
