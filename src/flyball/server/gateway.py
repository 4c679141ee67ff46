"""The inference process: ``python -m flyball.server.gateway PROJECT HOME HOST PORT``; it listens at PORT + 1."""

import logging
import os
import signal
import sys
from pathlib import Path

from flyball.server.inference.app import InferenceApp
from flyball.server.inference.run import serve
from flyball.server.lifeline import when_supervisor_ends
from flyball.workspace.workspace import Workspace


def main(project: str, home: str, host: str, port: str) -> None:
    """Run the process until SIGTERM, or until its supervisor ends."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    when_supervisor_ends(lambda: os.kill(os.getpid(), signal.SIGTERM))
    workspace = Workspace(Path(project), Path(home))
    workspace.fleet.refresh()
    app = InferenceApp(
        workspace.data_plane,
        workspace.predictions.log,
        workspace.versions_on_demand,
        max_body_bytes=workspace.settings.max_body_bytes,
        grpc_address=_grpc_address(host, int(port), workspace.settings.grpc_port),
    )
    serve(app, host, int(port) + 1)


def _grpc_address(host: str, port: int, grpc_port: int) -> str:
    return "" if grpc_port < 0 else f"{host}:{grpc_port or port + 2}"


if __name__ == "__main__":
    main(*sys.argv[1:5])
