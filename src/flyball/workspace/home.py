"""The rooms that keep what has happened: enough to look back, without loading those that compute."""

import os
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from flyball.core.clock import Clock, SystemClock
from flyball.core.ids import IdSource
from flyball.core.settings import Settings, load_settings
from flyball.domain.access.service import AccessService
from flyball.domain.journal.service import Journal
from flyball.domain.lineage.service import LineageService
from flyball.domain.monitoring.webhook_service import WebhookService
from flyball.domain.registry.client_service import ClientRegistry
from flyball.domain.registry.logged_service import LoggedModelService
from flyball.domain.registry.service import RegistryService
from flyball.domain.registry.version_files import VersionFiles
from flyball.domain.registry.versions import ModelVersion
from flyball.domain.serving.service import RolloutService
from flyball.domain.tracking.artifact_service import ArtifactService
from flyball.domain.tracking.client_service import ClientRunService
from flyball.domain.tracking.experiment_service import ExperimentService
from flyball.domain.tracking.service import TrackingService
from flyball.domain.tracking.trace_service import TraceService
from flyball.storage.blobs import LocalBlobStore
from flyball.storage.db import Database, database_url

if TYPE_CHECKING:  # these rooms load Polars, which a server of runs alone can do without
    from flyball.domain.data.service import DataService
    from flyball.domain.predictions.labels import LabelValue, LabelVersion
    from flyball.domain.predictions.service import PredictionService


def open_journal(project_dir: Path, home: Path) -> Journal:
    """Open a home's journal without anything else of it."""
    return Journal(Database(database_url(home, load_settings(project_dir)[0].database)), SystemClock())


class Home:
    """One project's past and present. Each room is made on first use.

    Args:
        project_dir: The project's folder.
        home: Where everything is kept.
        clock: The machine's by default; a simulated one in a replay.
        entropy: Where the random part of ids comes from; a seeded one makes a replay repeatable.
        settings: By default what the project and the environment say.
        is_durable: Whether what is committed survives a power cut; a replay can be lived through again.
    """

    def __init__(
        self,
        project_dir: Path,
        home: Path,
        *,
        clock: Clock | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
        settings: Settings | None = None,
        is_durable: bool = True,
    ) -> None:
        self.project_dir = project_dir.resolve()
        self.home = home.resolve()
        self.clock = clock or SystemClock()
        self.settings = settings or load_settings(self.project_dir)[0]
        self.ids = IdSource(self.clock, entropy)
        self._is_durable = is_durable

    @cached_property
    def db(self) -> Database:
        """The metadata database."""
        return Database(database_url(self.home, self.settings.database), is_durable=self._is_durable)

    @cached_property
    def blobs(self) -> LocalBlobStore:
        """Content-addressed bytes."""
        return LocalBlobStore(self.home / "blobs")

    @cached_property
    def journal(self) -> Journal:
        """The spine."""
        return Journal(self.db, self.clock)

    @cached_property
    def lineage(self) -> LineageService:
        """What came from what."""
        return LineageService(self.journal)

    @cached_property
    def access(self) -> AccessService:
        """Users and roles."""
        return AccessService(self.settings.users)

    @cached_property
    def data(self) -> "DataService":
        """Tables and snapshots."""
        from flyball.domain.data.samples import share_of
        from flyball.domain.data.service import DataService

        return DataService(self.db, self.journal, self.clock, self.blobs, self.project_dir, sample=share_of(self.home))

    @cached_property
    def tracking(self) -> TrackingService:
        """Runs."""
        return TrackingService(self.db, self.journal, self.clock, self.blobs)

    @cached_property
    def experiments(self) -> ExperimentService:
        """What runs belong to."""
        return ExperimentService(self.db, self.journal, self.clock)

    @cached_property
    def client_runs(self) -> ClientRunService:
        """Runs as clients of the MLflow protocol make and see them."""
        return ClientRunService(self.db, self.journal, self.clock)

    @cached_property
    def traces(self) -> TraceService:
        """Traces of programs that answer requests."""
        return TraceService(self.db, self.journal, self.clock)

    @cached_property
    def artifacts(self) -> ArtifactService:
        """Files of runs and of logged models."""
        return ArtifactService(self.db, self.blobs)

    @cached_property
    def registry(self) -> RegistryService:
        """Models and versions."""
        return RegistryService(self.db, self.journal, self.clock, self.access, self.home / "packages")

    @cached_property
    def client_registry(self) -> ClientRegistry:
        """Models and versions as clients of the MLflow protocol make and see them."""
        return ClientRegistry(self.db, self.journal, self.clock, VersionFiles())

    @cached_property
    def logged_models(self) -> LoggedModelService:
        """Models that clients log to experiments."""
        return LoggedModelService(self.db, self.journal, self.clock)

    @cached_property
    def webhooks(self) -> WebhookService:
        """What clients of the MLflow protocol want to be told of the registry."""
        from flyball.notifiers.signed_webhook import SignedPoster  # it loads TLS

        poster = SignedPoster(self.clock, allows_private=self.settings.webhooks_to_private_addresses)
        return WebhookService(self.db, self.journal, self.clock, poster)

    @cached_property
    def predictions(self) -> "PredictionService":
        """The log and the labels."""
        from flyball.domain.predictions.service import PredictionService

        return PredictionService(
            self.db,
            self.journal,
            self.clock,
            self.home / "predictions",
            ids=self.ids,
            label_type_of=self.registry.find_label_type,
        )

    @cached_property
    def rollouts(self) -> RolloutService:
        """Ways to live."""
        return RolloutService(self.db, self.journal, self.clock, self.ids)

    def label(self, prediction_id: str, value: "LabelValue", *, at: datetime | None = None) -> "LabelVersion":
        """Keep how a prediction turned out. See `PredictionService.add_label`."""
        return self.predictions.add_label(prediction_id, value, at=at)

    def approve(self, ref: str, user: str) -> ModelVersion:
        """Sign a version's evidence. See `RegistryService.approve`."""
        return self.registry.approve(ref, user)
