"""Collects garbage: what was deleted long ago, and bytes that nothing refers to."""

import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec

from flyball.core.durations import to_us
from flyball.core.files import holding_lock
from flyball.domain.data import purge_store as data
from flyball.domain.features import store as features
from flyball.domain.pipelines import purge_store as pipelines
from flyball.domain.registry import purge_store as registry
from flyball.domain.tracking import purge_store as tracking
from flyball.domain.tracking.processes import is_alive
from flyball.storage.db import Transaction
from flyball.storage.sweeping import Sweep, Swept
from flyball.workspace.home import Home

OLDER_THAN = timedelta(days=30)
GRACE = timedelta(days=1)
"""How long bytes may lie unnamed, such as those of an upload that goes on."""
_LONGEST_STEP = timedelta(days=7)
"""An open run names what its steps write when they end; one that is open for longer hangs, or its machine is gone."""
_AT_ONCE = 50
_PACKAGE_SIGNS = 64


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What went, or would go.

    Attributes:
        is_dry: Nothing was changed.
        runs: Runs that were deleted long ago.
        experiments: Experiments that were, with their traces.
        logged_models: Logged models that were.
        artifacts: Files of these.
        results: Results of steps of these runs.
        snapshots: Old snapshots that no run, version or view refers to, and that are not the last of their table.
        packages: Those of versions that were deleted long ago.
        storage: Bytes that then nothing referred to.
        kept_runs: Runs that were deleted long ago, but made a version that is there.
        freed_bytes: All together.
    """

    is_dry: bool
    runs: int
    experiments: int
    logged_models: int
    artifacts: int
    results: int
    snapshots: int
    packages: int
    storage: Swept
    kept_runs: int
    freed_bytes: int


class _Doomed(msgspec.Struct, kw_only=True):
    """Which rows go."""

    runs: list[str] = []
    kept_runs: int = 0
    experiments: list[int] = []
    models: list[str] = []
    traces: list[str] = []
    snapshots: list[data.OldSnapshot] = []

    @property
    def owners(self) -> list[str]:
        """Whose files go."""
        return [*self.runs, *self.models, *self.traces]


class _Marked(msgspec.Struct, kw_only=True):
    """What is referred to."""

    blobs: set[str]
    whole: set[str]
    packages: set[str]


class Collector:
    """Collects the garbage of one home, which may be in use.

    Args:
        home: Whose.
        older_than: What was deleted within this time stays, and so do snapshots that were made within it.
        grace: Bytes that were written or asked for within this time stay.
    """

    def __init__(self, home: Home, *, older_than: timedelta = OLDER_THAN, grace: timedelta = GRACE) -> None:
        self._home = home
        self._now = home.clock.now()
        self._before = self._now - older_than
        self._before_us = to_us(self._before)
        self._grace = grace

    def collect(self, *, is_dry: bool = False) -> Collected:
        """Remove what nothing needs, or only count it.

        All that is referred to is found in one look at the database, once the rows that go are gone; bytes go only if
        they were written, and asked for last, well before that look.

        Raises:
            ConflictError: Another process is collecting.
        """
        message = "another process is collecting this home's garbage"
        with holding_lock(self._home.home / "gc.lock", held_message=message, hint="Wait until it is done."):
            present = self._home.blobs.now()
            with self._home.db.read() as tx:
                doomed = self._find_doomed(tx)
                artifacts = tracking.count_artifacts(tx, doomed.owners)
                results = pipelines.count_results(tx, doomed.runs)
            if not is_dry:
                doomed = self._remove_rows(doomed)
            with self._home.db.read() as tx:
                marked = self._mark(tx, doomed if is_dry else _Doomed())
                cutoff = present - (self._grace + max(self._open_ages(tx), default=timedelta())).total_seconds()
            packages, package_bytes = self._remove_packages(marked.packages, cutoff, is_dry=is_dry)
            swept = Sweep(self._home.blobs, cutoff, is_dry=is_dry).run(marked.blobs, marked.whole)
            collected = Collected(
                is_dry=is_dry,
                runs=len(doomed.runs),
                experiments=len(doomed.experiments),
                logged_models=len(doomed.models),
                artifacts=artifacts,
                results=results,
                snapshots=len(doomed.snapshots),
                packages=packages,
                storage=swept,
                kept_runs=doomed.kept_runs,
                freed_bytes=package_bytes + swept.freed_bytes,
            )
            if not is_dry:
                self._tell(collected)
            return collected

    def _find_doomed(self, tx: Transaction) -> _Doomed:
        deleted = tracking.find_deleted_runs(tx, self._before_us)
        made = registry.list_runs(tx, self._before_us)
        runs = [run for run in deleted if run not in made]
        models = registry.find_deleted_models(tx, self._before_us)
        experiments = tracking.find_deleted_experiments(tx, self._before_us, runs)
        busy = registry.find_models_of(tx, experiments, without=models)
        experiments = [number for number in experiments if number not in busy]
        return _Doomed(
            runs=runs,
            kept_runs=len(deleted) - len(runs),
            experiments=experiments,
            models=models,
            traces=tracking.list_traces(tx, experiments),
            snapshots=self._find_snapshots(tx, runs),
        )

    def _find_snapshots(self, tx: Transaction, without_runs: list[str]) -> list[data.OldSnapshot]:
        # A run says which snapshots it read when it has read them: until then they are as if pinned.
        if any(True for _ in self._open_ages(tx)):
            return []
        pinned = tracking.list_snapshots(tx, set(without_runs))
        pinned |= registry.list_snapshots(tx, self._before_us) | features.list_snapshots(tx)
        return data.find_unneeded(tx, pinned, self._before)

    def _open_ages(self, tx: Transaction) -> Iterator[timedelta]:
        for started_at, process in tracking.list_open(tx):
            if self._now - started_at < _LONGEST_STEP and is_alive(process):
                yield self._now - started_at

    def _remove_rows(self, doomed: _Doomed) -> _Doomed:
        """Remove rows in several transactions, so that nobody waits for long; each looks anew at what may go."""
        gone = _Doomed(kept_runs=doomed.kept_runs)
        for start in range(0, len(doomed.runs), _AT_ONCE):
            part = doomed.runs[start : start + _AT_ONCE]
            with self._home.db.begin() as tx:
                made = registry.list_runs_among(tx, part, self._before_us)
                still = [run for run in tracking.keep_deleted(tx, part, self._before_us) if run not in made]
                pipelines.remove_runs(tx, still)
                tracking.remove_runs(tx, still)
                gone.runs += still
        with self._home.db.begin() as tx:
            still_doomed = self._find_doomed(tx)
            gone.models = [model for model in still_doomed.models if model in set(doomed.models)]
            registry.remove_models(tx, gone.models)
            gone.experiments = [one for one in still_doomed.experiments if one in set(doomed.experiments)]
            tracking.remove_experiments(tx, gone.experiments)
            gone.snapshots = still_doomed.snapshots
            data.remove_snapshots(tx, gone.snapshots)
        return gone

    def _mark(self, tx: Transaction, without: _Doomed) -> _Marked:
        from flyball.domain.data.contents import list_blobs

        owners = set(without.owners)
        blobs = {*tracking.list_blobs(tx, owners), *pipelines.list_blobs(tx, owners)}
        whole = {
            digest
            for content in data.list_contents(tx, without.snapshots)
            for digest in list_blobs(content, self._home.blobs)
        }
        return _Marked(blobs=blobs | whole, whole=whole, packages=registry.list_packages(tx, self._before_us))

    def _remove_packages(self, referenced: set[str], cutoff: float, *, is_dry: bool) -> tuple[int, int]:
        root = self._home.registry.packages_root
        count = freed_bytes = 0
        for package in sorted(root.iterdir()) if root.exists() else []:
            is_one = len(package.name) == _PACKAGE_SIGNS
            if not is_one or package.name in referenced or package.stat().st_mtime >= cutoff:
                continue
            aside = package
            if not is_dry:
                # As the folders that packages are built in are named: one that is left over is removed with them.
                aside = root / f".{os.getpid()}-{os.urandom(6).hex()}"
                package.rename(aside)
                if aside.stat().st_mtime >= cutoff:
                    aside.rename(package)
                    continue
            count += 1
            freed_bytes += _size(aside)
            if not is_dry:
                shutil.rmtree(aside, ignore_errors=True)
        return count, freed_bytes

    def _tell(self, collected: Collected) -> None:
        """Tell the journal, if anything of the tables went or bytes did."""
        fields = msgspec.to_builtins(collected)
        counts = {
            name: count for name, count in fields.items() if isinstance(count, int) and name != "is_dry" and count
        }
        if counts:
            with self._home.db.begin() as tx:
                self._home.journal.append(tx, "storage.garbage.collected", "home", counts, actor="gc")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
