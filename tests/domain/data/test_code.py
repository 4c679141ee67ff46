"""A digest changes exactly when what the function does can change."""

import importlib
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib import metadata
from itertools import count
from pathlib import Path

import pytest

from flyball.core.errors import InvalidInputError
from flyball.domain.data.code import code_digest, identify_code, project_files_of
from flyball.domain.data.sources import distribution_version

PROJECT = {
    "steps.py": '''
        """The steps."""
        import functools
        import math
        from pathlib import Path

        import cleaning
        from cleaning import clean
        from models import Forest

        RATE = 0.1
        LIMITS = {"low": 1, "high": [2, 3]}
        TAGS = {"b", "a", "c"}
        LOOKUP = "data/lookup.csv"
        HERE = Path(__file__).parent
        UNUSED = 1

        def logged(function):
            @functools.wraps(function)
            def wrapper(*args):
                """Call it."""
                return function(*args)
            return wrapper

        @logged
        def train(data, depth=3, *, seed=7):
            """Train.

            At length.
            """
            # a comment
            forest = Forest(depth)
            rows = clean(data)
            return forest.fit([row * RATE for row in rows], LIMITS, TAGS, LOOKUP, HERE, math.pi)

        def other(data):
            return data

        def through_module(data):
            return cleaning.deep(data)

        def imports_inside(data):
            from cleaning import late
            return late(data)

        def reads_a_file():
            return open("data/lookup.csv").read()

        def make(number):
            def add(data):
                return data + number
            return add

        add_one = make(1)
        add_two = make(2)

        def even(n):
            return n == 0 or odd(n - 1)

        def odd(n):
            return n != 0 and even(n - 1)

        twice = lambda x: x * 2
        partial = functools.partial(other, 3)
        cached = functools.lru_cache(clean)
    ''',
    "cleaning.py": '''
        """Cleaning."""
        from rounding import near

        FACTOR = 2

        def clean(data):
            """Clean."""
            return [near(row) for row in data]

        def deep(data):
            return near(data) * FACTOR

        def late(data):
            return data
    ''',
    "rounding.py": """
        DIGITS = 2

        def near(value):
            return round(value, DIGITS)
    """,
    "models.py": '''
        class Base:
            def fit(self, rows, *rest):
                return self.weigh(rows)

        class Forest(Base):
            """A forest."""
            trees = 10

            def __init__(self, depth):
                self.depth = depth

            def weigh(self, rows):
                """Weigh."""
                return rows

            @property
            def size(self):
                return self.trees
    ''',
    "data/lookup.csv": "a,b\n1,2\n",
}

_number = count()


class Project:
    """A folder of modules that can be changed and loaded again, as another process would."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in PROJECT.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(textwrap.dedent(text))

    def replace(self, file: str, old: str, new: str) -> None:
        path = self.root / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def function(self, name: str) -> Callable[..., object]:
        for module in ("steps", "cleaning", "rounding", "models"):
            sys.modules.pop(module, None)
        shutil.rmtree(self.root / "__pycache__", ignore_errors=True)
        importlib.invalidate_caches()
        found: Callable[..., object] = getattr(importlib.import_module("steps"), name)
        return found

    def digest(self, name: str = "train") -> str:
        return code_digest(self.function(name), self.root)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Project(tmp_path)
    for module in ("steps", "cleaning", "rounding", "models"):
        sys.modules.pop(module, None)


def test_the_same_code_has_the_same_digest(project: Project) -> None:
    assert project.digest() == project.digest()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param("steps.py", "row * RATE", "row / RATE", id="the function"),
        pytest.param("steps.py", "depth=3", "depth=4", id="a default argument"),
        pytest.param("steps.py", "seed=7", "seed=8", id="a keyword default"),
        pytest.param("steps.py", "return function(*args)", "return function(*args) or 1", id="a decorator"),
        pytest.param("steps.py", "@logged\n", "", id="a decorator removed"),
        pytest.param("cleaning.py", "near(row) for", "near(row + 1) for", id="a helper in another module"),
        pytest.param("rounding.py", "round(value", "round(-value", id="a helper of a helper"),
        pytest.param("rounding.py", "DIGITS = 2", "DIGITS = 3", id="a constant of a helper of a helper"),
        pytest.param("steps.py", "RATE = 0.1", "RATE = 0.2", id="a constant"),
        pytest.param("steps.py", "[2, 3]", "[2, 4]", id="a nested constant"),
        pytest.param("steps.py", '"c"}', '"d"}', id="a set"),
        pytest.param("models.py", "return rows", "return rows[:1]", id="a method"),
        pytest.param("models.py", "trees = 10", "trees = 11", id="a class attribute"),
        pytest.param("models.py", "self.weigh(rows)", "self.weigh(rows[1:])", id="a method of the base class"),
        pytest.param("models.py", "return self.trees", "return -self.trees", id="a property"),
        pytest.param("data/lookup.csv", "1,2", "1,3", id="a file that a constant names"),
    ],
)
def test_what_the_function_does_counts(project: Project, file: str, old: str, new: str) -> None:
    before = project.digest()
    project.replace(file, old, new)
    assert project.digest() != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param("steps.py", "# a comment", "# another\n    # one", id="a comment"),
        pytest.param("steps.py", "import math", "# first line\n\nimport math", id="lines before"),
        pytest.param("steps.py", "At length.", "At greater length, in data/lookup.csv.", id="a docstring"),
        pytest.param("steps.py", '"""Call it."""', "", id="a docstring removed"),
        pytest.param("models.py", '"""Weigh."""', '"""Weigh them."""', id="a docstring of a method"),
        pytest.param("cleaning.py", '"""Clean."""', '"""Clean it."""', id="a docstring of a helper"),
        pytest.param(
            "steps.py",
            "return forest.fit([row * RATE for row in rows], LIMITS, TAGS,",
            "return forest.fit(\n        [(row*RATE) for row in rows],\n        LIMITS, TAGS,",
            id="formatting",
        ),
        pytest.param(
            "cleaning.py",
            "return [near(row) for row in data]",
            "return [\n  near(row)\n  for row in data]",
            id="formatting of a helper",
        ),
        pytest.param("steps.py", '"low"', "'low'", id="quotes"),
        pytest.param("steps.py", "UNUSED = 1", "UNUSED = 2", id="a constant it does not use"),
        pytest.param("steps.py", "return data\n", "return data * 2\n", id="another function"),
        pytest.param("cleaning.py", "FACTOR = 2", "FACTOR = 3", id="a constant that only another function uses"),
        pytest.param("steps.py", '{"b", "a", "c"}', '{"c", "b", "a"}', id="order of a set"),
    ],
)
def test_what_cannot_change_the_result_does_not_count(project: Project, file: str, old: str, new: str) -> None:
    before = project.digest()
    project.replace(file, old, new)
    assert project.digest() == before


@pytest.mark.parametrize(
    ("name", "file", "old", "new"),
    [
        ("through_module", "cleaning.py", "FACTOR = 2", "FACTOR = 3"),
        ("through_module", "rounding.py", "round(value", "round(1 + value"),
        ("imports_inside", "cleaning.py", "def late(data):\n    return data", "def late(data):\n    return -data"),
        ("reads_a_file", "data/lookup.csv", "1,2", "2,1"),
        ("add_one", "steps.py", "data + number", "data - number"),
        ("add_one", "steps.py", "add_one = make(1)", "add_one = make(3)"),
        ("even", "steps.py", "n != 0 and", "n > 0 and"),
        ("twice", "steps.py", "x * 2", "x * 3"),
        ("partial", "steps.py", "functools.partial(other, 3)", "functools.partial(other, 4)"),
        ("partial", "steps.py", "return data\n", "return -data\n"),
        ("cached", "rounding.py", "DIGITS = 2", "DIGITS = 4"),
    ],
)
def test_ways_to_reach_code(project: Project, name: str, file: str, old: str, new: str) -> None:
    before = project.digest(name)
    project.replace(file, old, new)
    assert project.digest(name) != before


def test_a_function_reached_through_its_module_ignores_the_rest_of_that_module(project: Project) -> None:
    before = project.digest("through_module")
    project.replace("cleaning.py", "def late(data):\n    return data", "def late(data):\n    return -data")
    assert project.digest("through_module") == before


def test_closures_over_other_values_differ(project: Project) -> None:
    project.function("add_one")
    steps = sys.modules["steps"]
    assert code_digest(steps.add_one, project.root) != code_digest(steps.add_two, project.root)


def test_swapping_two_helpers_counts(project: Project) -> None:
    project.replace(
        "steps.py", "def other(data):\n    return data", "def other(data):\n    return even(data) and not odd(data)"
    )
    before = project.digest("other")
    project.replace("steps.py", "even(data) and not odd(data)", "odd(data) and not even(data)")
    assert project.digest("other") != before


def test_the_parts_say_what_changed(project: Project) -> None:
    before = identify_code(project.function("train"), project.root).parts
    project.replace("rounding.py", "DIGITS = 2", "DIGITS = 3")
    after = identify_code(project.function("train"), project.root).parts
    assert {name for name in before if before[name] != after[name]} == {"rounding.py::DIGITS"}


def test_the_files_are_those_of_the_project(project: Project) -> None:
    files = project_files_of(project.function("train"), project.root)
    names = {file.relative_to(project.root.resolve()).as_posix() for file in files}
    assert names == {"steps.py", "cleaning.py", "rounding.py", "models.py", "data/lookup.csv"}


def test_moving_the_project_does_not_count(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import steps; from pathlib import Path;"
        "from flyball.domain.data.code import code_digest; print(code_digest(steps.train, Path(sys.argv[1])))"
    )
    moved = tmp_path_factory.mktemp("moved") / "project"
    shutil.copytree(project.root, moved)
    digests = {
        subprocess.run([sys.executable, "-c", script, str(root)], check=True, capture_output=True, text=True).stdout
        for root in (project.root, moved, moved)
    }
    assert len(digests) == 1


def test_code_that_was_edited_after_it_was_loaded_is_not_taken_for_the_new_code(project: Project) -> None:
    loaded = project.function("other")
    before = code_digest(loaded, project.root)
    project.replace("steps.py", "return data\n", "return -data\n")
    stale = code_digest(loaded, project.root)
    assert stale not in {before, project.digest("other")}


def test_code_with_a_new_comment_after_it_was_loaded_is_the_same(project: Project) -> None:
    loaded = project.function("train")
    before = code_digest(loaded, project.root)
    project.replace("steps.py", "RATE = 0.1", "# said above\nRATE = 0.1")
    assert code_digest(loaded, project.root) == before


def test_a_packages_version_counts_and_its_code_does_not(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from flyball.domain.data import code

    project.replace("steps.py", "import math", "import math\nimport msgspec")
    project.replace(
        "steps.py", "def other(data):\n    return data", "def other(data):\n    return msgspec.json.encode(data)"
    )
    before = project.digest("other")
    assert project.digest("other") == before
    monkeypatch.setattr(code, "distribution_version", lambda package: f"{package} 99")
    assert project.digest("other") != before


def test_flyballs_own_decorators_are_declarations_and_do_not_count(project: Project) -> None:
    ours = (
        "def step(**options):\n    return lambda f: f\n"
        'step.__module__ = "flyball.domain.pipelines"\n\n@step(retries=1)\n'
    )
    before = project.digest("other")
    project.replace("steps.py", "def other(data)", ours + "def other(data)")
    assert project.digest("other") == before
    project.replace("steps.py", "flyball.domain.pipelines", "somewhere.else")
    assert project.digest("other") != before


def test_what_cannot_be_called_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="3 is not a function"):
        code_digest(3, tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(("package", "distribution"), [("sklearn", "scikit-learn"), ("_pytest", "pytest")])
def test_a_package_is_identified_by_the_distribution_that_brings_it(package: str, distribution: str) -> None:
    assert distribution_version(package) == f"{distribution} {metadata.version(distribution)}"


def test_a_package_that_no_distribution_brings_has_no_version() -> None:
    assert distribution_version("__main__") is None
