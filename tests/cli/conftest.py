"""Commands run in this process, over copies of one small trained project."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from flyball.cli.main import run
from flyball.workspace.workspace import Workspace
from tests.stories.tiny import write_tiny


class Said(msgspec.Struct, frozen=True):
    """What a command printed and how it ended."""

    status: int
    out: str
    err: str


Command = Callable[..., Said]


class Kept(msgspec.Struct, frozen=True):
    """Everything in a home that a refused command must leave as it was."""

    versions: tuple[str, ...]
    snapshots: tuple[str, ...]
    packages: tuple[str, ...]
    unfinished: tuple[str, ...]
    journal_is_whole: bool


def look_into(project: Path) -> Kept:
    workspace = Workspace(project, project / ".flyball")
    return Kept(
        versions=tuple(version.ref for version in workspace.registry.list_versions()),
        snapshots=tuple(sorted(snapshot.id for snapshot in workspace.data.list())),
        packages=tuple(sorted(path.name for path in (workspace.home / "packages").glob("*"))),
        unfinished=tuple(str(path) for path in workspace.home.rglob("*.tmp")),
        journal_is_whole=workspace.journal.verify().broken_at is None,
    )


def can_mount() -> bool:
    """Tell whether this machine lets a process have a small disk of its own."""
    tool = shutil.which("unshare")
    if tool is None:
        return False
    tried = subprocess.run([tool, "-Urm", "sh", "-c", "mount -t tmpfs -o size=16k tmpfs /mnt"], capture_output=True)
    return tried.returncode == 0


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose pipeline never ran."""
    return write_tiny(tmp_path / "tiny")


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tiny(tmp_path_factory.mktemp("trained") / "tiny")
    assert run(["run", "training", "--project", str(folder)]) == 0
    return folder


@pytest.fixture
def trained(_trained: Path, tmp_path: Path) -> Path:
    """A project with one version live."""
    return shutil.copytree(_trained, tmp_path / "tiny")


@pytest.fixture
def flyball(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command, on a project where it takes one."""

    def call(project: Path | None, *arguments: str) -> Said:
        capsys.readouterr()
        status = run([*arguments, *(["--project", str(project)] if project is not None else [])])
        told = capsys.readouterr()
        return Said(status, told.out, told.err)

    return call
