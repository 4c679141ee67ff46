"""One process that answers inference; alone, or one of several behind one address."""

import os
import signal
import sys
from functools import partial
from pathlib import Path

from flyball.server.asgi import mount
from flyball.server.feast.app import FeastApp
from flyball.server.feast.app import serves as serves_feast
from flyball.server.inference.app import InferenceApp
from flyball.server.inference.metrics import GatewayMetrics
from flyball.server.inference.run import serve
from flyball.server.inference.telemetry import Telemetry
from flyball.server.inference.tracing import open_tracer
from flyball.server.inference.watchdog import Watchdog
from flyball.server.lifeline import when_supervisor_ends
from flyball.server.logs import set_up_logging
from flyball.server.memory import limit_memory
from flyball.server.ports import find_grpc_port, host_of_url
from flyball.workspace.outline import find_outline, keep_outline
from flyball.workspace.workspace import Workspace

# While a model is loaded in another thread, the event loop waits so long for the interpreter each time that it comes
# back from waiting for the system; Python's own 5 ms are longer than most answers take.
_SWITCH_S = 0.0005


def work(project: str, home: str, host: str, port: str, worker: str = "0", *, is_shared: bool = False) -> None:
    """Answer until SIGTERM, or until the supervisor ends.

    Args:
        project: The project's folder.
        home: The home's folder.
        host: Where to listen.
        port: The control plane's port; inference is at the one above it.
        worker: This process's name among those of the gateway.
        is_shared: Whether others listen at the same address.
    """
    when_supervisor_ends(lambda: os.kill(os.getpid(), signal.SIGTERM))
    sys.setswitchinterval(_SWITCH_S)
    outline = find_outline(Path(home), Path(project))
    workspace = Workspace(Path(project), Path(home), outline=outline)
    if outline is None:
        keep_outline(workspace.home, workspace.project)
    set_up_logging(workspace.settings.log_format)
    workspace.fleet.refresh()
    telemetry = Telemetry(
        GatewayMetrics(workspace.home / "metrics", worker),
        open_tracer(workspace.settings.otlp_endpoint, workspace.clock),
        logs_requests=workspace.settings.log_requests,
    )
    grpc_port = find_grpc_port(int(port), workspace.settings.grpc_port)
    cores = len(os.sched_getaffinity(0))
    app = InferenceApp(
        workspace.data_plane,
        workspace.predictions.log,
        workspace.versions_on_demand,
        max_body_bytes=workspace.settings.max_body_bytes,
        most_waiting=workspace.settings.gateway_waiting,
        timeout_s=workspace.settings.gateway_timeout_seconds,
        grpc_address=f"{host_of_url(host)}:{grpc_port}" if grpc_port else "",
        telemetry=telemetry,
        loads=workspace.loader,
        lookups=workspace.features.take_counts,
        watchdog=Watchdog(workspace.settings.gateway_stuck_seconds),
        shelf=workspace.shelf,
        has_batching=workspace.settings.gateway_batching,
        processors=max(1, cores // (workspace.settings.gateway_processes or cores)),
        when_ready=partial(limit_memory, workspace.settings.gateway_memory_mb),
    )
    feast = FeastApp(workspace, max_body_bytes=workspace.settings.max_body_bytes)
    serve(mount(feast, serves_feast, app), host, int(port) + 1, app.short_way, is_shared=is_shared)


if __name__ == "__main__":
    work(*sys.argv[1:6], is_shared=True)
