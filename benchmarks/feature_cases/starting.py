"""What it takes to begin: the import, and loading a project of 20 views."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.feature_cases.online import run_feast

_VIEW = """
@fb.features(payments)
def view_{number}(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select("customer_id", "at", feature_{number}=pl.col("amount") * {number})

"""
_LOAD = """
import sys
from pathlib import Path
from flyball.workspace.project import Project
assert len(Project.load(Path(sys.argv[1])).views) == 20
"""


def start(folder: Path) -> dict[str, Any]:
    """Seconds of whole processes, the best of five."""
    project = folder / "project"
    project.mkdir()
    views = "".join(_VIEW.format(number=number) for number in range(20))
    (project / "project.py").write_text(
        "import flyball as fb\nimport polars as pl\n\n"
        'payments = fb.Table("rows.parquet", entity=fb.Entity("customer_id"), time="at")\n' + views
    )
    return {
        "python_s": _best([sys.executable, "-c", "pass"]),
        "import_s": _best([sys.executable, "-c", "import flyball"]),
        "load_20_views_s": _best([sys.executable, "-c", _LOAD, str(project)]),
        **run_feast(folder, "apply", ""),
    }


def _best(command: list[str], times: int = 5) -> float:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        subprocess.run(command, check=True)
        taken.append(time.perf_counter() - started)
    return round(min(taken), 3)
