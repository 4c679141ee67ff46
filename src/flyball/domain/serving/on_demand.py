"""Versions that callers name: brought into memory when they are first asked for, the least used leave first."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from flyball.core.errors import ConflictError, InvalidInputError, NotFoundError
from flyball.domain.registry.versions import ModelVersion, NotApprovedError, Status
from flyball.domain.serving.fleet import Fleet, Line, NothingLiveError
from flyball.domain.serving.loaded import LoadedVersion, Loader

MOST_LOADED = 8
"""So many versions are kept besides those that take traffic."""


class Catalog(Protocol):
    """Tells which versions there are; the registry does."""

    def get(self, ref: str) -> ModelVersion:
        """Return a version; raises `NotFoundError` when there is none of that name."""
        ...

    def list_versions(self, model: str | None = None) -> list[ModelVersion]:
        """Return the versions of a model."""
        ...


class VersionInUseError(ConflictError):
    """A version takes traffic, so it stays in memory."""

    code = "serving/version-in-use"

    def __init__(self, ref: str, endpoint: str) -> None:
        super().__init__(
            f"{ref} answers at {endpoint!r}, so it cannot be unloaded",
            hint=f"Take it back with: flyball rollback {endpoint}",
        )


class VersionsOnDemand:
    """Finds the version that a caller names. Safe to call from several threads.

    Args:
        fleet: Holds the versions that take traffic.
        loader: Loads others.
        catalog: Tells which there are; only approved ones are loaded.
        most: So many are kept.
    """

    def __init__(self, fleet: Fleet, loader: Loader, catalog: Catalog, most: int = MOST_LOADED) -> None:
        self._fleet = fleet
        self._loader = loader
        self._catalog = catalog
        self._most = most
        self._loaded: OrderedDict[str, LoadedVersion] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, endpoint: str, number: str = "") -> LoadedVersion | None:
        """Return a version that is in memory: the live one, or the one of that number.

        Raises:
            UnknownNameError: There is no such endpoint.
            NothingLiveError: None is named, and none is live.
        """
        line = self._fleet.line(endpoint)
        if not number:
            if line.live is None:
                raise line.problem or NothingLiveError(line.served.name, line.served.model)
            return line.live
        ref = _ref(line, number)
        return self._fleet.find_loaded(ref) or self._loaded.get(ref)

    def get(self, endpoint: str, number: str) -> ModelVersion:
        """Return what the registry says of a version.

        Raises:
            NotFoundError: There is no such endpoint or no such version.
        """
        ref = _ref(self._fleet.line(endpoint), number)
        try:
            return self._catalog.get(ref)
        except InvalidInputError as error:
            raise NotFoundError(f"{number[:40]!r} is no number of a version, such as 3") from error

    def load(self, endpoint: str, number: str = "") -> LoadedVersion:
        """Return a version, brought into memory if it was not there; slow then.

        Raises:
            UnknownNameError: There is no such endpoint.
            UnknownVersionError: The endpoint's model has no version of that number.
            NotApprovedError: There is one, but it may not answer anybody.
            NothingLiveError: None is named, and none is live.
        """
        found = self.find(endpoint, number)
        ref = found.ref if found is not None else _ref(self._fleet.line(endpoint), number)
        if found is None:
            version = self.get(endpoint, number)
            if version.status is not Status.APPROVED:
                raise NotApprovedError(version.ref, version.status, "a version that answers")
            found = self._loader.load(ref)
        elif ref not in self._loaded:
            return found
        with self._lock:
            self._loaded[ref] = found
            self._loaded.move_to_end(ref)
            while len(self._loaded) > self._most:
                self._loaded.popitem(last=False)
        return found

    def unload(self, endpoint: str, number: str = "") -> None:
        """Let a version that takes no traffic leave the memory; all of the endpoint's when none is named.

        Raises:
            UnknownNameError: There is no such endpoint.
            UnknownVersionError: The endpoint's model has no version of that number.
            VersionInUseError: It takes traffic, or none is named and one does.
        """
        line = self._fleet.line(endpoint)
        used = [version.ref for version in (line.live, line.candidate) if version is not None]
        if not number:
            if used:
                raise VersionInUseError(used[0], endpoint)
            return
        ref = _ref(line, number)
        if ref in used:
            raise VersionInUseError(ref, endpoint)
        self.get(endpoint, number)
        self._fleet.forget(ref)
        with self._lock:
            self._loaded.pop(ref, None)

    def list_versions(self, endpoint: str) -> Sequence[ModelVersion]:
        """Return all versions of an endpoint's model by number."""
        return self._catalog.list_versions(self._fleet.line(endpoint).served.model)


def _ref(line: Line, number: str) -> str:
    return f"{line.served.model}/{number}"
