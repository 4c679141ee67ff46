"""The gateway program on its own, over a tiny project whose models are trained and live."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flyball.workspace.workspace import Workspace
from tests.stories.system import Reply, find_free_ports, send, wait_for
from tests.stories.tiny import write_tiny


class GatewayProgram:
    """A running gateway; `stop` ends it.

    Args:
        folder: Where the project is written.
        endpoint: What its file declares beside the tables and the pipeline ``training``.
        pipelines: What is run before the gateway starts.
        settings: Lines of the project's settings.
    """

    def __init__(
        self, folder: Path, endpoint: str, *, pipelines: Sequence[str] = ("training",), settings: str = ""
    ) -> None:
        self.project = write_tiny(folder / "tiny", endpoint=endpoint, settings=settings)
        self.home = self.project / ".flyball"
        self.workspace = Workspace(self.project, self.home)
        for pipeline in pipelines:
            assert not self.workspace.run(pipeline, is_inline=True).error
        self.workspace.loop.tick()
        self.port = find_free_ports()
        command = [sys.executable, "-m", "flyball.server.gateway", str(self.project), str(self.home)]
        self.process = subprocess.Popen(
            [*command, "127.0.0.1", str(self.port - 1)], env=os.environ | {"FLYBALL_GRPC_PORT": "-1"}
        )
        wait_for(self._is_ready, "the gateway is ready", 60)

    def _is_ready(self) -> bool:
        try:
            return self.send("GET", "/health").status == 200
        except OSError:
            return False

    def send(self, method: str, path: str, content: Any = None) -> Reply:
        """Send a request over a connection of its own."""
        return send(self.port, method, path, content)

    def stop(self) -> None:
        """End it, as an orderly stop does."""
        self.process.terminate()
        self.process.wait(20)
