"""The gateway answers without running the project's file for as long as nothing of it has changed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flyball.domain.pipelines.fingerprints import clock_ns
from flyball.workspace.outline import Outline, find_outline, keep_outline
from flyball.workspace.project import Project
from flyball.workspace.workspace import Workspace
from tests.stories.tiny import make_request, write_tiny

ENDPOINT = 'parcel = fb.Endpoint(model="lateness", retrain=training, sensitive={"parcel_id": "leave out"})'
ANSWER = """
import json, sys
from pathlib import Path
from flyball.domain.pipelines.fingerprints import clock_ns
from flyball.workspace.outline import find_outline
from flyball.workspace.workspace import Workspace

project, home = map(Path, sys.argv[1:3])
outline = find_outline(home, project)
workspace = Workspace(project, home, outline=outline)
answer = workspace.data_plane.predict_one("parcel", json.loads(sys.argv[3]))
print(answer.status, outline is not None, "project" in sys.modules, "sklearn" in sys.modules)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a live version, whose table's weights and whose endpoint's keys are sensitive."""
    folder = write_tiny(tmp_path_factory.mktemp("outlined") / "tiny", endpoint=ENDPOINT)
    file = folder / "project.py"
    text = file.read_text().replace('key="parcel_id")', 'key="parcel_id", sensitive=["weight_kg"])')
    file.write_text(text.replace("features=[shop_record, haste]", "features=[shop_record]"))
    workspace = Workspace(folder, folder / ".flyball")
    assert not workspace.run("training", is_inline=True).error
    workspace.deployer.take_up_first(workspace.endpoints)
    workspace.packages.bring_online("lateness/1")
    return folder


def keep(folder: Path, home: Path) -> Project:
    loaded_ns = clock_ns()
    project = Project.load(folder)
    keep_outline(home, project, loaded_ns=loaded_ns)
    return project


def answer(folder: Path) -> list[str]:
    command = [sys.executable, "-c", ANSWER, str(folder), str(folder / ".flyball"), json.dumps(make_request(1))]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()


def has_onnx(folder: Path) -> bool:
    """Whether the version is served without its own library."""
    return Workspace(folder, folder / ".flyball").registry.open("lateness/1").manifest.onnx.is_served


def test_the_second_process_answers_without_the_projects_file(folder: Path) -> None:
    keep(folder, folder / ".flyball")
    status, found, has_project, has_library = answer(folder)
    assert (status, found, has_project) == ("ok", "True", "False")
    assert has_library == "False" or not has_onnx(folder)


def test_what_is_sensitive_is_known_without_the_projects_file(folder: Path) -> None:
    project = keep(folder, folder / ".flyball")
    outline = find_outline(folder / ".flyball", folder)
    assert outline is not None
    assert outline == Outline.of(project)
    without = Workspace(folder, folder / ".flyball", outline=outline)
    run = Workspace(folder, folder / ".flyball")
    assert without.masks.names("parcel") == run.masks.names("parcel") == {"parcel_id", "weight_kg"}
    assert without.masks.unlogged("lateness") == run.masks.unlogged("lateness")


@pytest.mark.parametrize("change", ["another line", "another module", "another project"])
def test_after_any_change_the_file_is_run(tmp_path: Path, change: str) -> None:
    folder = write_tiny(tmp_path / "tiny")
    home = tmp_path / "home"
    keep(folder, home)
    assert find_outline(home, folder) is not None
    if change == "another line":
        with (folder / "project.py").open("a") as file:
            file.write("# changed\n")
    elif change == "another module":
        (folder / "polars.py").write_text("")
    else:
        folder = write_tiny(tmp_path / "other")
    assert find_outline(home, folder) is None


@pytest.mark.parametrize(
    "code",
    [
        "import os\nNAME = os.environ.get('NAME')",
        "from os import getenv\nNAME = getenv('NAME')",
        "from pathlib import Path\nREAD = Path.read_text",
        "def read():\n    return open('names.txt')\nif False:\n    NAMES = read()",
        "class Names:\n    import json\n    found = json.loads('{}')",
    ],
)
def test_a_file_that_reads_more_than_itself_is_run_every_time(tmp_path: Path, code: str) -> None:
    folder = write_tiny(tmp_path / "tiny")
    with (folder / "project.py").open("a") as file:
        file.write(code + "\n")
    keep(folder, tmp_path / "home")
    assert find_outline(tmp_path / "home", folder) is None


def test_what_functions_read_later_does_not_matter(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "tiny")
    with (folder / "project.py").open("a") as file:
        file.write("def later():\n    return open('names.txt')\nLATER = [later, lambda: open('names.txt')]\n")
    keep(folder, tmp_path / "home")
    assert find_outline(tmp_path / "home", folder) is not None


def test_an_outline_of_another_release_is_none(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "tiny")
    home = tmp_path / "home"
    home.mkdir()
    for text in ("", "{}", '{"version": 99}'):
        (home / "outline.json").write_text(text)
        assert find_outline(home, folder) is None


def test_endpoints_of_graphs_are_taken_from_the_file(tmp_path: Path) -> None:
    endpoint = 'parcel = fb.Endpoint(model="lateness", graph=fb.fallback("lateness", to=0.5), retrain=training)'
    folder = write_tiny(tmp_path / "tiny", endpoint=endpoint)
    home = tmp_path / "home"
    keep(folder, home)
    outline = find_outline(home, folder)
    assert outline is not None and not outline.is_plain
    workspace = Workspace(folder, home, outline=outline)
    (served,) = workspace._list_served()
    assert served.graph is not None
