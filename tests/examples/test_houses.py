"""What the README of the houses shows is what its commands say. Skips where the data is absent."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "houses"
DATA = Path(os.environ.get("FLYBALL_EXAMPLES_DATA", "")) / "kc_house_sales.csv"
VIEW = """@fb.features(sales)
def last_sale(rows: pl.LazyFrame) -> pl.LazyFrame:
    \"\"\"What the house was sold for.\"\"\"
    return rows.select("ID", "Date", last_price="Price")


@fb.step
def train"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not DATA.is_file(), reason="the houses' data is not here")]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLE, tmp_path / "houses"))


def run(project: Path, *arguments: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "flyball.cli.main", *arguments, "--project", str(project)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=project, timeout=120)
    assert done.returncode == status, done.stderr
    return done.stdout


def shown(told: str) -> list[str]:
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8").splitlines()
    return [line for line in told.splitlines() if line not in readme]


def test_two_months_are_compared(project: Path) -> None:
    told = run(project, "data", "diff", "sales", "2015-01", "2015-02", "--html", str(project / "diff.html"))
    assert "sales: 2015-01 (978 rows) against 2015-02 (1,250 rows)" in told
    assert "  Price 5.5%, mean 525,871 → 507,851" in told
    assert (project / "diff.html").read_text(encoding="utf-8").count("<svg") > 10


def test_the_strange_house_is_named(project: Path) -> None:
    assert not shown(run(project, "data", "check", "sales"))


def test_clean_features_raise_no_suspicion_and_the_price_itself_does(project: Path) -> None:
    assert not shown(run(project, "data", "leaks", "training"))
    file = project / "project.py"
    text = file.read_text(encoding="utf-8").replace("@fb.step\ndef train", VIEW, 1)
    file.write_text(text.replace("features=[proportions])", "features=[proportions, last_sale])"), encoding="utf-8")
    assert not shown(run(project, "data", "leaks", "training", status=1))
