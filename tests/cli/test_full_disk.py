"""A disk that fills up while a run writes: refused in words, nothing half-written, and the next run goes on."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import can_mount, look_into
from tests.stories.system import environment

COMMAND = [sys.executable, "-m", "flyball.cli.main", "run", "training", "--project"]


@pytest.mark.skipif(not can_mount(), reason="no mount namespaces here")
def test_a_package_that_does_not_fit_is_not_half_there(project: Path) -> None:
    packages = project / ".flyball" / "packages"
    packages.mkdir(parents=True)
    script = 'mount -t tmpfs -o size=16k tmpfs "$0" && "$@"; status=$?; ls -A "$0" >&2; exit $status'
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script, str(packages), *COMMAND, str(project)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=120,
        check=False,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 1, told
    assert "no space is left" in told
    assert "Traceback" not in told
    assert ".tmp" not in done.stderr, "the unfinished package was not removed"
    kept = look_into(project)
    assert (kept.versions, kept.packages, kept.unfinished, kept.journal_is_whole) == ((), (), (), True)
    again = subprocess.run(
        [*COMMAND, str(project)], capture_output=True, text=True, env=environment(), timeout=120, check=False
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "4 cached" in again.stdout
    assert look_into(project).versions == ("lateness/1",)


@pytest.mark.slow
@pytest.mark.parametrize("limit_bytes", [1_000, 40_000, 300_000])
def test_wherever_the_disk_fills_up_the_run_ends_in_words_and_can_go_on(project: Path, limit_bytes: int) -> None:
    def fill_up() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    done = subprocess.run(
        [*COMMAND, str(project)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=120,
        check=False,
        preexec_fn=fill_up,
    )
    told = done.stdout + done.stderr
    assert done.returncode in (1, 75), told
    assert "Traceback" not in told
    assert "flyball/internal" not in told
    again = subprocess.run(
        [*COMMAND, str(project)], capture_output=True, text=True, env=environment(), timeout=120, check=False
    )
    assert again.returncode == 0, again.stdout + again.stderr
    kept = look_into(project)
    assert (kept.versions, kept.unfinished, kept.journal_is_whole) == (("lateness/1",), (), True)
