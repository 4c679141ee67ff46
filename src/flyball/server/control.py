"""The control plane's process: ``python -m flyball.server.control PROJECT HOME HOST PORT``."""

import os
import signal
import sys
from pathlib import Path

import uvicorn

from flyball.server.asgi import mount
from flyball.server.lifeline import when_supervisor_ends
from flyball.server.mlflow.app import MlflowApp, serves
from flyball.server.rest.app import make_app
from flyball.server.spools import start_taking_up
from flyball.workspace.workspace import Workspace


def main(project: str, home: str, host: str, port: str) -> None:
    """Run the process until SIGTERM, or until its supervisor ends."""
    when_supervisor_ends(lambda: os.kill(os.getpid(), signal.SIGTERM))
    workspace = Workspace(Path(project), Path(home))
    start_taking_up(workspace)
    app = mount(MlflowApp(workspace), serves, make_app(workspace, inference=(host, int(port) + 1)))
    uvicorn.run(app, host=host, port=int(port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main(*sys.argv[1:5])
