"""Stores that MLflow itself made come over whole: its client sees the same there and here."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.peers import peer_python
from tests.stories.system import System, find_free_ports, wait_for

pytestmark = pytest.mark.slow
SCRIPTS = Path(__file__).parent
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")} | {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


def client(script: str, uri: str, folder: Path) -> Any:
    """Run a script of the client and return the JSON that it prints."""
    done = subprocess.run(
        [peer_python("mlflow"), "-W", "ignore", str(SCRIPTS / f"{script}.py"), uri],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, f"{done.stdout[-2_000:]}\n{done.stderr[-4_000:]}"
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    project = tmp_path / "project"
    project.mkdir()
    (project / "project.py").write_text("import flyball as fb\n", encoding="utf-8")
    system = System(project)
    yield system
    system.stop()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database, with artifacts in a folder beside it."""
    folder = tmp_path_factory.mktemp("there")
    client("make_store", "sqlite:///mlflow.db", folder)
    return folder / "mlflow.db"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a server of MLflow in an empty folder."""
    folder, port = tmp_path / "served", find_free_ports()
    folder.mkdir()
    with (folder / "server.log").open("w") as log:
        command = [peer_python("mlflow"), "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
        command += ["--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "kept"]
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=ENVIRONMENT, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            with urlopen(f"{address}/health", timeout=5):
                return True
        except OSError:
            return False

    try:
        wait_for(answers, "the server of MLflow answers", 60)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_none(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_none(inner) for inner in value]
    return "" if value is None else value


def plain(told: dict[str, Any]) -> dict[str, Any]:
    """Return what a client saw, without what the client itself makes of the kind of store: empty texts and names."""
    found: dict[str, Any] = without_none(told)
    for _, _, _, _, aliases in found["models"].values():
        aliases.update((name, str(number)) for name, number in aliases.items())
    for version in found["versions"].values():
        version["info"][0] = str(version["info"][0])
        # A source runs:/RUN/model is downloaded into a folder of that name; the note of the download is the client's.
        files = {name.removeprefix("model/"): content for name, content in version["files"].items()}
        files.pop("registered_model_meta", None)
        version["files"] = files
    return found


def seen_here(system: System, folder: Path) -> dict[str, Any]:
    system.up()
    told: dict[str, Any] = client("tell_store", f"http://127.0.0.1:{system.port}", folder)
    return plain(told)


def test_a_file_of_sqlite_comes_over_whole(system: System, file: Path, tmp_path: Path) -> None:
    there = plain(client("tell_store", "sqlite:///mlflow.db", file.parent))
    report = system.ask("import", "mlflow", "--from", f"sqlite:///{file}")
    assert report["differences"] == [] and report["counts"]["runs"] == {"source": 7, "here": 7}
    assert seen_here(system, tmp_path) == there
    again = system.ask("import", "mlflow", "--from", str(file))
    assert again["counts"] == report["counts"] and again["differences"] == []


def test_a_server_s_store_comes_over_whole(system: System, served: str, tmp_path: Path) -> None:
    client("make_store", served, tmp_path)
    there = plain(client("tell_store", served, tmp_path))
    report = system.ask("import", "mlflow", "--from", served)
    assert report["differences"] == [] and report["counts"]["files"]["here"] == 8
    assert seen_here(system, tmp_path) == there
    # The same from the server's file, with the folder of its artifacts: there is nothing new.
    file = tmp_path / "served" / "mlflow.db"
    again = system.ask("import", "mlflow", "--from", str(file), "--artifacts", str(tmp_path / "served" / "kept"))
    assert again["counts"] == report["counts"] and again["differences"] == []


def test_an_import_that_is_killed_goes_on(system: System, file: Path) -> None:
    dice = random.Random(3)
    for _ in range(8):
        process = system.begin("import", "mlflow", "--from", str(file))
        time.sleep(dice.uniform(0.2, 0.7))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    report = system.ask("import", "mlflow", "--from", str(file))
    assert report["differences"] == []
    assert all(count["source"] == count["here"] for count in report["counts"].values()), report["counts"]
    assert "the journal is whole" in system.run("audit", "verify")
