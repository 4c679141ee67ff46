"""The inference process: ``python -m flyball.server.gateway PROJECT HOME HOST PORT``; it listens at PORT + 1."""

import logging
import os
import signal
import sys
from pathlib import Path

from flyball.server.inference.app import InferenceApp
from flyball.server.inference.run import serve
from flyball.server.lifeline import when_supervisor_ends
from flyball.server.ports import find_grpc_port
from flyball.workspace.workspace import Workspace


def main(project: str, home: str, host: str, port: str) -> None:
    """Run the process until SIGTERM, or until its supervisor ends."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    when_supervisor_ends(lambda: os.kill(os.getpid(), signal.SIGTERM))
    workspace = Workspace(Path(project), Path(home))
    workspace.fleet.refresh()
    grpc_port = find_grpc_port(int(port), workspace.settings.grpc_port)
    app = InferenceApp(
        workspace.data_plane,
        workspace.predictions.log,
        workspace.versions_on_demand,
        max_body_bytes=workspace.settings.max_body_bytes,
        grpc_address=f"{host}:{grpc_port}" if grpc_port else "",
    )
    serve(app, host, int(port) + 1)


if __name__ == "__main__":
    main(*sys.argv[1:5])
