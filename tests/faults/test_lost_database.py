"""The database goes away while a process of `flyball up` has to be started anew: all goes on when it is back."""

import time
from pathlib import Path

import pytest

from tests.servers import postgresql
from tests.stories.system import System, wait_for


@pytest.mark.slow
def test_a_process_that_finds_no_database_is_started_until_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgresql() as server:
        monkeypatch.setenv("FLYBALL_DATABASE", server.new_database())
        (tmp_path / "runs").mkdir()
        system = System(tmp_path / "runs")
        system.up()
        try:
            assert system.process is not None
            time.sleep(11)  # it has run well
            server.stop()
            system.kill("control")
            wait_for(lambda: system.told().count("starting it again") > 7, "it was tried many times", 120)
            assert system.process.poll() is None, system.told()
            server.start()
            system.wait_until_ready()
            made = system.post("/api/2.0/mlflow/runs/create", {"experiment_id": "0"})
            assert made.status == 200
        finally:
            system.stop()
