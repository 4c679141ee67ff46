"""A home that is in use is exported, and lives on elsewhere."""

from pathlib import Path

import polars as pl
import pytest

from tests.stories.system import System, wait_for
from tests.stories.tiny import make_request, write_tiny

pytestmark = pytest.mark.slow


def test_a_home_in_use_is_exported_and_lives_on_elsewhere(tmp_path: Path) -> None:
    project = write_tiny(tmp_path / "tiny", settings="tick_seconds = 0.2\n")
    system = System(project)
    system.run("run", "training")
    system.up()
    try:
        ids = [system.predict(make_request(number)).body["prediction_id"] for number in range(30)]
        system.run("export", str(tmp_path / "out"))
        late = system.predict(make_request(99)).body["prediction_id"]
    finally:
        system.stop()
    assert system.try_run("export", str(tmp_path / "out")).returncode == 1
    run = pl.read_parquet(tmp_path / "out" / "tables" / "tracking_run" / "*.parquet")
    assert run["status"].to_list() == ["succeeded"]
    system.run("export", str(tmp_path / "out"), "--check")

    moved = System(project, home=tmp_path / "elsewhere")
    moved.run("import", "flyball", str(tmp_path / "out"))
    assert "the journal is whole" in moved.run("audit", "verify")
    assert "5 cached" in moved.run("run", "training")
    moved.up()
    try:
        assert moved.live() == "lateness/1"
        answer = moved.predict(make_request(1)).body
        assert answer["model_version"] == "lateness/1"
        wait_for(lambda: moved.ask("trace", ids[-1])["prediction"]["id"] == ids[-1], "an old prediction is traced")
        assert moved.try_run("trace", late).returncode == 1
    finally:
        moved.stop()
