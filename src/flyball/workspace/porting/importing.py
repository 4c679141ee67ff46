"""Brings a store of MLflow over: what is not there yet is added, so it can be done again and again."""

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from typing import NamedTuple

import msgspec

from flyball.core.errors import FlyballError
from flyball.domain.registry.foreign import ForeignModel, ForeignVersion
from flyball.domain.registry.import_service import RegistryImport, with_model_id
from flyball.domain.registry.models import PROMPT_TAG
from flyball.domain.registry.sources import resolve
from flyball.domain.registry.version_files import VersionFiles
from flyball.domain.tracking import import_store
from flyball.domain.tracking.artifacts import Place, is_kept_here, parse_place
from flyball.domain.tracking.foreign import ForeignRun
from flyball.domain.tracking.import_service import ImportService
from flyball.domain.tracking.points import Point
from flyball.domain.tracking.traces import PLACE_TAG
from flyball.storage.db import Transaction
from flyball.workspace.home import Home
from flyball.workspace.porting.records import Source, SourceFile, SourceTrace
from flyball.workspace.porting.reports import ImportReport

_PIECE = 1 << 20
_FILES_AT_ONCE = 200
_READERS = 4
_OWNER = re.compile(r"/((?:m-)?[0-9a-f]{32})/artifacts(?:/|$)")
_READY = "READY"
_IMPORTED = "mlflow-artifacts:/imported"
_MODEL_URI = re.compile(r"models:/(m-[0-9a-f]{32})/?")


class _Files(NamedTuple):
    """Files to be brought over: to where, from where, whose (in words), and the run whose they are."""

    place: Place
    location: str
    what: str
    run_id: str = ""


class _Fetched(msgspec.Struct):
    """Files whose bytes are among the blobs: how many there were, and places, digests and lengths."""

    count: int = 0
    size_bytes: int = 0
    kept: list[tuple[Place, str, int]] = []
    problems: list[str] = []


class Importer:
    """Brings one store over into one home.

    Args:
        home: Where to.
        source: Where from.
        tell: Is told how far it has come.
    """

    def __init__(self, home: Home, source: Source, tell: Callable[[str], None] = lambda _: None) -> None:
        self._home = home
        self._source = source
        self._tell = tell
        self._runs = ImportService(home.journal)
        self._registry = RegistryImport(home.journal, home.clock, VersionFiles())
        self._report = ImportReport(source=source.name)
        self._experiments: dict[int, int] = {}

    def bring(self) -> ImportReport:
        """Bring everything over and count it."""
        self._bring_experiments()
        count = 0
        for runs in self._source.read_runs():
            self._bring_runs(runs)
            count += len(runs)
            self._tell(f"{count:,} runs")
        for models in self._source.read_logged_models():
            known = [model for model in models if model.experiment_id in self._experiments]
            with self._home.db.begin() as tx:
                self._registry.put_logged_models(tx, known, self._experiments)
                here = {model.id for model in self._home.logged_models.list_present(tx, [model.id for model in known])}
            self._count("logged models", [model.id for model in models], here)
            self._bring_files(
                [_Files(Place(model.id), model.location, f"the logged model {model.id}") for model in known]
            )
            self._tell(f"{len(models):,} logged models")
        for registered in self._source.read_models():
            self._bring_model(registered)
            self._tell(f"the model {registered.name}")
        for traces in self._source.read_traces():
            self._bring_traces(traces)
            self._tell(f"{len(traces):,} traces")
        for place in self._source.list_missing():
            text = f"{place} is not there, so no files came from it; name the right place with --artifacts"
            is_needed = "logged models" in self._report.counts or "model versions" in self._report.counts
            self._report.differ(text) if is_needed else self._report.note(text)
        return self._report

    def _bring_experiments(self) -> None:
        for found in self._source.list_experiments():
            # Where clients put files themselves, they go on doing so; all else comes into our own store.
            is_remote = self._source.list_files(found.location) is None
            with self._home.db.begin() as tx:
                number = self._runs.ensure_experiment(tx, found, found.location if is_remote else "")
            self._experiments[found.id] = number
            self._report.add("experiments", source=1, here=1)
            if number != found.id:
                self._report.note(f"experiment {found.id} ({found.name!r}) has the number {number} here")
            if is_remote:
                self._report.note(f"files of experiment {found.name!r} stay where they are: {found.location}")

    def _bring_runs(self, runs: Sequence[ForeignRun]) -> None:
        known = [run for run in runs if run.experiment_id in self._experiments]
        for run in runs:
            if run.experiment_id not in self._experiments:
                self._report.differ(
                    f"run {run.id} belongs to experiment {run.experiment_id}, which is not in the store"
                )
        pages = self._source.read_points(known)
        first = next(pages, {})  # read before the transaction begins, since a server may take its time
        with self._home.db.begin() as tx:
            numbers = self._runs.put_runs(tx, known, self._experiments, self._source.name)
            points = self._put_points(tx, numbers, first)
        for page in pages:
            with self._home.db.begin() as tx:
                points += self._put_points(tx, numbers, page)
        self._count_runs(runs, numbers, points)
        self._bring_files([_Files(Place(run.id), run.location, f"run {run.id}", run.id) for run in known])

    def _put_points(self, tx: Transaction, numbers: dict[str, int], page: Mapping[str, Sequence[Point]]) -> int:
        self._runs.put_points(tx, numbers, page)
        return sum(len(found) for found in page.values())

    def _count_runs(self, runs: Sequence[ForeignRun], numbers: dict[str, int], points: int) -> None:
        with self._home.db.read() as tx:
            here = import_store.count(tx, list(numbers.values()))
        there = {
            "params": sum(len(run.params) for run in runs),
            "tags": sum(len(run.tags) for run in runs),
            "metric points": points,
            "dataset inputs": sum(len(run.datasets) for run in runs),
            "model links": sum(len(run.read_models) + len(run.made_models) for run in runs),
        }
        self._report.add("runs", source=len(runs), here=len(numbers))
        for kind, count in there.items():
            self._report.add(kind, source=count, here=here[kind])
            if here[kind] < count:
                self._report.differ(
                    f"{count - here[kind]} {kind} of the runs {runs[0].id} … {runs[-1].id} are not here"
                )

    def _bring_files(self, items: Sequence["_Files"]) -> None:
        """Bring the files of several runs, models or versions: read by some threads, named in batches."""
        wanted: list[tuple[Place, str, int, str]] = []
        with ThreadPoolExecutor(_READERS, thread_name_prefix="import") as pool:
            for item, found in zip(items, pool.map(self._fetch, items), strict=True):
                if found is None:
                    self._report.note(f"files below {_root_of(item.location)} stay where they are")
                    continue
                self._report.add("files", source=found.count)
                self._report.add("bytes of files", source=found.size_bytes)
                for text in found.problems:
                    self._report.differ(text)
                wanted += [(place, digest, size, item.what) for place, digest, size in found.kept]
                if len(wanted) >= _FILES_AT_ONCE:
                    self._name_files(wanted)
                    wanted = []
        if wanted:
            self._name_files(wanted)

    def _fetch(self, item: "_Files") -> "_Fetched | None":
        found = _Fetched()
        try:
            files = self._source.list_files(item.location, item.run_id) if item.location else iter(())
            if files is None:
                return None
            for file in files:
                found.count += 1
                found.size_bytes += file.size_bytes
                try:
                    found.kept.append((item.place.below(file.path), *self._keep(file)))
                except (FlyballError, OSError, HTTPException) as error:
                    found.problems.append(f"the file {file.path!r} of {item.what}: {error}")
        except (FlyballError, OSError) as error:
            found.problems.append(f"the files of {item.what}: {error}")
        return found

    def _keep(self, file: SourceFile) -> tuple[str, int]:
        with file.open() as reading, self._home.blobs.writing() as writer:
            while piece := reading.read(_PIECE):
                writer.write(piece)
            return writer.finish(), writer.size_bytes

    def _name_files(self, wanted: Sequence[tuple[Place, str, int, str]]) -> None:
        with self._home.db.begin() as tx:
            for place, digest, size, what in wanted:
                try:
                    self._home.artifacts.bring(tx, place, digest, size)
                except FlyballError as error:
                    self._report.differ(f"the file {place.path!r} of {what}: {error.message}")
                    continue
                self._report.add("files", here=1)
                self._report.add("bytes of files", here=size)

    def _bring_model(self, model: ForeignModel) -> None:
        with self._home.db.begin() as tx:
            self._registry.put_model(tx, model)
        self._report.add("registered models", source=1, here=1)
        for version in model.versions:
            model_id = version.model_id or next(iter(_MODEL_URI.findall(version.source)), "")
            location = self._locate(model.name, version, model_id)
            with self._home.db.begin() as tx:
                is_here = self._registry.put_version(tx, model.name, with_model_id(version, model_id), location)
            self._report.add("model versions", source=1, here=int(is_here))
            if not is_here:
                self._report.differ(f"version {version.number} of the model {model.name!r} is another one here")
            if version.status != _READY:
                self._report.differ(
                    f"version {version.number} of the model {model.name!r} has the status {version.status} there"
                )
        for alias, number in model.aliases.items():
            with self._home.db.begin() as tx:
                reason = self._registry.put_alias(tx, model.name, alias, number)
            self._report.add("aliases", source=1, here=int(not reason))
            if reason:
                self._report.differ(f"the alias {alias!r} of the model {model.name!r} does not mean {number}: {reason}")

    def _locate(self, name: str, version: ForeignVersion, model_id: str) -> str:
        """Return where a version's files are here, from where they are there."""
        if model_id:
            with self._home.db.read() as tx:
                found = self._home.logged_models.list_present(tx, [model_id])
            if found:
                return found[0].root
        if version.location.startswith(("runs:/", "models:/")):
            with self._home.db.read() as tx, suppress(FlyballError):
                return resolve(tx, VersionFiles(), version.location, run_id=version.run_id).location
        owner = _OWNER.search(f"{version.location}/")
        if owner is not None and self._source.list_files(version.location) is not None:
            path = f"{version.location}/"[owner.end() :].strip("/")
            return f"{_IMPORTED}/{owner[1]}/artifacts/{path}".rstrip("/")
        if owner is None and version.location and PROMPT_TAG not in version.tags:
            # Files that belong to no run and no logged model get a place of their own.
            place = parse_place(f"{_IMPORTED}/models/{name}/{version.number}")
            what = f"version {version.number} of the model {name!r}"
            self._bring_files([_Files(place, version.location, what)])
            if self._home.artifacts.walk(place):
                return f"{_IMPORTED}/models/{name}/{version.number}"
        return version.location

    def _bring_traces(self, traces: Sequence[SourceTrace]) -> None:
        known = [found for found in traces if found.trace.experiment_id in self._experiments]
        with self._home.db.begin() as tx:
            for found in known:
                self._home.traces.bring(tx, found.trace, self._experiments[found.trace.experiment_id], found.spans)
        ids = [found.trace.id for found in traces]
        here = self._home.traces.list_with_spans(ids)
        self._count("traces", ids, {trace.id for trace, _ in here})
        self._report.add(
            "spans",
            source=sum(len(found.spans) + found.unreadable for found in traces),
            here=sum(len(spans) for _, spans in here),
        )
        self._report.add(
            "assessments",
            source=sum(len(found.trace.assessments) for found in traces),
            here=sum(len(trace.assessments) for trace, _ in here),
        )
        for found in traces:
            if found.unreadable:
                self._report.differ(f"{found.unreadable} spans of the trace {found.trace.id} cannot be read")
        places = {trace.id: trace.tags.get(PLACE_TAG, "") for trace, _ in here}
        self._bring_files(
            [
                _Files(parse_place(places[found.trace.id]), found.location, f"the trace {found.trace.id}")
                for found in known
                if not found.spans and found.location and is_kept_here(places.get(found.trace.id, ""))
            ]
        )

    def _count(self, kind: str, ids: Sequence[str], here: set[str]) -> None:
        self._report.add(kind, source=len(ids), here=len(here.intersection(ids)))
        for missing in sorted(set(ids) - here):
            self._report.differ(f"{missing} of the {kind} is not here")


def _root_of(location: str) -> str:
    """Return an address up to what is a run's own, so that it is named once."""
    owner = _OWNER.search(f"{location}/")
    return location[: owner.start()] if owner else location
