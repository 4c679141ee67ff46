"""Drives Flyball as a user does: commands, processes, HTTP."""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil

READY_WITHIN_S = 60.0
"""Generous: the machine that tests may have other things to do."""


class Reply(msgspec.Struct, frozen=True):
    """An answer over HTTP."""

    status: int
    body: Any


class System:
    """A project's folder, its commands, and the ``flyball up`` of it."""

    def __init__(self, project: Path, *, home: Path | None = None) -> None:
        self.project = project
        self.home = home or project / ".flyball"
        self.port = find_free_ports()
        self.process: subprocess.Popen[str] | None = None

    # commands

    def run(self, *arguments: str, status: int = 0) -> str:
        """Run a command to its end, check its exit status and return its standard output."""
        done = self.try_run(*arguments)
        assert done.returncode == status, f"{arguments} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def try_run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self._command(arguments), capture_output=True, text=True, timeout=120, check=False, env=environment()
        )

    def ask(self, *arguments: str) -> Any:
        """Run a command with ``--json`` and return what it printed."""
        return json.loads(self.run(*arguments, "--json"))

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own."""
        return subprocess.Popen(
            self._command(arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=environment(),
        )

    def _command(self, arguments: Sequence[str]) -> list[str]:
        place = ["--project", str(self.project), "--home", str(self.home)]
        return [sys.executable, "-m", "flyball.cli.main", *arguments, *place]

    # the running system

    def up(self) -> None:
        """Start ``flyball up`` and wait until everything is ready."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start ``flyball up``."""
        log = (self.project / "up.log").open("a")
        with log:
            self.process = subprocess.Popen(
                self._command(["up", "--port", str(self.port)]),
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                env=environment(),
            )

    def wait_until_ready(self) -> None:
        """Wait until ``GET /health`` answers 200."""
        assert self.process is not None
        wait_for(lambda: self._is_ready() or self._told_why_not(), "everything is ready", READY_WITHIN_S)

    def _is_ready(self) -> bool:
        try:
            return self.get("/health").status == 200
        except OSError:
            return False

    def _told_why_not(self) -> bool:
        assert self.process is None or self.process.poll() is None, self.told()
        return False

    def kill(self, target: str) -> str:
        """Kill a process as the kernel does, and return which it was; a killed supervisor is started again.

        Args:
            target: ``supervisor``, ``control``, ``loop``, ``gateway``, one of its workers (``gateway_worker``), or
                ``training``.
        """
        assert self.process is not None
        if target == "supervisor":
            self.process.kill()
            self.process.wait()
            self.launch()
            return target
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            for process in self.find_processes(target):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
                    return target
            time.sleep(0.02)
        return "nothing"

    def find_processes(self, target: str) -> list[psutil.Process]:
        """Return the system's running processes of a kind, wherever they were started."""
        words = "flyball.cli.main run " if target == "training" else f"flyball.server.{target} "
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                line = " ".join(process.cmdline())
                if words in line and str(self.home) in line:
                    found.append(process)
        return found

    def told(self) -> str:
        """Return what the processes wrote so far, for a failing test's message."""
        logs = [self.project / "up.log", *sorted((self.home / "logs").glob("*.log"))]
        return "\n".join(f"--- {log.name}\n{log.read_text()[-3_000:]}" for log in logs if log.exists())

    def stop(self) -> None:
        """End ``flyball up`` as Ctrl-C does; nothing of it may be left."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self.process = None

    # HTTP

    def get(self, path: str) -> Reply:
        """Ask the control plane."""
        return send(self.port, "GET", path)

    def post(self, path: str, body: Any) -> Reply:
        """Post to the control plane."""
        return send(self.port, "POST", path, body)

    def live(self) -> str | None:
        """Return the version that answers at the first endpoint."""
        found: str | None = self.get("/status").body["endpoints"][0]["live"]
        return found

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the journal's events of a kind."""
        found: list[dict[str, Any]] = self.get(f"/events?kind={kind}").body
        return found

    def predict(self, request: Any, endpoint: str = "parcel") -> Reply:
        """Ask the gateway for a prediction."""
        return send(self.port + 1, "POST", f"/predict/{endpoint}", request)


def send(port: int, method: str, path: str, body: Any = None, *, timeout_s: float = 20.0) -> Reply:
    """Send one request over a connection of its own; the answer's body is what its JSON says, or its text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        connection.request(method, path, content, {"content-type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        if (response.headers["content-type"] or "").startswith("text/"):
            return Reply(response.status, text.decode())
        return Reply(response.status, json.loads(text) if text else None)
    finally:
        connection.close()


def find_free_ports() -> int:
    """Return a port that is free together with the two above it, outside the range that clients are given."""
    while True:
        port = random.randrange(10_000, 30_000)
        with ExitStack() as stack:
            try:
                for number in (port, port + 1, port + 2):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", number))
            except OSError:
                continue
            return port


def wait_for(claim: Callable[[], Any], what: str, timeout_s: float = 30.0) -> Any:
    """Wait until a claim holds and return what it gave."""
    deadline = time.monotonic() + timeout_s
    while True:
        if found := claim():
            return found
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.05)


def environment() -> dict[str, str]:
    """Return an environment for commands: theirs write byte code, whatever ours does, and use one thread."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}
