"""`flyball gc` on the command line."""

import json
from pathlib import Path

import pytest

from flyball.cli.main import run
from flyball.workspace.home import Home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    home = Home(tmp_path, tmp_path / ".flyball")
    with home.db.begin() as tx:
        run_id = home.client_runs.create(tx, 0).run.id
        home.client_runs.log(tx, run_id, params={"a": "b"})
        home.client_runs.delete(tx, run_id)
    home.blobs.put_bytes(b"unnamed")
    home.db.close()
    return tmp_path


def test_it_says_what_it_frees(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gc"]) == 0
    assert capsys.readouterr().out == "0 bytes freed\n"
    arguments = ["gc", "--older-than", "1us", "--grace", "1us"]
    assert run([*arguments, "--dry-run"]) == 0
    assert "1  deleted runs" in (told := capsys.readouterr().out)
    assert told.endswith("7 bytes would be freed\n")
    assert run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["runs"], found["storage"]["blobs"], found["freed_bytes"]) == (1, 1, 7)


def test_a_time_that_cannot_be_read_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gc", "--older-than", "soon"]) == 1
    assert "--older-than 'soon' is not a duration" in capsys.readouterr().err
