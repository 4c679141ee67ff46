"""``flyball up`` where its processes cannot run."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.stories.system import environment, find_free_ports
from tests.stories.tiny import write_tiny

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("database = 'mysql://x'", "'mysql://x' is not a database Flyball can open"),
        ("online = 'foo://x'", "no online store is named 'foo'; there is lmdb"),
    ],
)
def test_what_keeps_a_process_from_starting_is_told_without_a_look_into_the_log(
    tmp_path: Path, setting: str, reason: str
) -> None:
    project = write_tiny(tmp_path / "tiny", settings=setting)
    command = [sys.executable, "-m", "flyball.cli.main", "up", "--project", str(project)]
    ended = subprocess.run(
        [*command, "--port", str(find_free_ports())],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert f"process ended 6 times right after its start (status 1): {reason}" in ended.stderr
    assert str(project / ".flyball" / "logs") in ended.stderr
