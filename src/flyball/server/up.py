"""``flyball up``: one process that starts the others, restarts what dies, and ends them with itself."""

import ipaddress
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import msgspec

from flyball.core.clock import monotonic_s
from flyball.core.errors import BackendError, ConflictError, NotPermittedError
from flyball.core.files import holding_lock, write_bytes
from flyball.server.lifeline import HEARTBEAT
from flyball.workspace.trainers import LIFELINE

ROLES = ("control", "gateway", "loop")
"""What serves a project. Without one, ``control`` alone serves runs and versions of other programs."""
# A request's few rows gain nothing from threads inside the libraries; starting them costs more than the work.
_SETTINGS_OF_LIBRARIES = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
_STOP_GRACE_S = 10.0
_RESTART_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 2.0
_MOST_EARLY_ENDS = 5
_PORT_WAIT_S = 5.0
_POLL_S = 0.1
_LAST_BYTES = 4_000
_LONGEST_WORDS = 500
_GIVES_UP = "ERROR:    Application startup failed"
_KIND_OF_ERROR = re.compile(r"^(ERROR:\s+|[A-Za-z_.]+(Error|Exception): )")


class Child(msgspec.Struct):
    """One running process of the system."""

    role: str
    process: subprocess.Popen[bytes]
    started_at_s: float
    restarts: int = 0


class Up:
    """Runs the processes of one home until it is told to stop.

    Args:
        project: The project's folder.
        home: The home's folder; only one ``flyball up`` may use it at a time.
        host: A loopback address.
        port: The control plane's port; inference is at ``port + 1``, which belongs to ``further_ports``.
        tell: Receives one line for a person at a time.
        greeting: Lines to tell once it is certain that everything can start.
        further_ports: Ports besides the control plane's that must be free.
        roles: The processes to run.

    Raises:
        NotPermittedError: The host is reachable from elsewhere; there is no access control yet.
    """

    def __init__(
        self,
        project: Path,
        home: Path,
        host: str,
        port: int,
        tell: Callable[[str], None],
        greeting: Sequence[str] = (),
        further_ports: Sequence[int] = (),
        roles: Sequence[str] = ROLES,
    ) -> None:
        _refuse_outside_loopback(host)
        self._project = project
        self._home = home
        self._host = host
        self._port = port
        self._tell = tell
        self._greeting = greeting
        self._further_ports = further_ports
        self._roles = roles
        self._children: dict[str, Child] = {}
        # What ran well once will again, when what it lacks is back: such as its database.
        self._settled: set[str] = set()
        self._is_stopping = False

    def run(self) -> None:
        """Start everything and stay until SIGTERM or SIGINT.

        Raises:
            ConflictError: Another ``flyball up`` uses the home, or a port is taken.
            BackendError: A process ends again and again, and never ran for long.
        """
        lock = self._home / "up.lock"
        with holding_lock(
            lock,
            held_message=f"another flyball up runs on the home {str(self._home)!r}",
            hint="Stop that one first, or choose another home with --home.",
        ):
            for port in (self._port, *self._further_ports):
                _wait_for_port(self._host, port)
            (self._home / HEARTBEAT).unlink(missing_ok=True)
            write_bytes(self._home / "up.json", msgspec.json.encode(self._address()))
            for line in self._greeting:
                self._tell(line)
            reading_end, writing_end = os.pipe()
            os.set_inheritable(reading_end, True)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._stop)
            try:
                for role in self._roles:
                    self._start(role, reading_end)
                self._watch(reading_end)
            finally:
                os.close(writing_end)
                self._end_children()
                (self._home / "up.json").unlink(missing_ok=True)

    def _address(self) -> dict[str, object]:
        return {"pid": os.getpid(), "host": self._host, "port": self._port}

    def _start(self, role: str, lifeline: int, restarts: int = 0) -> None:
        logs = self._home / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        arguments = [str(self._project), str(self._home), self._host, str(self._port)]
        with (logs / f"{role}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"flyball.server.{role}", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=None if role == "loop" else log,
                stderr=log,
                pass_fds=(lifeline,),
                env=os.environ | {LIFELINE: str(lifeline)} | (_SETTINGS_OF_LIBRARIES if role == "gateway" else {}),
                # Ctrl-C reaches a whole process group; the children leave in order when told to instead.
                start_new_session=True,
            )
        self._children[role] = Child(role, process, monotonic_s(), restarts)

    def _watch(self, lifeline: int) -> None:
        while not self._is_stopping:
            for child in list(self._children.values()):
                if (status := child.process.poll()) is not None and not self._is_stopping:
                    self._restart(child, status, lifeline)
            time.sleep(_POLL_S)

    def _restart(self, child: Child, status: int, lifeline: int) -> None:
        lived_s = monotonic_s() - child.started_at_s
        if lived_s >= _STOP_GRACE_S:
            self._settled.add(child.role)
        restarts = child.restarts + 1 if lived_s < _STOP_GRACE_S else 1
        if restarts > _MOST_EARLY_ENDS and child.role not in self._settled:
            log = self._home / "logs" / f"{child.role}.log"
            reason = _last_words(log)
            told = f"(status {status})" + (f": {reason}" if reason else "")
            raise BackendError(
                f"the {child.role} process ended {restarts} times right after its start {told}",
                hint=f"More of it is in {log}",
            )
        self._tell(f"the {child.role} process ended (status {status}); starting it again")
        time.sleep(min(_RESTART_PAUSE_S * (restarts - 1), _LONGEST_PAUSE_S))
        self._start(child.role, lifeline, restarts)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._is_stopping = True

    def _end_children(self) -> None:
        for child in self._children.values():
            if child.process.poll() is None:
                child.process.terminate()
        deadline = monotonic_s() + _STOP_GRACE_S
        for child in self._children.values():
            try:
                child.process.wait(timeout=max(0.1, deadline - monotonic_s()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()


def _last_words(log: Path) -> str:
    """Return the line of a log that says why its process ended; empty where there is none."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_BYTES))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    # A traceback ends with the error, which may have a hint below; the web server says last that it gives up.
    words = [line.strip() for line in lines if line.strip() and not line.startswith(("hint: ", _GIVES_UP))]
    return _KIND_OF_ERROR.sub("", words[-1])[:_LONGEST_WORDS] if words else ""


def _refuse_outside_loopback(host: str) -> None:
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise NotPermittedError(
            f"flyball up would listen on {host!r}, which other machines may reach, and there is no access control yet",
            hint="Listen on 127.0.0.1 and put a proxy that checks who asks in front of it.",
        )


def _wait_for_port(host: str, port: int) -> None:
    """Wait until a port is free: the children of a killed supervisor need a moment to leave."""
    deadline = monotonic_s() + _PORT_WAIT_S
    while True:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                return
            except OSError as error:
                if monotonic_s() > deadline:
                    raise ConflictError(
                        f"port {port} on {host} is taken",
                        hint="Choose another with --port, or end what uses it.",
                    ) from error
        time.sleep(_POLL_S)
