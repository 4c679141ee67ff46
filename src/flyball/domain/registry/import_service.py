"""The one way in for models and versions of another store: as they are, with their numbers and times."""

from collections.abc import Sequence

import msgspec

from flyball.core.clock import Clock
from flyball.core.durations import from_us
from flyball.core.errors import ConflictError
from flyball.domain.journal.service import Journal
from flyball.domain.registry import client_store, import_store, logged_store, store
from flyball.domain.registry.foreign import ForeignLoggedModel, ForeignModel, ForeignVersion
from flyball.domain.registry.gates import ModelGates
from flyball.domain.registry.ledger import Findings, Ledger
from flyball.domain.registry.logged_models import LoggedModel
from flyball.domain.registry.lookups import check_alias, find_plan
from flyball.domain.registry.models import PROMPT_TAG
from flyball.domain.registry.sources import Source, metrics_of
from flyball.domain.registry.version_files import ModelFiles
from flyball.domain.registry.versions import ModelVersion, Status
from flyball.domain.tracking.artifacts import is_kept_here
from flyball.storage.db import Transaction

ACTOR = "import"


class RegistryImport:
    """Adds what is not there yet, so that everything can be brought over again after an interruption.

    Args:
        journal: Told of each model, version and alias.
        clock: Tells when it came here.
        files: The files that were brought over before.
    """

    def __init__(self, journal: Journal, clock: Clock, files: ModelFiles) -> None:
        self._journal = journal
        self._ledger = Ledger(journal, clock)
        self._clock = clock
        self._files = files

    def put_logged_models(
        self, tx: Transaction, models: Sequence[ForeignLoggedModel], experiments: dict[int, int]
    ) -> None:
        """Add logged models; ``experiments`` are the numbers of experiments here by those there."""
        present = {found.id for found in logged_store.find_models(tx, [model.id for model in models])}
        for model in models:
            if model.id in present:
                continue
            logged_store.insert_model(
                tx,
                LoggedModel(
                    number=0,
                    id=model.id,
                    experiment_id=experiments[model.experiment_id],
                    name=model.name,
                    model_type=model.model_type,
                    run_id=model.run_id,
                    status=model.status,
                    created_at_us=model.created_ms * 1000,
                    updated_at_us=model.updated_ms * 1000,
                    is_deleted=False,
                    root="",
                    params=model.params,
                    tags=model.tags,
                ),
            )
            if model.is_deleted:
                number = logged_store.find_models(tx, [model.id])[0].number
                logged_store.set_deleted(tx, number, model.updated_ms * 1000)

    def put_model(self, tx: Transaction, model: ForeignModel) -> None:
        """Add a registered model without its versions, unless there is one of the name."""
        if store.has_model(tx, model.name):
            import_store.add_model_tags(tx, model.name, model.tags)
            return
        import_store.insert_model(tx, model.name, model.description, model.created_ms * 1000, model.updated_ms * 1000)
        client_store.put_model_tags(tx, model.name, model.tags)
        data = {"model": model.name, "is_prompt": PROMPT_TAG in model.tags}
        self._journal.append(tx, "registry.model.created", f"model/{model.name}", data, actor=ACTOR)

    def put_version(self, tx: Transaction, name: str, found: ForeignVersion, location: str) -> bool:
        """Add a version under its number; tell whether this one is there now, rather than another one.

        Args:
            tx: A write transaction.
            name: The model's name.
            found: The version.
            location: Where its files are here.
        """
        present = store.find_version(tx, name, found.number)
        if present is not None:
            return present.source == found.source and present.created_at == from_us(found.created_ms * 1000)
        logged = logged_store.find_models(tx, [found.model_id]) if found.model_id else []
        source = Source(location=location, run_id=found.run_id, logged=logged[0] if logged else None)
        is_here = PROMPT_TAG not in found.tags and is_kept_here(location)
        digest = self._files.digest(tx, location) if is_here else None
        version = ModelVersion(
            model=name,
            number=found.number,
            status=Status.CANDIDATE,
            package_digest="",
            metrics=metrics_of(tx, source),
            run_id=found.run_id,
            description=found.description,
            created_at=from_us(found.created_ms * 1000),
            created_by=found.user,
            source=found.source,
            location=self._files.seal(tx, location) if digest else location,
            content_digest=digest or "",
            logged_model=logged[0].id if logged else "",
            run_link=found.run_link,
            stage=found.stage.value,
            updated_at=from_us(found.updated_ms * 1000),
        )
        store.append_version(tx, version)
        client_store.put_version_tags(tx, name, found.number, found.tags)
        data = {
            "package": "",
            "source": version.source,
            "content": version.content_digest,
            "run": version.run_id,
            "metrics": version.metrics,
            "snapshots": {},
        }
        self._ledger.tell(tx, "created", version, data, ACTOR, None)
        if find_plan(tx, name) is None:
            self._ledger.gate(tx, version, ModelGates(), Findings(), ACTOR, None)
        return True

    def put_alias(self, tx: Transaction, name: str, alias: str, number: int) -> str:
        """Let an alias mean what it means there, unless it means something here already; return why it does not."""
        version = client_store.find_version(tx, name, number)
        if version is None:
            return f"there is no version {number}"
        before = store.find_alias_now(tx, name, alias)
        if before is not None:
            return "" if before == number else f"it means version {before} here"
        try:
            check_alias(tx, name, alias, version.version)
        except ConflictError as error:
            return error.message
        self._ledger.move_alias(
            tx, name, alias, number, reason="brought over", actor=ACTOR, cause=None, event_time=self._clock.now()
        )
        return ""


def with_model_id(version: ForeignVersion, model_id: str) -> ForeignVersion:
    """Return a version that is known to be made from a logged model."""
    return msgspec.structs.replace(version, model_id=model_id)
