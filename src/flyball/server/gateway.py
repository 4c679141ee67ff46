"""The inference process: ``python -m flyball.server.gateway PROJECT HOME HOST PORT``; it listens at PORT + 1."""

import os
import signal
import sys
from pathlib import Path

from flyball.server.asgi import mount
from flyball.server.feast.app import FeastApp
from flyball.server.feast.app import serves as serves_feast
from flyball.server.inference.app import InferenceApp
from flyball.server.inference.metrics import GatewayMetrics
from flyball.server.inference.run import serve
from flyball.server.inference.telemetry import Telemetry
from flyball.server.inference.tracing import open_tracer
from flyball.server.lifeline import when_supervisor_ends
from flyball.server.logs import set_up_logging
from flyball.server.ports import find_grpc_port
from flyball.workspace.workspace import Workspace


def main(project: str, home: str, host: str, port: str) -> None:
    """Run the process until SIGTERM, or until its supervisor ends."""
    when_supervisor_ends(lambda: os.kill(os.getpid(), signal.SIGTERM))
    workspace = Workspace(Path(project), Path(home))
    set_up_logging(workspace.settings.log_format)
    workspace.fleet.refresh()
    telemetry = Telemetry(
        GatewayMetrics(workspace.home / "metrics"),
        open_tracer(workspace.settings.otlp_endpoint, workspace.clock),
        logs_requests=workspace.settings.log_requests,
    )
    grpc_port = find_grpc_port(int(port), workspace.settings.grpc_port)
    app = InferenceApp(
        workspace.data_plane,
        workspace.predictions.log,
        workspace.versions_on_demand,
        max_body_bytes=workspace.settings.max_body_bytes,
        grpc_address=f"{host}:{grpc_port}" if grpc_port else "",
        telemetry=telemetry,
        loads=workspace.loader,
    )
    feast = FeastApp(workspace, max_body_bytes=workspace.settings.max_body_bytes)
    serve(mount(feast, serves_feast, app), host, int(port) + 1, app.short_way)


if __name__ == "__main__":
    main(*sys.argv[1:5])
