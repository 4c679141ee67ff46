"""``fb.run()``: finds where a program's run is kept, a home or a server, and opens it there."""

import http.client
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flyball.core.clock import SystemClock
from flyball.core.encoding import from_json
from flyball.core.errors import BackendError, BackendUnavailableError, InvalidInputError
from flyball.core.ids import IdSource
from flyball.core.settings import FILE_NAME, PROJECT_FILE, load_settings
from flyball.domain.tracking.live_runs import LiveRun
from flyball.domain.tracking.records import Batch, Record, encode_batch
from flyball.domain.tracking.shipping import Destination, Sent, send_left_behind
from flyball.domain.tracking.spool import list_spools
from flyball.workspace.home import Home

SPOOL_FOLDER = "spool"
_HOME = ".flyball"
_TIMEOUT_S = 30.0
_MEDIA_TYPE = "application/msgpack"
_TYPE_PREFIX = "urn:flyball:"
_PATH_UNKNOWN = "urn:flyball:http/path-unknown"
_TRY_AGAIN = {408, 425, 429}
_SHOWN = 100


def run(
    name: str = "",
    *,
    experiment: str = "default",
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    server: str | None = None,
    home: str | Path | None = None,
) -> LiveRun:
    """Open a run for a program that is no pipeline: a notebook, a training script, a search.

    Inside the block, `log_metric`, `log_artifact` and `set_tag` belong to it. Logging never waits for a server or a
    database: it appends to a spool on disk, which is sent in batches and survives the end of the program.

    ::

        with fb.run("boosting", params={"depth": 3}) as run:
            for epoch in range(10):
                fb.log_metric("loss", 1 / (epoch + 1), step=epoch)

    Args:
        name: What a person calls the run.
        experiment: What it belongs to.
        params: Parameters to log at once.
        tags: Tags to set at once.
        server: The address of a ``flyball up``, such as ``http://127.0.0.1:3592``; by default the setting ``server``,
            and without one the run is kept in the home, with nothing to start.
        home: Where runs and their spools are kept; by default ``.flyball`` in the project's folder: the nearest one,
            from the present folder up, with a project or settings file, else the present folder.

    Raises:
        InvalidInputError: The address is none, or a setting is wrong.
        BackendUnavailableError: The home cannot be written.
    """
    project_dir = _find_project()
    settings = load_settings(project_dir)[0]
    place = (Path(home) if home is not None else project_dir / _HOME).resolve()
    address = (server if server is not None else settings.server).strip()
    destination = find_destination(project_dir, place, address)
    clock = SystemClock()
    spools = place / SPOOL_FOLDER
    alongside = _start_sending_the_rest(project_dir, place) if list_spools(spools) else None
    opened = LiveRun(
        IdSource(clock).new(),
        spools,
        destination,
        clock,
        name=name,
        experiment=experiment,
        project_dir=project_dir,
        address=address,
        alongside=alongside,
    )
    if params:
        opened.log_params(params)
    for tag, value in (tags or {}).items():
        opened.set_tag(tag, value)
    return opened


def find_destination(project_dir: Path, home: Path, server: str) -> Destination:
    """Return where runs are kept: the server, or the home itself where none is named.

    Raises:
        InvalidInputError: The server's address is none.
    """
    return ServerDestination(server) if server else HomeDestination(project_dir, home)


def send_spools(project_dir: Path, home: Path, server: str | None = None) -> Sent:
    """Send what programs of a home left in their spools, each to where it was bound. See `send_left_behind`.

    Args:
        project_dir: The project's folder.
        home: Where the spools are.
        server: Where all of them go instead, such as when the server has moved.

    Raises:
        InvalidInputError: The server's address is none.
    """
    if server is not None:
        find_destination(project_dir, home, server)
    return send_left_behind(
        home / SPOOL_FOLDER,
        lambda address: find_destination(project_dir, home, address if server is None else server),
        SystemClock(),
    )


def _start_sending_the_rest(project_dir: Path, home: Path) -> threading.Thread:
    """Send what earlier runs of the home left behind, off the way of the run that begins."""
    work = threading.Thread(target=send_spools, args=(project_dir, home), name="flyball-rest", daemon=True)
    work.start()
    return work


class HomeDestination:
    """Implements `Destination` on a home of this machine."""

    def __init__(self, project_dir: Path, home: Path) -> None:
        self._home = Home(project_dir, home)

    def receive(self, run_id: str, first: int, records: list[Record]) -> int:
        """See `Destination.receive`."""
        return self._home.tracking.receive(Batch(run_id=run_id, first=first, records=records))

    def put_blob(self, path: Path, digest: str) -> None:
        """See `Destination.put_blob`."""
        if not self._home.blobs.has(digest):
            self._home.blobs.put_file(path)

    def close(self) -> None:
        """See `Destination.close`."""
        if "db" in vars(self._home):
            self._home.db.close()


class ServerDestination:
    """Implements `Destination` on a ``flyball up``.

    Raises:
        InvalidInputError: The address is none.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        try:
            port = parts.port
        except ValueError:
            port = -1
        is_plain = not (parts.query or parts.fragment or parts.username or parts.password)
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or not is_plain:
            raise InvalidInputError(
                f"{address!r} is not the address of a server", hint="Write it as http://127.0.0.1:3592."
            )
        self.address = address
        self._prefix = parts.path.rstrip("/")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, port, timeout=_TIMEOUT_S)

    def receive(self, run_id: str, first: int, records: list[Record]) -> int:
        """See `Destination.receive`."""
        batch = encode_batch(Batch(run_id=run_id, first=first, records=records))
        answer = self._ask("POST", "/runs/records", batch, {"content-type": _MEDIA_TYPE})
        return int(answer["kept"])

    def put_blob(self, path: Path, digest: str) -> None:
        """See `Destination.put_blob`."""
        headers = {"content-type": "application/octet-stream", "content-length": str(path.stat().st_size)}
        with path.open("rb") as file:
            self._ask("PUT", f"/runs/blobs/{digest}", file, headers)

    def close(self) -> None:
        """See `Destination.close`."""
        self._connection.close()

    def _ask(self, method: str, path: str, body: Any, headers: dict[str, str]) -> dict[str, Any]:
        try:
            self._connection.request(method, self._prefix + path, body, headers)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise BackendUnavailableError(f"the server at {self.address} does not answer: {error!r}") from error
        if response.status >= 500 or response.status in _TRY_AGAIN:
            raise BackendUnavailableError(f"the server at {self.address} answers {response.status}")
        try:
            answer = from_json(content, dict[str, Any], what="the server's answer")
        except InvalidInputError:
            answer = {}
        if response.status == 200 and answer:
            return answer
        kind = str(answer.get("type"))
        if not kind.startswith(_TYPE_PREFIX) or kind == _PATH_UNKNOWN:
            # A proxy, an address with another path, or another server: what is logged is not given up because of it.
            shown = content[:_SHOWN].decode(errors="replace")
            raise BackendUnavailableError(
                f"what answers at {self.address} takes no runs: status {response.status}, {shown!r}"
            )
        raise BackendError(str(answer["detail"]), hint=str(answer.get("hint") or ""))


def _find_project() -> Path:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / PROJECT_FILE).is_file() or (folder / FILE_NAME).is_file():
            return folder
    return here
