"""Exactly the steps that must run do run: real projects, each run a process of its own."""

import os

import pytest

from .lab import Project

PROJECT = '''
"""A small project."""
from pathlib import Path
from flyball.domain.pipelines.steps import pipeline, step
from helpers import ratio

@step
def load(path: Path = Path("data/rows.csv")) -> list[float]:
    return [float(line) for line in path.read_text().split()]

@step
def train(rows: list[float], learning_rate: float = 0.1) -> float:
    return sum(rows) * learning_rate

@step
def evaluate(model: float, rows: list[float]) -> dict[str, float]:
    return {"auc": ratio(model, len(rows))}

@pipeline
def training():
    rows = load()
    model = train(rows)
    return evaluate(model, rows)
'''
HELPERS = """
LIMIT = 1.0

def ratio(a, b):
    return min(a / b, LIMIT)
"""
ALL = {"load", "train", "evaluate"}


@pytest.fixture
def trained(project: Project) -> Project:
    project.write("project.py", PROJECT)
    project.write("helpers.py", HELPERS)
    project.write("data/rows.csv", "1\n2\n3\n")
    first = project.run()
    assert first.ran == ALL
    assert set(first.reasons.values()) == {"never run"}
    return project


@pytest.fixture(params=[True, False], ids=["with certificate", "without"])
def unchanged(request: pytest.FixtureRequest) -> bool:
    """Both ways into a run must agree."""
    return bool(request.param)


def test_no_change_runs_nothing(trained: Project, unchanged: bool) -> None:
    again = trained.run(unchanged=unchanged)
    assert again.ran == set()
    assert all(reason.startswith("cached since run ") for reason in again.reasons.values())
    assert again.result["is_unchanged"] is unchanged


def test_a_changed_step_runs_with_what_its_result_changes(trained: Project, unchanged: bool) -> None:
    trained.write("project.py", PROJECT.replace("sum(rows)", "max(rows)"))
    again = trained.run(unchanged=unchanged)
    assert again.ran == {"train", "evaluate"}
    assert again.reasons["train"] == "code of train changed"
    assert again.reasons["evaluate"] == "input data changed: model (from train)"


def test_a_changed_step_with_the_same_result_stops_there(trained: Project, unchanged: bool) -> None:
    trained.write("project.py", PROJECT.replace("sum(rows)", "(sum(rows) + 0)"))
    assert trained.run(unchanged=unchanged).ran == {"train"}


def test_a_changed_helper_runs_the_steps_that_use_it(trained: Project, unchanged: bool) -> None:
    trained.write("helpers.py", HELPERS.replace("a / b", "b / a"))
    again = trained.run(unchanged=unchanged)
    assert again.ran == {"evaluate"}
    assert again.reasons["evaluate"] == "code of evaluate changed: helper ratio"


def test_a_changed_constant_runs_the_steps_that_use_it(trained: Project, unchanged: bool) -> None:
    trained.write("helpers.py", HELPERS.replace("1.0", "0.1"))
    again = trained.run(unchanged=unchanged)
    assert again.ran == {"evaluate"}
    assert again.reasons["evaluate"] == "code of evaluate changed: helper LIMIT"


def test_a_comment_runs_nothing(trained: Project, unchanged: bool) -> None:
    trained.write("project.py", PROJECT.replace("return sum", "# the sum\n    return sum").replace("small", "tiny"))
    trained.write("helpers.py", HELPERS.replace("return min", '"""Never above the limit."""\n    return min'))
    again = trained.run(unchanged=unchanged)
    assert again.ran == set()
    assert again.result["is_unchanged"] is False


def test_changed_data_behind_a_path_runs_what_depends_on_it(trained: Project, unchanged: bool) -> None:
    trained.write("data/rows.csv", "1\n2\n4\n")
    again = trained.run(unchanged=unchanged)
    assert again.ran == ALL
    assert again.reasons["load"] == "input data changed: file data/rows.csv"


def test_a_touched_file_runs_nothing(trained: Project, unchanged: bool) -> None:
    os.utime(trained.root / "data/rows.csv")
    os.utime(trained.root / "project.py")
    again = trained.run(unchanged=unchanged)
    assert again.ran == set()
    assert again.result["is_unchanged"] is unchanged


def test_a_changed_parameter_runs_its_step(trained: Project, unchanged: bool) -> None:
    again = trained.run(unchanged=unchanged, params={"train.learning_rate": "0.2"})
    assert again.ran == {"train", "evaluate"}
    assert again.reasons["train"] == "parameter learning_rate 0.1 → 0.2"
    assert trained.run(unchanged=unchanged).ran == set()
    assert trained.run(unchanged=unchanged, params={"train.learning_rate": "0.2"}).ran == set()


def test_another_file_with_the_same_content_runs_nothing(trained: Project) -> None:
    trained.write("data/copy.csv", "1\n2\n3\n")
    assert trained.run(params={"load.path": "data/copy.csv"}).ran == set()


def test_a_file_in_a_folder_that_a_parameter_names_counts(project: Project) -> None:
    project.write(
        "project.py",
        """
        import os
        from flyball.domain.pipelines.steps import pipeline, step

        @step
        def count(folder: str = "data/images") -> int:
            return len(os.listdir(folder))

        @pipeline
        def training():
            return count()
        """,
    )
    project.write("data/images/a.png", "a")
    assert project.run().ran == {"count"}
    assert project.run().result["is_unchanged"]
    project.write("data/images/b.png", "b")
    assert project.run().ran == {"count"}
    (project.root / "data/images/b.png").rename(project.root / "data/images/c.png")
    assert project.run().ran == {"count"}
    assert project.run().ran == set()


def test_a_file_that_a_step_wrote_is_part_of_its_result(project: Project) -> None:
    project.write(
        "project.py",
        """
        from pathlib import Path
        from flyball.domain.pipelines.steps import pipeline, step

        @step
        def export(rows: int = 3) -> Path:
            path = Path("out.txt")
            path.write_text("x" * rows)
            return path

        @step
        def measure(path: Path) -> int:
            return path.stat().st_size

        @pipeline
        def training():
            return measure(export())
        """,
    )
    assert project.run().ran == {"export", "measure"}
    assert project.run().ran == set()
    (project.root / "out.txt").write_text("something else")
    assert project.run().ran == {"export"}
    assert (project.root / "out.txt").read_text() == "xxx"
    (project.root / "out.txt").unlink()
    assert project.run().ran == {"export"}
    assert project.run(params={"export.rows": "4"}).ran == {"export", "measure"}


def test_a_lost_value_is_computed_again(trained: Project, unchanged: bool) -> None:
    trained.write(
        "project.py",
        PROJECT.replace(
            "for line in path.read_text().split()]",
            "for _ in range(3000)\n        for line in path.read_text().split()]",
        ),
    )
    assert trained.run(unchanged=unchanged).ran == ALL
    blobs = [path for path in (trained.home / "blobs").rglob("*") if path.is_file() and path.stat().st_size > 16_384]
    assert len(blobs) == 1
    blobs[0].unlink()
    again = trained.run(unchanged=unchanged)
    assert again.ran == {"load"}
    assert again.reasons["load"] == "its stored result is gone"


def test_random_steps_repeat_themselves(project: Project) -> None:
    text = """
        import random
        from flyball.domain.pipelines.steps import pipeline, step

        @step
        def draw(salt: int = 0) -> list[float]:
            import numpy as np
            return [random.random(), float(np.random.random())]

        @pipeline
        def training():
            return draw()
        """
    project.write("project.py", text)
    drawn = [project.run(workers=workers, unchanged=False).result["outputs"] for workers in (0, 1)]
    (project.home / "flyball.db").rename(project.home / "old.db")
    drawn.append(project.run(workers=0).result["outputs"])
    assert drawn[0] == drawn[1] == drawn[2]
    assert project.run(params={"draw.salt": "1"}).result["outputs"] != drawn[0]


SAVING = """
from pathlib import Path
from flyball.domain.pipelines.steps import pipeline, step

@step
def save(value: int = 1, path: Path = Path("out/model.txt")) -> int:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"model {value}")
    Path("note.txt").write_text(f"saved {value}")
    return value

@step
def read(value: int, path: str = "out/READ.txt") -> str:
    return Path("note.txt").read_text() if READS_NOTE else Path(path).read_text()

@pipeline
def training():
    return save()

@pipeline
def both():
    return read(save())
"""


def test_a_file_that_a_step_writes_itself_is_not_its_input(project: Project) -> None:
    project.write("project.py", SAVING)
    assert project.run().ran == {"save"}
    assert project.run().result["is_unchanged"]
    assert project.run(unchanged=False).ran == set()
    assert project.run(params={"save.value": "2"}).ran == {"save"}
    assert (project.root / "out/model.txt").read_text() == "model 2"


def test_a_result_file_from_before_does_not_make_a_step_run_twice(project: Project, unchanged: bool) -> None:
    project.write("project.py", SAVING)
    project.write("out/model.txt", "an old one")
    project.write("note.txt", "an old one")
    assert project.run().ran == {"save"}
    again = project.run(unchanged=unchanged)
    assert again.ran == set()
    assert again.result["is_unchanged"] is unchanged


@pytest.mark.parametrize("reads_note", [True, False], ids=["named in the code", "named by a parameter"])
def test_a_file_that_another_step_wrote_is_an_input(project: Project, reads_note: bool) -> None:
    text = SAVING.replace("READS_NOTE", str(reads_note)).replace("READ.txt", "model.txt")
    project.write("project.py", text)
    first = project.run("both")
    assert first.result["status"] == "succeeded", first.result
    assert project.run("both", unchanged=False).ran == set()
    changed = project.run("both", params={"save.value": "2"})
    assert changed.ran == {"save", "read"}
    assert project.run("both", params={"save.value": "2"}, unchanged=False).ran == set()
