"""Reads the packages of versions that take traffic: profiles, feature views, whatever answers requests."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from flyball.domain.data.tables import Table
from flyball.domain.features.plans import TrainingSetPlan
from flyball.domain.features.service import FeatureService
from flyball.domain.features.training_sets import TrainingSetOperation
from flyball.domain.features.views import FeatureView, RequestFeatures
from flyball.domain.loop.endpoints import Endpoint
from flyball.domain.monitoring.distributions import Baseline
from flyball.domain.pipelines.graph import Graph, build_graph
from flyball.domain.registry.candidates import CandidateOperation
from flyball.domain.registry.packages import Package
from flyball.domain.registry.runtimes import Runtimes
from flyball.domain.registry.service import RegistryService
from flyball.domain.serving.loaded import LoadedVersion, load_package
from flyball.domain.serving.shelf import Shelf
from flyball.workspace.loading import import_copy
from flyball.workspace.project import Project, gather


class PackageReader:
    """Implements the loop's `Deployed` and serving's `Loader` over the registry's packages.

    A version answers with the functions of its own package, not with those the project has now: that is what a
    rollback restores. Where the project's files are still the package's, they are used without loading them again.

    Args:
        registry: Opens packages.
        features: Told the versions of views that come from a package.
        project: Gives the live project.
        runtimes: Run the models.
        unlogged: Tells which fields of a model's requests the prediction log may not hold.
        shelf: Keeps the models of loaded versions; all stay in memory without one.
    """

    def __init__(
        self,
        registry: RegistryService,
        features: FeatureService,
        project: Callable[[], Project],
        runtimes: Runtimes,
        unlogged: Callable[[str], frozenset[str]] = lambda model: frozenset(),
        shelf: Shelf | None = None,
    ) -> None:
        self._registry = registry
        self._features = features
        self._project = project
        self._runtimes = runtimes
        self._unlogged = unlogged
        self._shelf = shelf
        self._lock = threading.RLock()
        self._packages: dict[str, Package] = {}
        self._baselines: dict[str, Baseline] = {}
        self._declared: dict[str, _Declared] = {}
        self._plans: dict[str, TrainingSetPlan | None] = {}

    def baseline(self, version: str) -> Baseline:
        """See `Deployed.baseline`."""
        if version not in self._baselines:
            package = self._package(version)
            self._baselines[version] = Baseline(
                version=version,
                profile=package.profile,
                signature=package.signature,
                unlogged=self._unlogged(package.manifest.model),
            )
        return self._baselines[version]

    def bring_online(self, version: str) -> None:
        """Bring the features of a version up to now, by the functions it was trained with."""
        for view in self.views(version):
            self._features.materialise(view, actor="loop")

    def plan(self, endpoint: Endpoint) -> TrainingSetPlan | None:
        """See `Deployed.plan`."""
        if endpoint.model not in self._plans:
            self._plans[endpoint.model] = self._find_plan(endpoint.model)
        return self._plans[endpoint.model]

    def load(self, ref: str) -> LoadedVersion:
        """See `Loader.load`."""
        package = self._package(ref)
        plan = package.features
        needs_source = plan.request_features or (plan.spine and plan.entity is None)
        declared = self._declarations(ref) if needs_source else None
        return load_package(
            ref,
            package,
            self._runtimes,
            request_features=list(declared.request_features.values()) if declared else [],
            shelf=self._shelf,
            spine=declared.tables.get(plan.spine) if declared else None,
        )

    def adopt(self, ref: str, package: Package) -> str:
        """Take an opened package as a version, also before it has a number, and return what to call it here."""
        with self._lock:
            known_as = ref or package.digest
            self._packages.setdefault(known_as, package)
            return known_as

    def tables(self, version: str) -> dict[str, Table]:
        """Return the tables of the project that a version was trained in."""
        return self._declarations(version).tables

    def views(self, version: str) -> Sequence[FeatureView]:
        """Return the feature views of a version, with the functions that it was trained with."""
        used = self._package(version).features.views
        if not used:
            return []
        declared = self._declarations(version)
        found = []
        for use in used:
            view = declared.views[use.name]
            if not declared.is_live:
                self._features.adopt_version(view, use.version)
            found.append(view)
        return found

    def _package(self, version: str) -> Package:
        with self._lock:
            if version not in self._packages:
                self._packages[version] = self._registry.open(version)
            return self._packages[version]

    def _declarations(self, version: str) -> "_Declared":
        with self._lock:
            package = self._package(version)
            if package.digest not in self._declared:
                project = self._project()
                if _read_files(package.source) == project.files:
                    declared = _Declared(project.tables, project.views, project.request_features, is_live=True)
                else:
                    declared = _Declared.of(import_copy(package.source))
                self._declared[package.digest] = declared
            return self._declared[package.digest]

    def _find_plan(self, model: str) -> TrainingSetPlan | None:
        for pipeline in self._project().pipelines.values():
            graph = build_graph(pipeline)
            if any(_makes(call.operation, model) for call in graph.calls):
                return _training_set_of(graph)
        return None


class _Declared:
    """The tables and features of one state of a project's files."""

    def __init__(
        self,
        tables: dict[str, Table],
        views: dict[str, FeatureView],
        request_features: dict[str, RequestFeatures],
        *,
        is_live: bool,
    ) -> None:
        self.tables = tables
        self.views = views
        self.request_features = request_features
        self.is_live = is_live

    @classmethod
    def of(cls, module: ModuleType) -> "_Declared":
        """Gather from the module of a package's project file."""
        return cls(gather(module, Table), gather(module, FeatureView), gather(module, RequestFeatures), is_live=False)


def _read_files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.py")}


def _makes(operation: object, model: str) -> bool:
    return isinstance(operation, CandidateOperation) and operation.model_name == model


def _training_set_of(graph: Graph) -> TrainingSetPlan | None:
    for call in graph.calls:
        if isinstance(call.operation, TrainingSetOperation):
            return call.operation.plan
    return None
