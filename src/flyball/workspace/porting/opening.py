"""Opens a store of MLflow by its address."""

import ipaddress
from pathlib import Path
from urllib.parse import urlsplit

from flyball.workspace.porting.folders import Folders
from flyball.workspace.porting.records import Source, SourceInvalidError

_SQLITE = "sqlite:///"


def open_source(uri: str, artifacts: Path | None = None, *, own: tuple[str, int] | None = None) -> Source:
    """Return what reads a store.

    Args:
        uri: ``http://HOST:PORT``, ``sqlite:///PATH`` or the path of such a file.
        artifacts: Where a server that used the file kept artifacts.
        own: Host and port of the server that runs on the home to which the store is to be brought, if one does.

    Raises:
        SourceInvalidError: It is no address of a store, or there is none.
        BackendUnavailableError: The server does not answer.
    """
    if uri.startswith(("http://", "https://")):
        if artifacts is not None:
            raise SourceInvalidError("a server hands out its artifacts itself", hint="Leave --artifacts out.")
        if own is not None and _is_same(uri, *own):
            raise SourceInvalidError(
                f"{uri} is the server of this home itself, and what it tells is here already",
                hint="Name the server of the store that is to be brought over.",
            )
        from flyball.workspace.porting.mlflow_server import MlflowServer

        return MlflowServer(uri)
    path = Path(uri.removeprefix(_SQLITE))
    if path.is_dir():
        raise SourceInvalidError(
            f"{uri!r} is a folder; stores in folders are read through their server",
            hint=f"Run: mlflow server --backend-store-uri {uri} --port 5000; then name http://127.0.0.1:5000",
        )
    if "://" in uri and not uri.startswith(_SQLITE):
        raise SourceInvalidError(
            f"{uri!r} is neither a server's address nor a file of SQLite",
            hint="Name http://HOST:PORT, or sqlite:///PATH; other databases are read through mlflow's server.",
        )
    from flyball.workspace.porting.mlflow_store import MlflowFile

    return MlflowFile(path, Folders(path.resolve().parent, artifacts))


def _is_same(uri: str, host: str, port: int) -> bool:
    try:
        parts = urlsplit(uri)
        is_port = (parts.port or {"http": 80, "https": 443}[parts.scheme]) == port
    except ValueError:
        return False  # whoever opens it says what is wrong
    return is_port and _name(parts.hostname or "") == _name(host)


def _name(host: str) -> str:
    """Return a host, all names of this machine's own loopback as one."""
    try:
        return "localhost" if ipaddress.ip_address(host).is_loopback else host
    except ValueError:
        return host
