"""Wires every room of one home to one project; the only place that knows all of them."""

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from flyball.core.clock import Clock, SystemClock
from flyball.core.errors import InvalidInputError
from flyball.core.settings import Settings
from flyball.domain.data.service import DataService
from flyball.domain.features.parts import Histories
from flyball.domain.features.service import FeatureService
from flyball.domain.loop.deployment import Deployer
from flyball.domain.loop.endpoints import Endpoint
from flyball.domain.loop.labelling import LabelIngest
from flyball.domain.loop.retraining import Retrainer
from flyball.domain.loop.review import PromotionReview
from flyball.domain.loop.service import LoopService
from flyball.domain.loop.sources import TableReader
from flyball.domain.loop.training import Trainer
from flyball.domain.monitoring.courier import Courier
from flyball.domain.monitoring.notifiers import open_notifiers
from flyball.domain.monitoring.service import MonitoringService
from flyball.domain.predictions.expiry import Expirer
from flyball.domain.predictions.publishing import Publisher
from flyball.domain.predictions.service import PredictionService
from flyball.domain.registry.gates import GatePlan
from flyball.domain.registry.packages import Package
from flyball.domain.registry.projects import ProjectSource
from flyball.domain.registry.runtimes import Runtimes
from flyball.domain.registry.service import RegistryService
from flyball.domain.registry.service_tests import ServiceTester, TestResult
from flyball.domain.serving.data_plane import DataPlane
from flyball.domain.serving.fleet import Fleet, ServedEndpoint
from flyball.domain.serving.loads import ObservedLoader
from flyball.domain.serving.on_demand import VersionsOnDemand
from flyball.domain.serving.shelf import Shelf
from flyball.domain.tracking.service import TrackingService
from flyball.storage.online.opening import open_online_store
from flyball.workspace.adoption import Adopter
from flyball.workspace.attributing import AttributionReader
from flyball.workspace.deployed import PackageReader
from flyball.workspace.home import Home
from flyball.workspace.masks import Masks
from flyball.workspace.outline import Outline
from flyball.workspace.project import Project
from flyball.workspace.rederiving import FeatureRederiver
from flyball.workspace.trainers import SubprocessTrainer
from flyball.workspace.upkeep import Upkeep


class Rooms(Home):
    """Every room of one project and its home; each is made when somebody first asks for it.

    Args:
        project_dir: The project's folder.
        home: Where everything is kept.
        clock: The machine's by default; a simulated one in a replay.
        entropy: Where the random part of ids comes from; a seeded one makes a replay repeatable.
        trainer: Runs retrainings; by default each in a process of its own.
        settings: By default what the project and the environment say.
        is_durable: Whether what is committed survives a power cut; a replay can be lived through again.
        project: What the project's file declares, if it was loaded before.
        outline: What serving needs of it, if that is known: the file is run only when more is asked for.
    """

    def __init__(
        self,
        project_dir: Path,
        home: Path,
        *,
        clock: Clock | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
        trainer: Trainer | None = None,
        settings: Settings | None = None,
        is_durable: bool = True,
        project: Project | None = None,
        outline: Outline | None = None,
    ) -> None:
        super().__init__(project_dir, home, clock=clock, entropy=entropy, settings=settings, is_durable=is_durable)
        self._project = project
        self._outline = outline
        self._trainer = trainer

    @cached_property
    def project(self) -> Project:
        """What the project's file declares; running it is put off until somebody asks."""
        return self._project or Project.load(self.project_dir)

    @cached_property
    def outline(self) -> Outline:
        """What serving needs of the project's file."""
        return self._outline or Outline.of(self.project)

    @cached_property
    def features(self) -> FeatureService:
        """Feature views, training sets, online features."""
        settings = self.settings
        online = open_online_store(
            settings.online,
            self.home,
            timeout_s=settings.online_timeout_seconds,
            is_synced=settings.durable == "disk",
        )
        return FeatureService(
            self.db,
            self.journal,
            self.clock,
            self.data,
            online,
            self.project_dir,
            locks=self.home / "locks",
            is_fallback_null=settings.online_fallback == "null",
            histories=_open_spark(settings) if settings.engine == "spark" else None,
        )

    @cached_property
    def runtimes(self) -> Runtimes:
        """How models compute."""
        return Runtimes()

    @cached_property
    def monitoring(self) -> MonitoringService:
        """Counts, findings and alerts."""
        return MonitoringService(self.db, self.journal, self.clock, on_alert=lambda: self.courier.wake())

    @cached_property
    def courier(self) -> Courier:
        """Tells people of alerts."""
        names = [name for name in self.settings.notifiers if name != "webhook"]
        notifiers = open_notifiers([*names, *(f"webhook:{url}" for url in self.settings.webhooks)])
        return Courier(self.db, self.journal, self.clock, notifiers)

    @cached_property
    def packages(self) -> PackageReader:
        """Versions that take traffic."""
        return PackageReader(
            self.registry,
            self.features,
            lambda: self.project,
            self.runtimes,
            lambda model: self.masks.unlogged(model),
            self.shelf,
        )

    @cached_property
    def masks(self) -> Masks:
        """What the prediction log may not hold."""
        return Masks(self.home, lambda: self.outline)

    @cached_property
    def predictions(self) -> PredictionService:
        """The log, which masks what the project calls sensitive, and the labels."""
        folder = self.home / "predictions"
        return PredictionService(
            self.db,
            self.journal,
            self.clock,
            folder,
            ids=self.ids,
            mask_of=lambda name: self.masks.of(name),
            is_log_synced=self.settings.durable == "disk",
            label_type_of=self.registry.find_label_type,
        )

    @cached_property
    def deployer(self) -> Deployer:
        """Takes versions to live and back."""
        return Deployer(
            self.db,
            self.journal,
            self.clock,
            self.registry,
            self.rollouts,
            self.monitoring,
            self.predictions,
            self.packages.baseline,
            self.packages.bring_online,
        )

    @cached_property
    def fleet(self) -> Fleet:
        """The versions in memory."""
        return Fleet(
            self._list_served(),
            champions=self.registry,
            rollouts=self.rollouts,
            loader=self.loader,
            db=self.db,
            journal=self.journal,
        )

    def _list_served(self) -> list[ServedEndpoint]:
        if self._outline is not None and self._outline.is_plain:
            return [
                ServedEndpoint(name=name, model=endpoint.model, on_violation=endpoint.on_violation)
                for name, endpoint in self._outline.endpoints.items()
            ]
        return [
            ServedEndpoint(
                name=name,
                model=endpoint.model,
                on_violation=endpoint.on_violation,
                graph=endpoint.graph,
                prepare=endpoint.prepare,
            )
            for name, endpoint in self.endpoints.items()
        ]

    @cached_property
    def loader(self) -> ObservedLoader:
        """Brings versions into memory, and notes it."""
        return ObservedLoader(self.packages, *((self.shelf.take_records,) if self.shelf else ()))

    @cached_property
    def shelf(self) -> Shelf | None:
        """Keeps models within the memory that is set, if any is."""
        budget_mb = self.settings.gateway_models_mb
        return Shelf(int(budget_mb * 1_000_000)) if budget_mb else None

    @cached_property
    def versions_on_demand(self) -> VersionsOnDemand:
        """Versions that callers name."""
        return VersionsOnDemand(self.fleet, self.loader, self.registry)

    @cached_property
    def data_plane(self) -> DataPlane:
        """The path of a request."""
        return DataPlane(self.fleet, self.features, self.predictions.log, self.clock, self.ids)

    @cached_property
    def endpoints(self) -> dict[str, Endpoint]:
        """The project's endpoints."""
        return self.project.endpoints

    @cached_property
    def loop(self) -> LoopService:
        """What keeps the models right."""
        reader = TableReader(self.data)
        trainer = self._trainer or SubprocessTrainer(self.project_dir, self.home)
        return LoopService(
            clock=self.clock,
            endpoints=self.endpoints,
            predictions=self.predictions,
            monitoring=self.monitoring,
            registry=self.registry,
            prepare=self.packages.bring_online,
            rollouts=self.rollouts,
            deployer=self.deployer,
            review=PromotionReview(
                self.db,
                self.journal,
                self.clock,
                self.registry,
                self.rollouts,
                self.predictions,
                self.packages.baseline,
            ),
            retrainer=Retrainer(self.db, self.journal, self.clock, self.registry, self.monitoring, reader, trainer),
            labels=LabelIngest(self.db, self.predictions, reader),
            deployed=self.packages,
            trainer=trainer,
            attributed=AttributionReader(self.predictions, self.registry.open, self.runtimes).of,
            adopt=self.adopter.adopt_all,
            expirer=Expirer(self.db, self.journal, self.home / "predictions", self.clock),
            publish=self._publish(),
            keep_up=self._keep_up(),
            rederived=FeatureRederiver(self.predictions, self.features, self.packages.views).of,
        )

    def _keep_up(self) -> Callable[[], None]:
        """Return what keeps the project's views online; a simulated life has those of its models only."""
        is_live = isinstance(self.clock, SystemClock)
        return Upkeep(self.features, self.project.views.values()).turn if is_live else lambda: None

    def _publish(self) -> Callable[[], None]:
        """Return what publishes the log for other readers; nobody else reads that of a simulated life."""
        if not isinstance(self.clock, SystemClock):
            return lambda: None
        return Publisher(self.db, self.home / "predictions", self.clock).publish_due

    def gate_plan(self) -> GatePlan:
        """Return what the endpoints ask of versions."""
        return GatePlan.gather(
            {endpoint.model: (endpoint.gates, endpoint.approval) for endpoint in self.project.endpoints.values()}
        )

    @cached_property
    def adopter(self) -> Adopter:
        """Takes up versions that clients registered."""
        return Adopter(self.registry, self.artifacts, self.runtimes, self.gate_plan)

    def run_services(self) -> Mapping[type[Any], Any]:
        """Return what the operations of a run may ask their context for."""
        project = self.project
        return {
            DataService: self.data,
            FeatureService: self.features,
            TrackingService: self.tracking,
            RegistryService: self.registry,
            Runtimes: self.runtimes,
            ServiceTester: ServiceTester(self._test_service),
            GatePlan: self.gate_plan(),
            ProjectSource: ProjectSource(
                root=project.root,
                files=project.files,
                tables=project.tables,
                attributed=frozenset(
                    endpoint.model for endpoint in project.endpoints.values() if endpoint.watches_attributions
                ),
            ),
        }

    def _test_service(self, package: Package, p99_s: float | None) -> list[TestResult]:
        """Test a package before it becomes a version, by the rules of the endpoint that will serve it."""
        from flyball.workspace.service_tests import run_tests

        served = (one for one in self.endpoints.values() if one.model == package.manifest.model)
        endpoint = next(served, None)
        return run_tests(self, package, "", p99_s, "refuse" if endpoint is None else endpoint.on_violation)


def _open_spark(settings: Settings) -> Histories:
    try:
        from flyball.engines.spark import SparkHistories
    except ImportError as error:
        raise InvalidInputError(
            "the setting engine = 'spark' needs PySpark, which is not installed",
            hint="Install it with: pip install 'flyball[spark]'",
        ) from error
    return SparkHistories(settings.spark)
