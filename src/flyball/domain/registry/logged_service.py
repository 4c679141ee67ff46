"""The one way into logged models."""

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from flyball.core.clock import Clock
from flyball.core.durations import to_us
from flyball.domain.journal.service import Journal
from flyball.domain.registry import logged_store as store
from flyball.domain.registry.logged_models import (
    DatasetUse,
    LoggedModel,
    LoggedModelNotFoundError,
    LoggedModelParamChangedError,
    ModelStatus,
    check_logged_name,
    new_model_id,
)
from flyball.domain.registry.models import RegistryTagNotFoundError
from flyball.domain.registry.vocabularies import LOGGED_MODELS
from flyball.domain.tracking import client_store, experiment_store
from flyball.domain.tracking.experiments import ExperimentNotFoundError, ExperimentStateError
from flyball.domain.tracking.filters import FilterError, Order, parse_filter, parse_orders
from flyball.domain.tracking.pages import read_token, write_token
from flyball.domain.tracking.runs import RunNotFoundError
from flyball.storage.db import Database, Transaction


class OrderBy(NamedTuple):
    """What a search is ordered by; a metric perhaps on one dataset only."""

    field_name: str
    is_ascending: bool = True
    dataset: DatasetUse | None = None


class LoggedModelService:
    """Keeps logged models. Methods that write take the transaction that they are part of.

    Args:
        db: Where they are kept.
        journal: Told of models that are made, finalised and deleted.
        clock: Tells when.
    """

    def __init__(self, db: Database, journal: Journal, clock: Clock) -> None:
        self._db = db
        self._journal = journal
        self._clock = clock

    def create(
        self,
        tx: Transaction,
        experiment_id: int,
        *,
        name: str = "",
        model_type: str = "",
        run_id: str = "",
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        model_id: str = "",
    ) -> LoggedModel:
        """Add a model whose files are to follow; it gets a new id unless it comes from another store with its own.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
            ExperimentStateError: It is deleted.
            RunNotFoundError: There is no such run.
            ItemInvalidError: The name cannot be used.
        """
        experiment = experiment_store.find_experiment(tx, experiment_id)
        if experiment is None:
            raise ExperimentNotFoundError(experiment_id)
        if experiment.is_deleted:
            raise ExperimentStateError(experiment_id, is_deleted=True)
        if run_id and client_store.find_run(tx, run_id) is None:
            raise RunNotFoundError(run_id)
        name = check_logged_name(name) if name else f"model-{random.randrange(10**8):08d}"
        model_id, now_us = model_id or new_model_id(), self._now_us()
        store.insert_model(
            tx,
            LoggedModel(
                number=0,
                id=model_id,
                experiment_id=experiment_id,
                name=name,
                model_type=model_type,
                run_id=run_id,
                status=ModelStatus.PENDING,
                created_at_us=now_us,
                updated_at_us=now_us,
                is_deleted=False,
                root="",
                params=dict(params or {}),
                tags=dict(tags or {}),
            ),
        )
        self._tell(tx, "created", model_id, {"experiment": experiment_id, "name": name, "run": run_id})
        return self.require(tx, model_id)

    def get(self, model_id: str, *, allow_deleted: bool = False) -> LoggedModel:
        """Return a model.

        Raises:
            LoggedModelNotFoundError: There is none, or it is deleted.
        """
        with self._db.read() as tx:
            return self.require(tx, model_id, allow_deleted=allow_deleted)

    def finalize(self, tx: Transaction, model_id: str, status: ModelStatus) -> LoggedModel:
        """Say whether all files of a model are there, and return it.

        Raises:
            LoggedModelNotFoundError: There is none.
        """
        model = self.require(tx, model_id)
        store.set_status(tx, model.number, status, self._now_us())
        self._tell(tx, "finalized", model_id, {"status": status.value})
        return self.require(tx, model_id)

    def delete(self, tx: Transaction, model_id: str) -> None:
        """Mark a model as deleted; versions that were made from it stay.

        Raises:
            LoggedModelNotFoundError: There is none.
        """
        store.set_deleted(tx, self.require(tx, model_id).number, self._now_us())
        self._tell(tx, "deleted", model_id, {})

    def log_params(self, tx: Transaction, model_id: str, params: Mapping[str, str]) -> None:
        """Keep parameters, all or none.

        Raises:
            LoggedModelNotFoundError: There is no such model.
            LoggedModelParamChangedError: A parameter has another value already.
        """
        model = self.require(tx, model_id)
        for name, value in params.items():
            if model.params.get(name, value) != value:
                raise LoggedModelParamChangedError(model_id, name)
        store.put_params(tx, model.number, {name: value for name, value in params.items() if name not in model.params})

    def set_tags(self, tx: Transaction, model_id: str, tags: Mapping[str, str]) -> LoggedModel:
        """Keep tags, and return the model.

        Raises:
            LoggedModelNotFoundError: There is no such model.
        """
        model = self.require(tx, model_id)
        store.put_tags(tx, model.number, tags)
        return msgspec.structs.replace(model, tags=dict(sorted({**model.tags, **tags}.items())))

    def delete_tag(self, tx: Transaction, model_id: str, key: str) -> None:
        """Remove a tag.

        Raises:
            LoggedModelNotFoundError: There is no such model.
            RegistryTagNotFoundError: It has no such tag.
        """
        if not store.delete_tag(tx, self.require(tx, model_id).number, key):
            raise RegistryTagNotFoundError(f"the logged model '{model_id}'", key)

    def search(
        self,
        experiment_ids: Sequence[int],
        *,
        filter_text: str = "",
        datasets: Sequence[DatasetUse] = (),
        orders: Sequence[OrderBy] = (),
        limit: int = 100,
        token: str = "",
    ) -> tuple[list[LoggedModel], str]:
        """Return a page of models, and the token of the next one; empty where there is none.

        Args:
            experiment_ids: Where to look.
            filter_text: Conditions on attributes, metrics, params and tags.
            datasets: What conditions on metrics are about; without such, only models with metrics on them are found.
            orders: The newest come first by default.
            limit: How many a page has.
            token: Of the page before.

        Raises:
            FilterError: The filter or the order cannot be read.
            PageTokenError: The token is of another search.
        """
        conditions = parse_filter(filter_text, LOGGED_MODELS)
        keys = store.sort_keys([(_read_order(order), order.dataset) for order in orders])
        query = [
            "logged models",
            sorted(experiment_ids),
            filter_text,
            list(datasets),
            [list(order) for order in orders],
        ]
        after = read_token(query, token, [kind for _, _, _, kind in keys]) if token else None
        if not experiment_ids:
            return [], ""
        with self._db.read() as tx:
            found = store.search(tx, experiment_ids, conditions, datasets, keys, after=after, limit=limit + 1)
        shown = found[:limit]
        return [model for model, _ in shown], write_token(query, shown[-1][1]) if len(found) > limit else ""

    def list_present(self, tx: Transaction, model_ids: Sequence[str]) -> list[LoggedModel]:
        """Return those of some models that are there, deleted or not."""
        return store.find_models(tx, model_ids)

    def require(self, tx: Transaction, model_id: str, *, allow_deleted: bool = False) -> LoggedModel:
        """Return a model in an open transaction.

        Raises:
            LoggedModelNotFoundError: There is none, or it is deleted.
        """
        found = store.find_models(tx, [model_id])
        if not found or (found[0].is_deleted and not allow_deleted):
            raise LoggedModelNotFoundError(model_id)
        return found[0]

    def _tell(self, tx: Transaction, what: str, model_id: str, data: dict[str, Any]) -> None:
        self._journal.append(tx, f"registry.logged-model.{what}", f"logged-model/{model_id}", data, actor="mlflow")

    def _now_us(self) -> int:
        return to_us(self._clock.now())


def _read_order(order: OrderBy) -> Order:
    (found,) = parse_orders([order.field_name], LOGGED_MODELS)
    if found.entity not in ("attribute", "metric"):
        raise FilterError(f"logged models cannot be ordered by {order.field_name[:200]!r}")
    return Order(found.entity, found.key, order.is_ascending)
