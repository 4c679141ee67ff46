"""The one way into experiments."""

from collections.abc import Mapping, Sequence
from typing import Any

from flyball.core.clock import Clock
from flyball.core.durations import to_us
from flyball.domain.journal.service import Journal
from flyball.domain.tracking import experiment_store as store
from flyball.domain.tracking.experiments import (
    Experiment,
    ExperimentExistsError,
    ExperimentNotFoundError,
    ExperimentStateError,
    ExperimentTagNotFoundError,
    View,
)
from flyball.domain.tracking.filters import parse_filter, parse_orders
from flyball.domain.tracking.pages import read_token, write_token
from flyball.domain.tracking.vocabularies import EXPERIMENTS
from flyball.storage.db import Database, Transaction


class ExperimentService:
    """Makes, changes and finds experiments. Methods that write take the transaction that they are part of.

    Args:
        db: Where they are kept.
        journal: Told of each change.
        clock: Tells when.
    """

    def __init__(self, db: Database, journal: Journal, clock: Clock) -> None:
        self._db = db
        self._journal = journal
        self._clock = clock

    def create(
        self, tx: Transaction, name: str, *, artifact_location: str = "", tags: Mapping[str, str] | None = None
    ) -> int:
        """Add an experiment and return its number.

        Raises:
            ExperimentExistsError: Another one, perhaps a deleted one, has the name.
        """
        self._require_free(tx, name)
        number = store.insert_experiment(tx, name, artifact_location, self._now_us())
        if tags:
            store.put_tags(tx, number, tags, self._now_us())
        self._tell(tx, "tracking.experiment.created", number, {"name": name})
        return number

    def get(self, experiment_id: int) -> Experiment:
        """Return an experiment, deleted or not.

        Raises:
            ExperimentNotFoundError: There is none.
        """
        with self._db.read() as tx:
            return self._require(tx, experiment_id)

    def get_by_name(self, name: str) -> Experiment:
        """Return an experiment, deleted or not.

        Raises:
            ExperimentNotFoundError: There is none.
        """
        with self._db.read() as tx:
            found = store.find_experiment_of_name(tx, name)
        if found is None:
            raise ExperimentNotFoundError(name)
        return found

    def rename(self, tx: Transaction, experiment_id: int, name: str) -> None:
        """Give an experiment another name.

        Raises:
            ExperimentNotFoundError: There is none.
            ExperimentStateError: It is deleted.
            ExperimentExistsError: Another one has the name.
        """
        found = self._require_active(tx, experiment_id)
        if found.name != name:
            self._require_free(tx, name)
            store.rename(tx, experiment_id, name, self._now_us())
            self._tell(tx, "tracking.experiment.renamed", experiment_id, {"from": found.name, "to": name})

    def delete(self, tx: Transaction, experiment_id: int) -> None:
        """Mark an experiment and its runs as deleted.

        Raises:
            ExperimentNotFoundError: There is none, or it is deleted already.
        """
        found = self._require(tx, experiment_id)
        if found.is_deleted:
            raise ExperimentNotFoundError(experiment_id)
        store.set_deleted(tx, experiment_id, self._now_us(), self._now_us())
        self._tell(tx, "tracking.experiment.deleted", experiment_id, {"name": found.name})

    def restore(self, tx: Transaction, experiment_id: int) -> None:
        """Mark a deleted experiment and its runs as active.

        Raises:
            ExperimentNotFoundError: There is none that is deleted.
        """
        found = self._require(tx, experiment_id)
        if not found.is_deleted:
            raise ExperimentStateError(experiment_id, is_deleted=False)
        store.set_deleted(tx, experiment_id, None, self._now_us())
        self._tell(tx, "tracking.experiment.restored", experiment_id, {"name": found.name})

    def set_tag(self, tx: Transaction, experiment_id: int, name: str, value: str) -> None:
        """Keep a tag.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
            ExperimentStateError: It is deleted.
        """
        self._require_active(tx, experiment_id)
        store.put_tags(tx, experiment_id, {name: value}, self._now_us())

    def delete_tag(self, tx: Transaction, experiment_id: int, name: str) -> None:
        """Remove a tag.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
            ExperimentStateError: It is deleted.
            ExperimentTagNotFoundError: It has no such tag.
        """
        self._require_active(tx, experiment_id)
        if not store.delete_tag(tx, experiment_id, name):
            raise ExperimentTagNotFoundError(experiment_id, name)

    def search(
        self,
        *,
        filter_text: str = "",
        orders: Sequence[str] = (),
        view: View = View.ACTIVE,
        limit: int = 1_000,
        token: str = "",
    ) -> tuple[list[Experiment], str]:
        """Return a page of experiments, and the token of the next one; empty where there is none.

        Raises:
            FilterError: The filter or the order cannot be read.
            PageTokenError: The token is of another search.
        """
        conditions, order = parse_filter(filter_text, EXPERIMENTS), parse_orders(orders, EXPERIMENTS)
        query = ["experiments", filter_text, list(orders), view.value]
        kinds = [kind for _, _, kind in store.sort_keys(order)]
        after = read_token(query, token, kinds) if token else None
        with self._db.read() as tx:
            found = store.search(tx, conditions, order, view, after=after, limit=limit + 1)
        shown = found[:limit]
        return [experiment for experiment, _ in shown], write_token(query, shown[-1][1]) if len(found) > limit else ""

    def _require(self, tx: Transaction, experiment_id: int) -> Experiment:
        found = store.find_experiment(tx, experiment_id)
        if found is None:
            raise ExperimentNotFoundError(experiment_id)
        return found

    def _require_active(self, tx: Transaction, experiment_id: int) -> Experiment:
        found = self._require(tx, experiment_id)
        if found.is_deleted:
            raise ExperimentStateError(experiment_id, is_deleted=True)
        return found

    def _require_free(self, tx: Transaction, name: str) -> None:
        found = store.find_experiment_of_name(tx, name)
        if found is not None:
            raise ExperimentExistsError(name, is_deleted=found.is_deleted)

    def _tell(self, tx: Transaction, kind: str, experiment_id: int, data: dict[str, Any]) -> None:
        self._journal.append(tx, kind, f"experiment/{experiment_id}", data, actor="mlflow")

    def _now_us(self) -> int:
        return to_us(self._clock.now())
