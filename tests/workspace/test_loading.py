import sys
from pathlib import Path

import pytest

from flyball.core.errors import ConflictError, NotFoundError
from flyball.workspace.loading import ProjectFileError, import_copy, import_project
from flyball.workspace.project import Project


def write(folder: Path, project: str, **modules: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "project.py").write_text(project, encoding="utf-8")
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return folder


def test_a_copy_runs_apart_from_the_live_project(tmp_path: Path) -> None:
    live = write(tmp_path / "live", "from ratios import RATIO", ratios="RATIO = 2")
    copy = write(tmp_path / "copy", "from ratios import RATIO", ratios="RATIO = 1")
    module, files = import_project(live)
    assert import_copy(copy).RATIO == 1
    assert module.RATIO == 2 and sys.modules["project"] is module
    assert sys.modules["ratios"].RATIO == 2
    assert sorted(files) == ["project.py", "ratios.py"]
    assert not list(copy.rglob("__pycache__"))


def test_another_project_takes_the_place_of_the_first(tmp_path: Path) -> None:
    first = write(tmp_path / "first", "from ratios import RATIO", ratios="RATIO = 1")
    second = write(tmp_path / "second", "from ratios import RATIO", ratios="RATIO = 2")
    assert import_project(first)[0].RATIO == 1
    assert import_project(second)[0].RATIO == 2
    assert str(first.resolve()) not in sys.path


def test_an_edited_project_is_read_anew(tmp_path: Path) -> None:
    folder = write(tmp_path, "from ratios import RATIO", ratios="RATIO = 1")
    assert import_project(folder)[0].RATIO == 1
    write(folder, "from ratios import RATIO", ratios="RATIO = 3")
    assert import_project(folder)[0].RATIO == 3


@pytest.mark.parametrize(
    ("project", "modules", "place", "what"),
    [
        ("x = 1\n1 / 0\n", {}, "project.py line 2", "ZeroDivisionError"),
        ("import ratios\n", {"ratios": "\n\nint('x')\n"}, "ratios.py line 3", "ValueError"),
        ("def broken(:\n", {}, "project.py line 1", "invalid syntax"),
        ("import flyball as fb\nfb.Entity()\n", {}, "project.py line 2", "Entity"),
        ("raise SystemExit(3)\n", {}, "project.py line 1", "SystemExit"),
    ],
)
def test_what_raises_is_told_with_its_place(
    tmp_path: Path, project: str, modules: dict[str, str], place: str, what: str
) -> None:
    with pytest.raises(ProjectFileError) as error:
        import_project(write(tmp_path, project, **modules))
    assert place in error.value.message and what in error.value.message


def test_a_folder_without_a_project_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"there is no project\.py") as error:
        import_project(tmp_path)
    assert "flyball init" in error.value.hint


def test_declarations_take_the_names_of_their_variables(tmp_path: Path) -> None:
    source = """
import flyball as fb
shop = fb.Entity("shop_id")
parcels = again = fb.Table("parcels.csv", entity=shop, time="sent_at")
named = fb.Table("other.csv", name="visits")

@fb.features(parcels)
def habits(rows):
    return rows

@fb.pipeline
def training():
    pass

late = fb.Endpoint(model="lateness")
"""
    project = Project.load(write(tmp_path, source))
    assert list(project.tables) == ["parcels", "visits"]
    assert (list(project.views), list(project.pipelines), list(project.endpoints)) == (
        ["habits"],
        ["training"],
        ["late"],
    )
    assert project.endpoint_or_only(None).name == "late"
    with pytest.raises(NotFoundError, match="did you mean 'late'"):
        project.endpoint("lat")


def test_two_declarations_of_one_name_are_refused(tmp_path: Path) -> None:
    source = "import flyball as fb\na = fb.Endpoint(model='m', name='e')\nb = fb.Endpoint(model='n', name='e')\n"
    with pytest.raises(ConflictError, match="two Endpoint of the name 'e'"):
        Project.load(write(tmp_path, source))
