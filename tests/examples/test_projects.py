"""The example projects are short, load without their data, and declare a whole system."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECTS = [
    *(ROOT / "examples" / name for name in ("credit", "bikes", "houses")),
    ROOT / "src" / "flyball" / "cli" / "template",
]
_LINES_MAX = 120
_COUNT = """
import sys
from pathlib import Path
from flyball.workspace.project import Project
project = Project.load(Path(sys.argv[1]))
endpoint = project.endpoint_or_only(None)
assert endpoint.retrain is project.pipeline("training")
assert endpoint.gates and endpoint.monitors and endpoint.retrain_on and endpoint.rollout
print(len(project.tables), len(project.steps))
"""


@pytest.mark.parametrize("folder", PROJECTS, ids=lambda folder: folder.name)
def test_a_project_is_one_short_file(folder: Path) -> None:
    assert len((folder / "project.py").read_text(encoding="utf-8").splitlines()) < _LINES_MAX


@pytest.mark.parametrize("folder", PROJECTS, ids=lambda folder: folder.name)
def test_a_project_declares_a_whole_system_without_touching_its_data(folder: Path) -> None:
    # A process of its own: one process works on one project.
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _COUNT, str(folder)],
        capture_output=True,
        text=True,
        env=os.environ | {"FLYBALL_EXAMPLES_DATA": "/nowhere", "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tables, steps = done.stdout.split()
    assert int(tables) >= 1
    assert int(steps) == 2
