"""What a client names as the source of a version, and what it comes down to."""

import math
import re
from urllib.parse import unquote, urlsplit

import msgspec

from flyball.domain.registry import client_store, logged_store, store
from flyball.domain.registry.logged_models import LoggedModel, LoggedModelNotFoundError
from flyball.domain.registry.models import SourceInvalidError, SourceMissingError
from flyball.domain.registry.version_files import ModelFiles
from flyball.domain.registry.versions import ModelVersion
from flyball.domain.tracking import client_store as run_store
from flyball.domain.tracking import point_store
from flyball.storage.db import Transaction

PACKAGES = "mlflow-artifacts:/packages/"
"""Below this, clients find the packages of Flyball's own versions by their digests."""
_OURS = "mlflow-artifacts:"
_MOST_DECODINGS = 10
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]")


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What a version is made from.

    Attributes:
        location: Where its files are; empty where they are a package of Flyball's.
        content_digest: What they are; empty where they are in somebody else's store.
        copied: The version that it is a copy of.
        logged: The logged model that it is.
    """

    location: str
    run_id: str = ""
    content_digest: str = ""
    copied: ModelVersion | None = None
    logged: LoggedModel | None = None


def location_of(version: ModelVersion) -> str:
    """Return where a version's files are for clients."""
    return version.location or f"{PACKAGES}{version.package_digest}"


def resolve(tx: Transaction, files: ModelFiles, source: str, *, run_id: str = "", model_id: str = "") -> Source:
    """Find what a version is to be made from.

    Args:
        tx: The open transaction.
        files: What clients put into our store.
        source: ``runs:/RUN/path``, ``models:/m-…``, ``models:/NAME/VERSION``, or an address of files.
        run_id: The run that the client names.
        model_id: The logged model that the client names.

    Raises:
        SourceInvalidError: It is no such address, or leads out of its place.
        SourceMissingError: There is nothing.
    """
    _check(source)
    scheme = urlsplit(source).scheme.lower()
    logged = _find_logged(tx, model_id, source) if model_id else None
    if scheme == "models":
        return _of_model(tx, files, source, run_id, logged)
    if scheme == "runs":
        return _of_run(tx, files, source, logged)
    if not scheme or scheme == "file" or _WINDOWS.match(source):
        raise SourceInvalidError(source, "a path of the client's machine means nothing here; log the model first")
    run_id = run_id or (logged.run_id if logged else "")
    if scheme + ":" != _OURS:
        return Source(location=source, run_id=run_id, logged=logged)
    digest = files.digest(tx, source)
    if digest is None:
        raise SourceMissingError(source, "there are no files at that address")
    return Source(location=source, run_id=run_id, content_digest=digest, logged=logged)


def metrics_of(tx: Transaction, source: Source) -> dict[str, float]:
    """Return the last finite values that were logged to the run and to the logged model, which counts more."""
    found: dict[str, float] = {}
    run = run_store.find_run(tx, source.run_id) if source.run_id else None
    if run is not None:
        for _, name, value, _, _ in point_store.latest_of(tx, [run.number]):
            if value is not None and math.isfinite(value):
                found[name] = value
    for metric in source.logged.metrics if source.logged else ():
        if metric.value is not None and math.isfinite(metric.value):
            found[metric.key] = metric.value
    return found


def _of_model(tx: Transaction, files: ModelFiles, source: str, run_id: str, named: LoggedModel | None) -> Source:
    parts = urlsplit(source).path.strip("/").split("/")
    name, _, alias = parts[0].partition("@")
    if len(parts) == 1 and alias:
        number = store.find_alias_now(tx, name, alias)
        return _of_version(tx, source, name, number, run_id)
    if len(parts) == 2 and parts[1].isascii() and parts[1].isdigit() and len(parts[1]) <= 18:
        return _of_version(tx, source, parts[0], int(parts[1]), run_id)
    if len(parts) != 1 or not name.startswith("m-"):
        raise SourceInvalidError(source, "write models:/NAME/VERSION, models:/NAME@ALIAS or models:/MODEL_ID")
    logged = named if named is not None and named.id == name else _find_logged(tx, name, source)
    digest = files.digest(tx, logged.root) if logged.root.startswith(_OURS) else ""
    if digest is None:
        raise SourceMissingError(source, "the logged model has no files")
    return Source(location=logged.root, run_id=run_id or logged.run_id, content_digest=digest, logged=logged)


def _of_version(tx: Transaction, source: str, name: str, number: int | None, run_id: str) -> Source:
    found = client_store.find_version(tx, name, number) if number is not None else None
    if found is None:
        raise SourceMissingError(source, "there is no such version")
    version = found.version
    logged = logged_store.find_models(tx, [version.logged_model]) if version.logged_model else []
    return Source(
        location=version.location,
        run_id=run_id or version.run_id,
        content_digest=version.content_digest,
        copied=version,
        logged=logged[0] if logged else None,
    )


def _of_run(tx: Transaction, files: ModelFiles, source: str, logged: LoggedModel | None) -> Source:
    run_id, _, path = urlsplit(source).path.strip("/").partition("/")
    run = run_store.find_run(tx, run_id)
    if run is None:
        raise SourceMissingError(source, "there is no such run")
    location = f"{run.artifact_root}/{path}" if path else run.artifact_root
    if not location.startswith(_OURS):
        return Source(location=location, run_id=run_id, logged=logged)
    digest = files.digest(tx, location)
    if digest is not None:
        return Source(location=location, run_id=run_id, content_digest=digest, logged=logged)
    named = logged_store.find_of_run(tx, run_id, path)
    digest = files.digest(tx, named.root) if named else None
    if named is None or digest is None:
        raise SourceMissingError(source, "the run has neither files nor a logged model of that name")
    return Source(location=named.root, run_id=run_id, content_digest=digest, logged=named)


def _find_logged(tx: Transaction, model_id: str, source: str) -> LoggedModel:
    found = logged_store.find_models(tx, [model_id])
    if not found or found[0].is_deleted:
        raise SourceMissingError(source, LoggedModelNotFoundError(model_id).message)
    return found[0]


def _check(source: str) -> None:
    text = source
    for _ in range(_MOST_DECODINGS):
        if ".." in text.replace("\\", "/").split("/") or "\0" in text:
            raise SourceInvalidError(source, "it leads out of its place")
        if (again := unquote(text)) == text:
            return
        text = again
    raise SourceInvalidError(source, "it is encoded too often")
