"""The MLflow protocol: Flyball and ``mlflow server`` side by side, through the real client in its own environment.

Prints one JSON line: for each server its figures, and the limits of the same minutes. ``installed`` is mlflow as pip
gives it, ``tuned`` the same with uvloop and httptools and without its job runners. Parts can be run alone:
``python -m benchmarks.tracking [SERVER]… [CASE]…``; servers: flyball, flyball-postgresql, installed, tuned,
tuned-postgresql, empty (an ASGI application that answers every request at once: with nothing, or with what Flyball
answered before it in the same run, so that its figures are the client's own part); cases: log_metric,
log_batch, runs_one_by_one, runs_as_batch, points, eight, search, pandas, models, artifacts, server; ``limits`` measures
the databases themselves. Needs ``make peers``, and PostgreSQL for what is named so.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from tests.peers import ENVIRONMENTS
from tests.servers import free_port, postgresql

from benchmarks import tracking_answers

ROOT = Path(__file__).parents[1]
BENCH = ROOT / ".bench"
CLIENT = Path(__file__).parent / "peers" / "tracking_client.py"
FILL = Path(__file__).parent / "peers" / "tracking_fill.py"
SERVERS = ("flyball", "flyball-postgresql", "installed", "tuned", "tuned-postgresql", "empty")
CASES = (
    "server",
    "log_metric",
    "log_batch",
    "runs_one_by_one",
    "runs_as_batch",
    "points",
    "eight",
    "search",
    "pandas",
    "models",
    "artifacts",
)
NEEDS_FILLED = {"search", "pandas"}
RUNS = int(os.environ.get("BENCH_RUNS", "5000"))
START_S = 120.0


def python() -> str:
    return str(ENVIRONMENTS / "mlflow" / "bin" / "python")


def tuned_packages() -> Path:
    """Install what tunes mlflow beside its environment, not into it: the installed one must stay as it is."""
    target = BENCH / "mlflow-tuned"
    if not (target / "done").exists():
        if uv := shutil.which("uv"):
            command = [uv, "pip", "install", "--quiet", "--python", python(), "--target", str(target)]
        else:
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target)]
        subprocess.run([*command, "uvloop", "httptools", "psycopg2-binary"], check=True, capture_output=True)
        (target / "done").touch()
    return target


def command_of(name: str, port: int, folder: Path, database: str) -> tuple[list[str], dict[str, str]]:
    """Return how a server is started, and what its environment says."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
    if name == "empty":
        return [sys.executable, "-m", "benchmarks.peers.empty_app", str(port)], environment
    if name.startswith("flyball"):
        if database:
            environment["FLYBALL_DATABASE"] = database
        flyball = str(Path(sys.executable).with_name("flyball"))
        return [flyball, "up", "--port", str(port), "--project", str(folder)], environment
    if name.startswith("tuned"):
        environment |= {"PYTHONPATH": str(tuned_packages()), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    store = database or f"sqlite:///{folder}/mlflow.db"
    arguments = ["--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts")]
    return [python(), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), *arguments], environment


@contextmanager
def serving(name: str, folder: Path, database: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Start a server; yields its address and what its start and rest cost."""
    port = free_port()
    command, environment = command_of(name, port, folder, database)
    started = time.perf_counter()
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder if name != "empty" else ROOT,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
                    if answer.status == 200:
                        break
            except (OSError, urllib.error.URLError):
                pass
            if process.poll() is not None or time.perf_counter() - started > START_S:
                raise RuntimeError(f"{name} does not start: {(folder / f'{name}.log').read_text()[-800:]}")
            time.sleep(0.02)
        start_s = time.perf_counter() - started
        yield url, {"start_s": round(start_s, 2), "process": process}
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def at_rest(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Return how many processes a server has and what memory is theirs, shared pages counted in shares (PSS)."""
    time.sleep(3)
    root = psutil.Process(process.pid)
    family = [root, *root.children(recursive=True)]
    pss = 0
    for member in family:
        try:
            pss += member.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return {"processes": len(family), "pss_mb": round(pss / 1e6)}


def family_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Return the processes of a server."""
    root = psutil.Process(process.pid)
    return [member.pid for member in (root, *root.children(recursive=True))]


def cpu_ms(processes: list[int]) -> float:
    """Return how long processes have had a processor; the kernel counts it in nanoseconds for each thread."""
    used_ns = 0
    for process in processes:
        with suppress(FileNotFoundError, ProcessLookupError):  # under load, mlflow's workers are ended
            used_ns += sum(
                int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{process}/task").iterdir()
            )
    return used_ns / 1e6


def shares(figures: dict[str, Any], used_ms: float) -> dict[str, Any]:
    """Return the server's processor time, for a request where a case counts them: rates depend on what else runs."""
    if "requests" in figures:
        return {"server_cpu_ms": round(used_ms / figures["requests"], 3)}
    return {"server_cpu_ms_in_all": round(used_ms)}


def ask(case: str, url: str, processes: list[int], answers: Path | None = None) -> Any:
    """Let the real client do a case, which can read the server's processor time; ``answers`` is where to keep them."""
    environment = os.environ | {"BENCH_SERVER": " ".join(map(str, processes))}
    if answers is not None:
        environment["BENCH_ANSWERS"] = str(answers)
    done = subprocess.run(
        [python(), str(CLIENT), case, url],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=environment,
    )
    return json.loads(done.stdout) if done.returncode == 0 else {"failed": done.stderr[-600:]}


def read_page(url: str) -> float:
    """Return how long the server alone needs for the first page of 1,000 runs, in ms."""
    name = urllib.request.urlopen(f"{url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=filled")
    place = json.load(name)["experiment"]["experiment_id"]
    body = json.dumps({"experiment_ids": [place], "max_results": 1000}).encode()
    times = []
    for _ in range(5):
        request = urllib.request.Request(
            f"{url}/api/2.0/mlflow/runs/search", body, {"content-type": "application/json"}
        )
        started = time.perf_counter()
        with urllib.request.urlopen(request) as answer:
            answer.read()
        times.append((time.perf_counter() - started) * 1000)
    return round(sorted(times)[len(times) // 2], 1)


def measure(name: str, cases: list[str], database: str, answers: Path, *, records: bool) -> dict[str, Any]:
    """Return a server's figures; Flyball's answers are kept in a folder if the empty server is to give them again."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=BENCH) as scratch:
        folder = Path(scratch)
        if name != "empty" and NEEDS_FILLED & set(cases):
            figures["filled_s"] = fill(name, folder, database)
        with serving(name, folder, database) as (url, start):
            for case in cases:
                if case == "server" and name != "empty":
                    figures["server"] = {"start_s": start["start_s"], **at_rest(start["process"])}
                elif case != "server" and (name != "empty" or tracking_answers.replay(url, answers, case)):
                    processes = family_of(start["process"])
                    before_ms = cpu_ms(processes)
                    figures[case] = ask(case, url, processes)
                    if name == "empty":
                        figures[case].pop("lost", None)  # it keeps nothing
                    figures[case] |= shares(figures[case], cpu_ms(processes) - before_ms)
                if name == "flyball" and records and case in tracking_answers.RECORDED:
                    ask(case, url, [], tracking_answers.file_of(answers, case))
            if "search" in cases and name != "empty":
                figures["search"]["server_part_of_1000_ms"] = read_page(url)
    return figures


def fill(name: str, folder: Path, database: str, runs: int = RUNS) -> float:
    """Fill a store with runs, not through the client: that alone would take mlflow minutes."""
    started = time.perf_counter()
    kind = "flyball" if name.startswith("flyball") else "mlflow"
    interpreter = sys.executable if kind == "flyball" else python()
    environment = dict(os.environ)
    if name.startswith("tuned"):
        environment["PYTHONPATH"] = str(tuned_packages())
    if name.startswith("flyball") and database:
        environment["FLYBALL_DATABASE"] = database
    command = [interpreter, str(FILL), kind, str(folder), database, str(runs)]
    subprocess.run(command, check=True, capture_output=True, timeout=600, env=environment)
    return round(time.perf_counter() - started, 1)


def limits(server: Any) -> dict[str, Any]:
    """Return what the databases themselves can do."""
    rows = [("r1", "loss", step, 1_700_000_000_000 + step, step * 0.001) for step in range(100_000)]
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=BENCH) as scratch:
        connection = sqlite3.connect(Path(scratch) / "limit.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE point (run TEXT, name TEXT, step INTEGER, at INTEGER, value REAL)")
        started = time.perf_counter()
        for first in range(0, len(rows), 1_000):
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO point VALUES (?, ?, ?, ?, ?)", rows[first : first + 1_000])
            connection.execute("COMMIT")
        figures["sqlite_rows_per_s"] = round(len(rows) / (time.perf_counter() - started))
        started = time.perf_counter()
        for row in rows[:300]:
            connection.execute("BEGIN")
            connection.execute("INSERT INTO point VALUES (?, ?, ?, ?, ?)", row)
            connection.execute("COMMIT")
        figures["sqlite_commit_ms"] = round((time.perf_counter() - started) / 300 * 1000, 3)
        connection.close()
    if server is not None:
        figures |= limit_of_postgresql(server.new_database(), rows)
    return figures


def limit_of_postgresql(url: str, rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    try:
        import psycopg
    except ModuleNotFoundError:
        return {}
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE point (run TEXT, name TEXT, step BIGINT, at BIGINT, value DOUBLE PRECISION)")
        started = time.perf_counter()
        for first in range(0, len(rows), 1_000):
            with connection.cursor().copy("COPY point FROM STDIN") as copy:
                for row in rows[first : first + 1_000]:
                    copy.write_row(row)
            connection.commit()
        return {"postgresql_copy_rows_per_s": round(len(rows) / (time.perf_counter() - started))}


def main(names: list[str]) -> None:
    unknown = set(names) - {*SERVERS, *CASES, "limits"}
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; see python -m pydoc benchmarks.tracking")
    if not (ENVIRONMENTS / "mlflow" / "installed").exists():
        sys.exit("the MLflow client's environment is not there; make it with: make peers")
    BENCH.mkdir(exist_ok=True)
    servers = [name for name in SERVERS if name in names] or ([] if names == ["limits"] else list(SERVERS))
    cases = [case for case in CASES if case in names] or list(CASES)
    result: dict[str, Any] = {"benchmark": "tracking", "cores": os.cpu_count(), "runs": RUNS, "servers": {}}
    with ExitStack() as stack:
        answers = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=BENCH)))
        needs = any(name.endswith("postgresql") for name in servers) or not names or "limits" in names
        cluster = stack.enter_context(postgresql(settings=())) if needs and shutil.which("psql") else None
        if not names or "limits" in names:
            result["limits"] = limits(cluster)
        for name in servers:
            database = ""
            if name.endswith("postgresql"):
                if cluster is None:
                    continue
                database = cluster.new_database()
            if name == "tuned-postgresql":  # the driver that is installed for it; later SQLAlchemy prefers another
                database = database.replace("postgresql://", "postgresql+psycopg2://")
            try:
                result["servers"][name] = measure(name, cases, database, answers, records="empty" in servers)
            except (RuntimeError, subprocess.SubprocessError) as error:
                result["servers"][name] = {"failed": str(getattr(error, "stderr", None) or error)[-800:]}
    result["load"] = [round(value, 1) for value in os.getloadavg()]
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
