"""What a pipeline's run costs, whole process, beside other tools and plain Python; and whether each cache is right.

Prints one JSON line. Times are medians in seconds; ``best`` holds the shortest, for a machine that others use too.
Each tool gets a virtual environment of its own under ``.bench``, made on the first run; one that cannot be installed
is skipped and says why. Run with:
``python -m benchmarks.pipelines [TOOL]…`` (tools: flyball, plain, kedro, hamilton, dagster; all by default).
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
BENCH = Path(__file__).parents[1] / ".bench"
PACKAGES = {
    "kedro": ["kedro", "kedro-datasets", "polars", "scikit-learn"],
    "hamilton": ["sf-hamilton", "pandas", "polars", "scikit-learn"],
    "dagster": ["dagster", "polars", "scikit-learn"],
}
ROWS = 200_000
ROUNDS = {"unchanged": 7, "cold": 3, "chain": 3, "fan": 3, "handover": 2}
TIMEOUT_S = 200
ENOUGH_S = 20
"""A case that takes this long is not repeated; one that takes `TIMEOUT_S` is stopped and counts as that long."""
GOALS = {"unchanged": 0.3, "cold": 2.5, "chain": 0.5, "fan": 0.6, "handover": "plain + 1.5"}

EDITS: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "nothing": (lambda folder: None, set()),
    "step": (lambda folder: edit(folder / "work.py", "rows.height))}", "rows.height)) / 2}"), {"evaluate", "save"}),
    "helper": (lambda folder: edit(folder / "helpers.py", "part / whole", "whole / part"), {"evaluate", "save"}),
    "comment": (
        lambda folder: edit(folder / "work.py", "    rows = split[1]", "    # tested\n    rows = split[1]"),
        set(),
    ),
    "data": (
        lambda folder: write_rows(folder / "data/rows.csv", seed=2),
        {"load", "validate", "split", "train", "evaluate", "save"},
    ),
}
"""What is edited, and which steps must run because of it."""


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, (path, old)
    path.write_text(text.replace(old, new))


def write_rows(path: Path, seed: int) -> None:
    import numpy as np
    import polars as pl

    random = np.random.default_rng(seed)
    columns = {f"x{index}": random.normal(size=ROWS).round(4) for index in range(10)}
    columns["y"] = ((columns["x0"] + columns["x1"] + random.normal(size=ROWS)) > 0).astype(int)
    pl.DataFrame(columns).write_csv(path)


class Tool:
    """One way to run the cases."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def python(self) -> str:
        return str(BENCH / self.name / "bin/python") if self.name in PACKAGES else sys.executable

    def install(self) -> str:
        """Make the tool's environment; return why it cannot be, or nothing."""
        done = BENCH / self.name / "installed"
        if self.name not in PACKAGES or done.exists():
            return ""
        try:
            subprocess.run([sys.executable, "-m", "venv", str(BENCH / self.name)], check=True, capture_output=True)
            command = [self.python, "-m", "pip", "install", "--quiet", *PACKAGES[self.name]]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
        except (subprocess.SubprocessError, OSError) as error:
            return f"cannot be installed: {str(getattr(error, 'stderr', '') or error)[-200:]}"
        done.touch()
        return ""

    def prepare(self, folder: Path, case: str) -> None:
        """Put the case's files into a folder."""
        folder.mkdir(parents=True)
        for name in ("work.py", "helpers.py", "light.py"):
            shutil.copy(PEERS / name, folder)
        if self.name == "flyball":
            light = case in ("chain", "fan")
            shutil.copy(PEERS / ("light_project.py" if light else "project.py"), folder / "project.py")
        else:
            shutil.copy(PEERS / f"run_{self.name}.py", folder / "run.py")
        (folder / "data").mkdir()
        if case == "six":
            shutil.copy(BENCH / "rows.csv", folder / "data/rows.csv")

    def run(self, folder: Path, case: str) -> float:
        """Run a case as a whole process and return the seconds."""
        flyball = str(Path(sys.executable).with_name("flyball"))
        command = [flyball, "run", case] if self.name == "flyball" else [self.python, "run.py", case]
        environment = {**os.environ, "RAN_LOG": str(folder / "ran.log"), "PYTHONPATH": str(folder)}
        environment |= {"DAGSTER_DISABLE_TELEMETRY": "1", "KEDRO_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
        environment |= {"HAMILTON_TELEMETRY_ENABLED": "false"}
        started = time.perf_counter()
        subprocess.run(
            command, cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=TIMEOUT_S
        )
        return time.perf_counter() - started


def ran(folder: Path) -> set[str]:
    log = folder / "ran.log"
    names = set(log.read_text().split()) if log.exists() else set()
    log.unlink(missing_ok=True)
    return names


def measure(tool: Tool, scratch: Path) -> dict[str, object]:
    """Return the tool's times and whether its cache is right."""
    times: dict[str, list[float]] = {name: [] for name in ROUNDS}
    for number in range(ROUNDS["cold"]):
        folder = scratch / f"six{number}"
        tool.prepare(folder, "six")
        times["cold"].append(tool.run(folder, "six"))
    for _ in range(ROUNDS["unchanged"]):
        times["unchanged"].append(tool.run(folder, "six"))
    for case in ("chain", "fan", "handover"):
        for number in range(ROUNDS[case]):
            folder = scratch / f"{case}{number}"
            tool.prepare(folder, case)
            try:
                times[case].append(tool.run(folder, case))
            except subprocess.TimeoutExpired:
                times[case].append(float(TIMEOUT_S))
            shutil.rmtree(folder)
            if times[case][-1] > ENOUGH_S:
                break
    return {
        **{name: round(statistics.median(values), 3) for name, values in times.items()},
        "best": {name: round(min(values), 3) for name, values in times.items()},
        "cache": check_cache(tool, scratch),
    }


def check_cache(tool: Tool, scratch: Path) -> dict[str, str]:
    """Return for each edit: ``right``, ``stale: STEPS`` that had to run and did not, or ``needless: STEPS``."""
    verdicts = {}
    for name, (change, expected) in EDITS.items():
        folder = scratch / f"cache-{name}"
        tool.prepare(folder, "six")
        tool.run(folder, "six")
        ran(folder)
        change(folder)
        tool.run(folder, "six")
        did = ran(folder)
        stale, needless = sorted(expected - did), sorted(did - expected)
        verdicts[name] = (
            f"stale: {' '.join(stale)}" if stale else f"needless: {' '.join(needless)}" if needless else "right"
        )
        shutil.rmtree(folder)
    return verdicts


def main(names: list[str]) -> None:
    BENCH.mkdir(exist_ok=True)
    if not (BENCH / "rows.csv").exists():
        write_rows(BENCH / "rows.csv", seed=1)
    tools: dict[str, object] = {}
    for name in names or ["flyball", "plain", *PACKAGES]:
        tool = Tool(name)
        problem = tool.install()
        with tempfile.TemporaryDirectory(dir=BENCH) as scratch:
            try:
                tools[name] = {"skipped": problem} if problem else measure(tool, Path(scratch))
            except subprocess.CalledProcessError as error:
                tools[name] = {"skipped": f"fails: {error.stderr[-300:]}"}
    load = [round(value, 1) for value in os.getloadavg()]
    print(
        json.dumps(
            {
                "benchmark": "pipelines",
                "unit": "s",
                "goal": GOALS,
                "cores": os.cpu_count(),
                "load": load,
                "tools": tools,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
