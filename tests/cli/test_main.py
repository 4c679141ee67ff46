"""What a user is told when something is in the way that no command expects."""

import tempfile
from pathlib import Path
from typing import Any

import pytest

from flyball.cli import main


def test_a_file_that_the_system_refuses_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / ("x" * 300)
    assert main.run(["runs", "list", "--home", str(home)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error[flyball/file-refused]") and str(home) in told and "File name too long" in told
    assert "bug" not in told


def test_a_disk_without_room_is_told_of_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_up(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "a.bin"))

    monkeypatch.setattr(main.cli, "main", fill_up)
    assert main.run(["status"]) == 1
    assert "error[flyball/disk-full]: no space is left to write 'a.bin'" in capsys.readouterr().err


def test_a_bug_is_told_wherever_its_report_can_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: Any, **__: Any) -> None:
        raise RuntimeError("stumbled")

    monkeypatch.setattr(main.cli, "main", stumble)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # What lies there under another's name is neither overwritten nor in the way.
    for _ in range(2):
        assert main.run(["status"]) == 1
    reports = list(tmp_path.glob("flyball-crash-*.txt"))
    assert len(reports) == 2 and all("RuntimeError: stumbled" in report.read_text() for report in reports)
    told = capsys.readouterr().err
    assert "Traceback" not in told and all(str(report) in told for report in reports)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
    assert main.run(["status"]) == 1
    assert "RuntimeError: stumbled" in capsys.readouterr().err


def test_every_command_lists_its_examples_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    for name in main.COMMANDS:
        assert main.run([name, "--help"]) == 0
        assert "\\b" not in capsys.readouterr().out, name
