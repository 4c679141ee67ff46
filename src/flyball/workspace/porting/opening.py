"""Opens a store of MLflow by its address."""

from pathlib import Path

from flyball.workspace.porting.folders import Folders
from flyball.workspace.porting.records import Source, SourceInvalidError

_SQLITE = "sqlite:///"


def open_source(uri: str, artifacts: Path | None = None) -> Source:
    """Return what reads a store.

    Args:
        uri: ``http://HOST:PORT``, ``sqlite:///PATH`` or the path of such a file.
        artifacts: Where a server that used the file kept artifacts.

    Raises:
        SourceInvalidError: It is no address of a store, or there is none.
        BackendUnavailableError: The server does not answer.
    """
    if uri.startswith(("http://", "https://")):
        if artifacts is not None:
            raise SourceInvalidError("a server hands out its artifacts itself", hint="Leave --artifacts out.")
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
