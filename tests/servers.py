"""Real servers for tests, each on a loopback port of its own and ended with the test: PostgreSQL and Redis.

The binaries are Debian's (packages ``postgresql`` and ``redis-server``); a test skips where they are not installed.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

_START_S = 30.0


def free_port() -> int:
    """Return a loopback port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server listens; fail when it ends instead."""
    deadline = time.monotonic() + _START_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, f"the server ended with status {process.returncode}"
        assert time.monotonic() < deadline, f"nothing listens at port {port} after {_START_S:.0f} s"
        time.sleep(0.02)


class PostgresqlServer:
    """A cluster of its own; `new_database` gives each test an empty database.

    PostgreSQL refuses to run as root, so root runs it as the user whom the Debian package made.
    """

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._data = folder / "data"
        self._databases = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._prefix: list[str] = []
        if os.getuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
            self._prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self._run("initdb", "-D", str(self._data), "-U", "flyball", "-A", "trust", "--no-sync", "-E", "UTF8")
        self.port = free_port()

    def start(self, *, settings: Sequence[str] = ()) -> None:
        """Start the server and wait until it answers."""
        options = ["listen_addresses=127.0.0.1", "unix_socket_directories=", f"port={self.port}", *settings]
        arguments = [part for option in options for part in ("-c", option)]
        self._process = subprocess.Popen(
            [*self._prefix, str(self._binaries / "postgres"), "-D", str(self._data), *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _START_S
        while self._run("pg_isready", "-h", "127.0.0.1", "-p", str(self.port), check=False):
            assert self._process.poll() is None, "PostgreSQL ended at its start"
            assert time.monotonic() < deadline, "PostgreSQL does not answer"
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server, as an administrator would who does not wait for clients."""
        if self._process is not None:
            self._run("pg_ctl", "-D", str(self._data), "stop", "-m", "immediate", check=False)
            self._process.wait(timeout=30)
            self._process = None

    def new_database(self, name: str = "", *, template: str = "template0") -> str:
        """Make a database, empty or a copy of another, and return its URL."""
        self._databases += 1
        name = name or f"test_{self._databases}"
        place = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "flyball"]
        self._run("createdb", *place, "--template", template, name)
        return f"postgresql://flyball@127.0.0.1:{self.port}/{name}"

    def _run(self, command: str, *arguments: str, check: bool = True) -> int:
        return subprocess.run(
            [*self._prefix, str(self._binaries / command), *arguments],
            check=check,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        ).returncode


@contextmanager
def postgresql(*, settings: Sequence[str] = ("fsync=off",)) -> Iterator[PostgresqlServer]:
    """Run PostgreSQL; pass ``settings=()`` where what is committed must survive a power cut."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [
        Path(path).parent for path in [shutil.which("initdb")] if path
    ]
    if not found:
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")
    # pytest's own folders are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="flyball-postgresql-"))
    try:
        server = PostgresqlServer(found[-1], folder)
        server.start(settings=settings)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class RedisServer:
    """One Redis, which keeps nothing; it can be stopped and started again at the same port."""

    def __init__(self, binary: str, folder: Path) -> None:
        self._binary = binary
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server and wait until it listens."""
        self._process = subprocess.Popen(
            [self._binary, "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", str(self._folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_port(self.port, self._process)

    def stop(self) -> None:
        """Kill the server: its clients see a broken connection."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=30)
            self._process = None


@contextmanager
def redis(folder: Path) -> Iterator[RedisServer]:
    """Run Redis."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("Redis is not installed (Debian's package redis-server)")
    server = RedisServer(binary, folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
