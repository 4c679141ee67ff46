"""Which versions are in memory and who answers at each endpoint; swapped as a whole, so no request sees a half."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from flyball.core.clock import monotonic_s
from flyball.core.errors import BackendError, ConflictError, FlyballError, UnknownNameError
from flyball.domain.journal.service import Journal
from flyball.domain.registry.versions import ModelVersion
from flyball.domain.serving.direct import find_direct
from flyball.domain.serving.graphs import Node, NodeUnavailableError, check_fits, models_of
from flyball.domain.serving.loaded import LoadedVersion, Loader
from flyball.domain.serving.plan import ServingPlan, plan_serving
from flyball.domain.serving.rollouts import Rollout
from flyball.storage.db import Database

UNLOADABLE = "serving.version.unloadable"
"""The event that tells that a version on its way to live could not be loaded."""
KEPT_LOADED = 3
_log = logging.getLogger("flyball.serving")


class ServedEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What the data plane needs to know of an endpoint.

    Attributes:
        name: In addresses.
        model: The model's name in the registry.
        on_violation: What becomes of a request that breaks an expectation of severity ``fail``.
        graph: What answers, where it is more than the model alone.
        prepare: Makes the fields that models are asked with of the fields that came.
    """

    name: str
    model: str
    on_violation: Literal["refuse", "quarantine"] = "refuse"
    graph: Node | None = None
    prepare: Callable[[dict[str, Any]], Any] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether a model answers, and nothing else has a part in it."""
        return self.graph is None and self.prepare is None


class Champions(Protocol):
    """Tells which version of a model is live; the registry does."""

    def champion(self, model: str) -> ModelVersion | None:
        """Return the version, or None before the first one."""
        ...


class Rollouts(Protocol):
    """Tells which rollout is under way; `RolloutService` does."""

    def find_running(self, endpoint: str) -> Rollout | None:
        """Return the rollout, or None."""
        ...


class NothingLiveError(ConflictError):
    """No version of the endpoint's model has gone live yet."""

    code = "serving/nothing-live"

    def __init__(self, endpoint: str, model: str) -> None:
        super().__init__(
            f"no version of {model!r} is live, so {endpoint!r} cannot answer",
            hint="Train one with: flyball run PIPELINE; flyball status tells what it waits for.",
        )


class UnloadableError(BackendError):
    """A version's package is whole, but what is in it cannot be brought into memory."""

    code = "serving/unloadable"

    def __init__(self, ref: str, reason: str) -> None:
        super().__init__(
            f"the version {ref} cannot be loaded: {reason}",
            hint="Train it again with: flyball run PIPELINE; or go back with: flyball rollback ENDPOINT",
        )


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint as it answers now.

    Attributes:
        served: The endpoint.
        plan: Who answers.
        live: The live version; None when there is none, or when it could not be loaded.
        candidate: The version on its way to live.
        problem: Why the plan could not be followed in full.
        others: The live versions of the other models of the endpoint's graph, by model.
    """

    served: ServedEndpoint
    plan: ServingPlan
    live: LoadedVersion | None = None
    candidate: LoadedVersion | None = None
    problem: FlyballError | None = None
    others: dict[str, LoadedVersion] = {}


def pin(line: Line, pinned: LoadedVersion) -> Line:
    """Return a line on which one version answers alone; who is live anyway keeps that role."""
    plan = ServingPlan(
        endpoint=line.plan.endpoint,
        model=line.plan.model,
        live=pinned.ref,
        is_pinned=pinned.ref != line.plan.live,
    )
    return Line(served=msgspec.structs.replace(line.served, graph=None), plan=plan, live=pinned)


class Fleet:
    """Follows the journal, loads versions and swaps them in. Safe to call from several threads.

    The last versions stay loaded, so that going back to one is instant.

    Args:
        endpoints: What is served.
        champions: Tells the live versions.
        rollouts: Tells the candidates.
        loader: Loads versions.
        db: Where the journal is written to.
        journal: Tells that something changed; is told of versions that cannot be loaded.
        check_every_s: How long `line` goes on without looking for changes; 0 looks each time, which in a replay makes
            every run alike; None leaves it to calls of `refresh`.
    """

    def __init__(
        self,
        endpoints: Sequence[ServedEndpoint],
        *,
        champions: Champions,
        rollouts: Rollouts,
        loader: Loader,
        db: Database,
        journal: Journal,
        check_every_s: float | None = 0.0,
    ) -> None:
        self._endpoints = {served.name: served for served in endpoints}
        self._champions = champions
        self._rollouts = rollouts
        self._loader = loader
        self._db = db
        self._journal = journal
        self._check_every_s = check_every_s
        self._checked_at_s = -float("inf")
        self._head = -1
        self._lines: Mapping[str, Line] = {}
        self._loaded: dict[str, LoadedVersion] = {}
        self._failed: dict[str, FlyballError] = {}
        self._lock = threading.Lock()

    @property
    def lines(self) -> Mapping[str, Line]:
        """All endpoints as they answer now, without looking for changes."""
        return self._lines

    def find_loaded(self, ref: str) -> LoadedVersion | None:
        """Return a version that is in memory, whether it takes traffic or was kept."""
        return self._loaded.get(ref)

    def forget(self, ref: str) -> None:
        """Let a version that takes no traffic leave the memory."""
        with self._lock:
            others = [version.ref for line in self._lines.values() for version in line.others.values()]
            if ref not in others and all(ref not in line.plan.versions for line in self._lines.values()):
                self._loaded.pop(ref, None)

    def stop_checking(self) -> None:
        """Leave looking for changes to calls of `refresh`, so that no request waits while a version is loaded."""
        self._check_every_s = None

    def line(self, endpoint: str) -> Line:
        """Return an endpoint as it answers now.

        Raises:
            UnknownNameError: There is no such endpoint.
        """
        if not self._lines or (
            self._check_every_s is not None and monotonic_s() - self._checked_at_s >= self._check_every_s
        ):
            self.refresh()
        line = self._lines.get(endpoint)
        if line is None:
            raise UnknownNameError("endpoint", endpoint, self._endpoints)
        return line

    def refresh(self) -> bool:
        """Look for changes, with one small query; load what is new and swap it in.

        Returns:
            Whether anything was looked at anew; False also while another thread is at it.
        """
        if not self._lock.acquire(blocking=not self._lines):
            return False
        try:
            self._checked_at_s = monotonic_s()
            head = self._journal.head()
            if head == self._head:
                return False
            self._lines = {name: self._make_line(served) for name, served in self._endpoints.items()}
            self._head = head
            self._forget_old()
            return True
        finally:
            self._lock.release()

    def _make_line(self, served: ServedEndpoint) -> Line:
        line = self._make_own_line(served)
        if served.graph is None or line.live is None:
            return line
        others: dict[str, LoadedVersion] = {}
        problem = line.problem
        for name in models_of(served.graph):
            if name == served.model:
                continue
            champion = self._champions.champion(name)
            try:
                if champion is None:
                    raise NodeUnavailableError(name)
                others[name] = self._load(champion.ref)
                check_fits(served.graph, line.live, others[name])
            except FlyballError as error:
                # What asks for it fails and may fall back; all else goes on.
                others.pop(name, None)
                problem = problem or error
        return msgspec.structs.replace(line, others=others, problem=problem)

    def _make_own_line(self, served: ServedEndpoint) -> Line:
        champion = self._champions.champion(served.model)
        rollout = self._rollouts.find_running(served.name)
        plan = plan_serving(served.name, served.model, None if champion is None else str(champion.ref), rollout)
        before = self._lines.get(served.name)
        if plan.live is None:
            return Line(served=served, plan=plan, problem=NothingLiveError(served.name, served.model))
        try:
            live = self._load(plan.live)
        except FlyballError as error:
            if before is None or before.live is None:
                return Line(served=served, plan=plan, problem=error)
            # Better the version of a moment ago than none: whoever watches is told.
            kept = ServingPlan(endpoint=served.name, model=served.model, live=before.live.ref)
            return Line(served=served, plan=kept, live=before.live, problem=error)
        if plan.candidate is None:
            return Line(served=served, plan=plan, live=live)
        try:
            return Line(served=served, plan=plan, live=live, candidate=self._load(plan.candidate))
        except FlyballError as error:
            alone = ServingPlan(endpoint=served.name, model=served.model, live=plan.live)
            return Line(served=served, plan=alone, live=live, problem=error)

    def _load(self, ref: str) -> LoadedVersion:
        found = self._loaded.pop(ref, None)
        if found is None:
            try:
                found = self._loader.load(ref)
                find_direct(found)  # compiled here, so that no request waits for it
            except FlyballError as error:
                self._tell_unloadable(ref, error)
                raise
            except Exception as error:
                unloadable = UnloadableError(ref, f"{type(error).__name__}: {error}")
                self._tell_unloadable(ref, unloadable)
                raise unloadable from error
        self._failed.pop(ref, None)
        # The one used last is at the end; those in front leave first.
        self._loaded[ref] = found
        return found

    def _tell_unloadable(self, ref: str, error: FlyballError) -> None:
        known = self._failed.get(ref)
        if known is not None and known.message == error.message:
            return
        self._failed[ref] = error
        _log.warning("%s cannot be loaded: %s", ref, error.message)
        with self._db.begin() as tx:
            data = {"version": ref, "code": error.code, "reason": error.message}
            self._journal.append(tx, UNLOADABLE, f"version/{ref}", data, actor="gateway")

    def _forget_old(self) -> None:
        used = {
            version.ref
            for line in self._lines.values()
            for version in (line.live, line.candidate, *line.others.values())
            if version
        }
        spare = [ref for ref in self._loaded if ref not in used]
        room = max(0, KEPT_LOADED * max(1, len(self._lines)) - len(used))
        for ref in spare[: max(0, len(spare) - room)]:
            del self._loaded[ref]
