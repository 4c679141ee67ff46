"""The commands about runs."""

from pathlib import Path

import pytest

import flyball as fb
from flyball.cli.main import run
from flyball.domain.tracking.records import Started, Tags
from flyball.domain.tracking.spool import Spool


def ask(tmp_path: Path, *arguments: str) -> int:
    return run(["runs", *arguments, "--home", str(tmp_path / "home")])


def leave(tmp_path: Path, run_id: str, address: str, *, is_whole: bool = True) -> None:
    """Leave a spool as a program does that was killed."""
    spool = Spool(tmp_path / "home" / "spool" / run_id, address)
    spool.append(Started("", "e", "user", "", 1) if is_whole else Tags({"a": "b"}))
    spool.close()


def test_runs_are_listed_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(tmp_path, "list") == 0
    assert "there is no run" in capsys.readouterr().out
    with fb.run("boosting", experiment="credit", params={"depth": 3}, home=tmp_path / "home") as first:
        fb.log_metric("auc", 0.912345678)
        fb.log_artifact("plan.txt", "deeper")
        fb.set_tag("stage", "trial")
    with pytest.raises(ValueError, match="no"), fb.run(experiment="other", home=tmp_path / "home"):
        raise ValueError("no")
    assert ask(tmp_path, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "other" in lines[1] and "boosting" in lines[2] and lines[2].endswith("auc 0.912346")
    assert ask(tmp_path, "list", "--experiment", "credit") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert ask(tmp_path, "list", "--experiment", "credti") == 1
    assert "no experiment is named 'credti'; did you mean 'credit'?" in capsys.readouterr().err
    assert ask(tmp_path, "show", first.id) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("boosting", "depth  3", "auc  0.912346", "stage  trial", "plan.txt  6 B"))


def test_a_run_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(tmp_path, "show", "nope") == 1
    assert "flyball runs list" in capsys.readouterr().err


def test_what_waits_and_what_was_refused_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave(tmp_path, "1", "http://127.0.0.1:9")
    leave(tmp_path, "2", "")
    leave(tmp_path, "3", "", is_whole=False)
    assert ask(tmp_path, "send") == 75
    told = capsys.readouterr().out
    assert "run 1 waits: the server at http://127.0.0.1:9 does not answer" in told
    assert "run 2 is kept" in told and ".3.refused" in told
    assert ask(tmp_path, "send", "--to", "nowhere") == 1
    assert "is not the address of a server" in capsys.readouterr().err
    assert ask(tmp_path, "send", "--to", "", "--again") == 0
    told = capsys.readouterr().out
    assert "run 1 is kept" in told and ".3.refused" in told


def test_what_clients_name_neither_breaks_the_table_nor_steers_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with fb.run(
        "two\nlines \x1b[31m", experiment="x" * 250, home=tmp_path / "home", params={"a\x1b[2J": "b\r\nc"}
    ) as made:
        made.set_tag("note", "first\nsecond\x07")
    assert ask(tmp_path, "list") == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 2 and "x" * 39 + "…" in shown and "x" * 41 not in shown
    assert ask(tmp_path, "show", made.id) == 0
    shown += capsys.readouterr().out
    assert "first second" in shown
    assert all(sign.isprintable() or sign == "\n" for sign in shown)
