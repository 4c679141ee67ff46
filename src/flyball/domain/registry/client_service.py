"""The one way into the registry for clients of the MLflow protocol, over the same models, versions and aliases."""

from collections.abc import Mapping, Sequence
from typing import Any

from flyball.core.clock import Clock
from flyball.core.durations import to_us
from flyball.domain.journal.service import Journal
from flyball.domain.registry import client_store, store
from flyball.domain.registry.aliases import CHALLENGER, CHAMPION
from flyball.domain.registry.gates import ModelGates
from flyball.domain.registry.ledger import Findings, Ledger, NewVersion
from flyball.domain.registry.lookups import check_alias, find_plan, list_reasons
from flyball.domain.registry.models import (
    PROMPT_TAG,
    AliasNotFoundError,
    ClientVersion,
    ClientVersionNotFoundError,
    ModelExistsError,
    ModelInUseError,
    ModelJudgedError,
    ModelNotFoundError,
    RegisteredModel,
    Stage,
)
from flyball.domain.registry.sources import Source, location_of, metrics_of, resolve
from flyball.domain.registry.version_files import ModelFiles
from flyball.domain.registry.versions import NotApprovedError, Status, make_ref
from flyball.domain.registry.vocabularies import MODELS, VERSIONS
from flyball.domain.tracking.filters import parse_filter, parse_orders
from flyball.domain.tracking.pages import read_token, write_token
from flyball.storage.db import Database, Transaction

ACTOR = "mlflow"


class ClientRegistry:
    """Registers, changes and finds models and versions for clients.

    Methods that write take the transaction that they are part of. A version of a model that no endpoint declares is
    approved as it comes; one of a declared model has to pass the endpoint's gates first, as Flyball's own have to.

    Args:
        db: Where they are kept.
        journal: Told of each change.
        clock: Tells when.
        files: What clients put into our store.
    """

    def __init__(self, db: Database, journal: Journal, clock: Clock, files: ModelFiles) -> None:
        self._db = db
        self._journal = journal
        self._clock = clock
        self._files = files
        self._ledger = Ledger(journal, clock)

    # Models

    def create_model(
        self, tx: Transaction, name: str, *, description: str = "", tags: Mapping[str, str] | None = None
    ) -> RegisteredModel:
        """Register a model without versions.

        Raises:
            ModelExistsError: There is one of that name.
        """
        if store.has_model(tx, name):
            raise ModelExistsError(name)
        client_store.insert_model(tx, name, description, self._now_us())
        client_store.put_model_tags(tx, name, tags or {})
        self._tell(tx, "created", name, {"is_prompt": PROMPT_TAG in (tags or {})})
        return self._require(tx, name)

    def get_model(self, name: str) -> RegisteredModel:
        """Return a model.

        Raises:
            ModelNotFoundError: There is none.
        """
        with self._db.read() as tx:
            return self._require(tx, name)

    def update_model(self, tx: Transaction, name: str, description: str) -> RegisteredModel:
        """Keep what is said of a model.

        Raises:
            ModelNotFoundError: There is none.
        """
        self._require_name(tx, name)
        client_store.update_model(tx, name, self._now_us(), description=description)
        return self._require(tx, name)

    def rename_model(self, tx: Transaction, name: str, new_name: str) -> RegisteredModel:
        """Give a model another name.

        Raises:
            ModelNotFoundError: There is none.
            ModelExistsError: There is one of the new name.
            ModelJudgedError: Its versions were packaged or approved under its name, or an endpoint names it.
        """
        self._require_name(tx, name)
        if name == new_name:
            return self._require(tx, name)
        # Versions that were deleted still have their numbers.
        if store.has_model(tx, new_name) or store.last_number(tx, new_name):
            raise ModelExistsError(new_name)
        if find_plan(tx, name) is not None or client_store.has_judged_versions(tx, name):
            raise ModelJudgedError(name)
        client_store.rename_model(tx, name, new_name, self._now_us())
        self._tell(tx, "renamed", new_name, {"from": name, "to": new_name})
        return self._require(tx, new_name)

    def delete_model(self, tx: Transaction, name: str) -> None:
        """Take a model and its versions away; journal and history keep what they were.

        Raises:
            ModelNotFoundError: There is none.
            ModelInUseError: An endpoint serves a version of it.
        """
        self._require_name(tx, name)
        for alias in store.list_aliases_now(tx, name):
            self._refuse_if_used(tx, name, alias, f"the model {name!r}")
        for alias in store.list_aliases_now(tx, name):
            self._move(tx, name, alias, None, "its model was deleted")
        for location in client_store.list_locations(tx, name):
            self._files.remove(tx, location)
        client_store.delete_model(tx, name, self._now_us())
        self._tell(tx, "deleted", name, {})

    def set_model_tag(self, tx: Transaction, name: str, key: str, value: str) -> None:
        """Keep a tag.

        Raises:
            ModelNotFoundError: There is no such model.
        """
        self._require_name(tx, name)
        client_store.put_model_tags(tx, name, {key: value})
        self._tell(tx, "tagged", name, {"key": key, "value": value[:_SHOWN]})

    def delete_model_tag(self, tx: Transaction, name: str, key: str) -> None:
        """Remove a tag; one that is not there is no error, as clients expect.

        Raises:
            ModelNotFoundError: There is no such model.
        """
        self._require_name(tx, name)
        if client_store.delete_model_tag(tx, name, key):
            self._tell(tx, "untagged", name, {"key": key})

    def search_models(
        self, *, filter_text: str = "", orders: Sequence[str] = (), limit: int = 100, token: str = ""
    ) -> tuple[list[RegisteredModel], str]:
        """Return a page of models, and the token of the next one; empty where there is none.

        Raises:
            FilterError: The filter or the order cannot be read.
            PageTokenError: The token is of another search.
        """
        conditions, order = parse_filter(filter_text, MODELS), parse_orders(orders, MODELS)
        query = ["models", filter_text, list(orders)]
        after = read_token(query, token, [kind for _, _, kind in client_store.model_keys(order)]) if token else None
        with self._db.read() as tx:
            found = client_store.search_models(tx, conditions, order, after=after, limit=limit + 1)
        shown = found[:limit]
        return [model for model, _ in shown], write_token(query, shown[-1][1]) if len(found) > limit else ""

    def latest_versions(self, name: str, stages: Sequence[Stage] = ()) -> list[ClientVersion]:
        """Return the newest version of each stage, or of some.

        Raises:
            ModelNotFoundError: There is no such model.
        """
        found = self.get_model(name).latest
        return [latest for latest in found if not stages or latest.version.stage in stages]

    # Versions

    def create_version(
        self,
        tx: Transaction,
        name: str,
        source: str,
        *,
        run_id: str = "",
        run_link: str = "",
        model_id: str = "",
        description: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> ClientVersion:
        """Register the next version of a model.

        Raises:
            ModelNotFoundError: There is no such model.
            SourceInvalidError: No version can be made from such a source.
            SourceMissingError: There is nothing at the source.
        """
        self._require_name(tx, name)
        tags = dict(tags or {})
        if PROMPT_TAG in tags:  # the text is a tag; there are no files
            found = Source(location=source)
        else:
            found = resolve(tx, self._files, source, run_id=run_id, model_id=model_id)
        copied = found.copied
        new = NewVersion(
            model=name,
            package_digest=copied.package_digest if copied else "",
            metrics=copied.metrics if copied else metrics_of(tx, found),
            run_id=found.run_id or run_id,
            lineage=copied.lineage if copied else {},
            description=description,
            source=source,
            # Nobody can change, or delete with its run, what was registered.
            location=self._files.seal(tx, found.location) if found.content_digest else found.location,
            content_digest=found.content_digest,
            logged_model=found.logged.id if found.logged else "",
            run_link=run_link,
        )
        version = self._ledger.create(tx, new, ACTOR, None)
        client_store.put_version_tags(tx, name, version.number, tags)
        if find_plan(tx, name) is None:
            self._ledger.gate(tx, version, ModelGates(), Findings(), ACTOR, None)
        return self._require_version(tx, name, version.number)

    def get_version(self, name: str, number: int) -> ClientVersion:
        """Return a version.

        Raises:
            ModelNotFoundError: There is no such model.
            ClientVersionNotFoundError: It has no such version, or no more.
        """
        with self._db.read() as tx:
            return self._require_version(tx, name, number)

    def get_location(self, name: str, number: int) -> str:
        """Return where a version's files are. See `get_version`."""
        return location_of(self.get_version(name, number).version)

    def update_version(self, tx: Transaction, name: str, number: int, description: str) -> ClientVersion:
        """Keep what is said of a version. See `get_version`."""
        self._require_version(tx, name, number)
        client_store.update_version(tx, name, number, self._now_us(), description=description)
        return self._require_version(tx, name, number)

    def delete_version(self, tx: Transaction, name: str, number: int) -> None:
        """Take a version away, and the aliases that mean it; its number is not given again. See `get_version`.

        Raises:
            ModelInUseError: An endpoint serves it.
        """
        found = self._require_version(tx, name, number)
        ref = make_ref(name, number)
        for alias in found.aliases:
            self._refuse_if_used(tx, name, alias, f"the version {ref!r}")
        for alias in found.aliases:
            self._move(tx, name, alias, None, "its version was deleted")
        if found.version.content_digest:
            self._files.remove(tx, found.version.location)
        client_store.delete_version(tx, name, number, self._now_us())
        client_store.update_model(tx, name, self._now_us())
        self._ledger.tell(tx, "deleted", found.version, {}, ACTOR, None)

    def set_version_tag(self, tx: Transaction, name: str, number: int, key: str, value: str) -> None:
        """Keep a tag. See `get_version`."""
        found = self._require_version(tx, name, number)
        client_store.put_version_tags(tx, name, number, {key: value})
        self._ledger.tell(tx, "tagged", found.version, {"key": key, "value": value[:_SHOWN]}, ACTOR, None)

    def delete_version_tag(self, tx: Transaction, name: str, number: int, key: str) -> None:
        """Remove a tag; one that is not there is no error, as clients expect. See `get_version`."""
        found = self._require_version(tx, name, number)
        if client_store.delete_version_tag(tx, name, number, key):
            self._ledger.tell(tx, "untagged", found.version, {"key": key}, ACTOR, None)

    def set_stage(
        self, tx: Transaction, name: str, number: int, stage: Stage, *, archives_others: bool = False
    ) -> ClientVersion:
        """Move a version to a stage. See `get_version`.

        Raises:
            NotApprovedError: An endpoint declares the model, and only an approved version may be in production.
        """
        found = self._require_version(tx, name, number)
        is_approved = found.version.status is Status.APPROVED
        if stage is Stage.PRODUCTION and not is_approved and find_plan(tx, name) is not None:
            reasons = list_reasons(tx, found.version)
            raise NotApprovedError(found.version.ref, found.version.status, f"of stage {stage.value}", reasons)
        now_us = self._now_us()
        others = []
        if archives_others and stage in (Stage.STAGING, Stage.PRODUCTION):
            others = client_store.archive_others(tx, name, number, stage.value, now_us)
        client_store.update_version(tx, name, number, now_us, stage=stage.value)
        client_store.update_model(tx, name, now_us)
        data = {"from": found.version.stage, "to": stage.value, "archived": others}
        self._ledger.tell(tx, "staged", found.version, data, ACTOR, None)
        return self._require_version(tx, name, number)

    def search_versions(
        self, *, filter_text: str = "", orders: Sequence[str] = (), limit: int = 10_000, token: str = ""
    ) -> tuple[list[ClientVersion], str]:
        """Return a page of versions, and the token of the next one; empty where there is none.

        Raises:
            FilterError: The filter or the order cannot be read.
            PageTokenError: The token is of another search.
        """
        conditions, order = parse_filter(filter_text, VERSIONS), parse_orders(orders, VERSIONS)
        query = ["versions", filter_text, list(orders)]
        after = read_token(query, token, [kind for _, _, kind in client_store.version_keys(order)]) if token else None
        with self._db.read() as tx:
            found = client_store.search_versions(tx, conditions, order, after=after, limit=limit + 1)
        shown = found[:limit]
        return [version for version, _ in shown], write_token(query, shown[-1][1]) if len(found) > limit else ""

    # Aliases

    def set_alias(self, tx: Transaction, name: str, alias: str, number: int) -> None:
        """Let an alias mean a version. See `get_version`.

        Raises:
            NotApprovedError: Champion and challenger take traffic, so they must be approved.
            EvidenceChangedError: The approval does not hold.
        """
        found = self._require_version(tx, name, number)
        check_alias(tx, name, alias, found.version)
        self._move(tx, name, alias, number, "set by a client")

    def delete_alias(self, tx: Transaction, name: str, alias: str) -> None:
        """Let an alias mean nothing; one that means nothing is no error, as clients expect.

        Raises:
            ModelNotFoundError: There is no such model.
            ModelInUseError: An endpoint serves what it means.
        """
        self._require_name(tx, name)
        if store.find_alias_now(tx, name, alias) is not None:
            self._refuse_if_used(tx, name, alias, f"the alias {alias!r} of {name!r}")
            self._move(tx, name, alias, None, "removed by a client")

    def get_by_alias(self, name: str, alias: str) -> ClientVersion:
        """Return the version that an alias means.

        Raises:
            ModelNotFoundError: There is no such model.
            AliasNotFoundError: It means nothing.
        """
        with self._db.read() as tx:
            number = store.find_alias_now(tx, name, alias)
            if number is None:
                self._require_name(tx, name)
                raise AliasNotFoundError(name, alias)
            return self._require_version(tx, name, number)

    def _move(self, tx: Transaction, name: str, alias: str, number: int | None, reason: str) -> None:
        moved = self._ledger.move_alias(
            tx, name, alias, number, reason=reason, actor=ACTOR, cause=None, event_time=None
        )
        if moved is not None:
            client_store.update_model(tx, name, self._now_us())

    def _refuse_if_used(self, tx: Transaction, name: str, alias: str, what: str) -> None:
        if alias in (CHAMPION, CHALLENGER) and find_plan(tx, name) is not None:
            raise ModelInUseError(what, alias)

    def _require_name(self, tx: Transaction, name: str) -> None:
        if not store.has_model(tx, name):
            raise ModelNotFoundError(name)

    def _require(self, tx: Transaction, name: str) -> RegisteredModel:
        found = client_store.find_model(tx, name)
        if found is None:
            raise ModelNotFoundError(name)
        return found

    def _require_version(self, tx: Transaction, name: str, number: int) -> ClientVersion:
        found = client_store.find_version(tx, name, number)
        if found is None:
            self._require_name(tx, name)
            raise ClientVersionNotFoundError(name, number)
        return found

    def _tell(self, tx: Transaction, what: str, name: str, data: dict[str, Any]) -> None:
        self._journal.append(tx, f"registry.model.{what}", f"model/{name}", {"model": name, **data}, actor=ACTOR)

    def _now_us(self) -> int:
        return to_us(self._clock.now())


_SHOWN = 200
"""Signs of a tag's value that the journal keeps."""
