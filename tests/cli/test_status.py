"""What `flyball status` says of predictions that were answered a moment ago."""

import json
import subprocess
import sys
from pathlib import Path

from flyball.workspace.workspace import Workspace
from tests.cli.conftest import Command
from tests.stories.tiny import REQUEST


def test_predictions_that_are_not_counted_yet_are_told_of(trained: Path, flyball: Command) -> None:
    assert "its latest predictions" not in flyball(trained, "status").out
    # In a process of its own: what is still written to is not sealed.
    tool = Path(sys.executable).with_name("flyball")
    subprocess.run([tool, "predict", "parcel", "--json", json.dumps(REQUEST), "--project", trained], check=True)
    assert "parcel: its latest predictions are in the log" in flyball(trained, "status").out
    Workspace(trained, trained / ".flyball").predictions.seal()
    [found] = json.loads(flyball(trained, "status", "--json").out)["endpoints"]
    assert (found["predictions"], found["is_behind"]) == (1, False)
