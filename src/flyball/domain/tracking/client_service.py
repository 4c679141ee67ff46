"""The one way in for clients of the MLflow protocol: experiments, and runs that a client makes and goes on with."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flyball.core.clock import Clock
from flyball.core.durations import to_us
from flyball.core.errors import InvalidInputError
from flyball.core.ids import IdSource
from flyball.domain.data import store as data_store
from flyball.domain.journal.service import Journal
from flyball.domain.lineage.graph import RUN_READ
from flyball.domain.tracking import client_store, experiment_store, point_store, search_store, store
from flyball.domain.tracking.client_runs import (
    CONTEXT_TAG,
    MODELS_TAG,
    NAME_TAG,
    SHORTEST_DIGEST,
    ClientRun,
    DatasetInput,
    LoggedRun,
    ModelLink,
    ParamChangedError,
    RunNotYoursError,
    RunStateError,
    TagNotFoundError,
    random_name,
)
from flyball.domain.tracking.experiments import Experiment, ExperimentNotFoundError, ExperimentStateError, View
from flyball.domain.tracking.filters import parse_filter, parse_orders
from flyball.domain.tracking.pages import read_token, write_token
from flyball.domain.tracking.points import HistoryRow, Point
from flyball.domain.tracking.runs import Link, Maker, RunClosedError, RunNotFoundError, RunStatus
from flyball.domain.tracking.sampling import sample_steps
from flyball.domain.tracking.vocabularies import RUNS
from flyball.storage.db import Database, Transaction

_ENDED = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)
_HISTORY_KINDS = (int, int, float, int, str)


class Page(NamedTuple):
    """Runs, and where to go on; an empty token where there are no more."""

    runs: list[LoggedRun]
    token: str


class HistoryPage(NamedTuple):
    """Points of one metric, and where to go on."""

    rows: list[HistoryRow]
    token: str


class ClientRunService:
    """Makes, changes, reads and finds runs for clients.

    Methods that write take the transaction that they are part of, so that many requests share one.

    Args:
        db: Where runs are kept.
        journal: Told of runs that begin, end, are deleted and restored.
        clock: Tells the time where a client does not.
    """

    def __init__(self, db: Database, journal: Journal, clock: Clock) -> None:
        self._db = db
        self._journal = journal
        self._clock = clock
        self._ids = IdSource(clock)

    def create(
        self,
        tx: Transaction,
        experiment_id: int,
        *,
        name: str = "",
        user: str = "",
        started_at_us: int | None = None,
        tags: Mapping[str, str] | None = None,
        run_id: str = "",
    ) -> LoggedRun:
        """Begin a run; it gets a new id unless it comes from another store with its own.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
            ExperimentStateError: The experiment is deleted.
            InvalidInputError: The tag of the run's name says another name.
        """
        experiment = _require_experiment(tx, experiment_id)
        if experiment.is_deleted:
            raise ExperimentStateError(experiment_id, is_deleted=True)
        found = dict(tags or {})
        tagged = found.get(NAME_TAG, "")
        if name and tagged and name != tagged:
            raise InvalidInputError(
                f"Both 'run_name' argument and '{NAME_TAG}' tag are specified, but with different values"
                f" (run_name='{name}', {NAME_TAG}='{tagged}')",
            )
        found[NAME_TAG] = name or tagged or random_name()
        run_id, number = run_id or self._ids.new(), store.next_number(tx)
        started = self._now_us() if started_at_us is None else started_at_us
        client_store.insert_run(tx, number, run_id, experiment_id, RunStatus.RUNNING, user, started)
        client_store.put_tags(tx, number, experiment_id, found)
        self._tell(tx, "tracking.run.started", run_id, user, {"experiment": experiment_id})
        run = ClientRun(
            number, run_id, experiment_id, Maker.CLIENT, RunStatus.RUNNING, user, started, None, False,
            experiment.run_root(run_id),
        )  # fmt: skip
        return LoggedRun(run, [], [], [(number, *item) for item in sorted(found.items())], [], [], [])

    def update(
        self,
        tx: Transaction,
        run_id: str,
        *,
        status: RunStatus | None = None,
        finished_at_us: int | None = None,
        name: str = "",
    ) -> tuple[ClientRun, str]:
        """Change where a run stands, when it ended, and its name; return it with its name.

        Raises:
            RunNotFoundError: There is no such run.
            RunStateError: The run is deleted.
            RunNotYoursError: Flyball makes the run, so its status is not the client's.
        """
        run = self._require_active(tx, run_id)
        if name:
            client_store.put_tags(tx, run.number, run.experiment_id, {NAME_TAG: name})
        if status is not None or finished_at_us is not None:
            if run.maker is Maker.FLYBALL and (status or run.status) is not run.status:
                raise RunNotYoursError(run_id)
            if run.maker is Maker.CLIENT:
                client_store.update_run(
                    tx,
                    run.number,
                    status or run.status,
                    run.finished_at_us if finished_at_us is None else finished_at_us,
                )
                if status in _ENDED and run.status not in _ENDED:
                    self._tell(tx, "tracking.run.finished", run_id, run.actor, {"status": status.value})
        return self._require(tx, run_id), client_store.find_tag(tx, run.number, NAME_TAG) or ""

    def delete(self, tx: Transaction, run_id: str) -> None:
        """Mark a run as deleted; a second time changes nothing.

        Raises:
            RunNotFoundError: There is no such run.
        """
        run = self._require(tx, run_id)
        if not run.is_deleted:
            client_store.set_deleted(tx, run.number, self._now_us())
            self._tell(tx, "tracking.run.deleted", run_id, "", {"experiment": run.experiment_id})

    def restore(self, tx: Transaction, run_id: str) -> None:
        """Mark a deleted run as active; an active one stays.

        Raises:
            RunNotFoundError: There is no such run.
            ExperimentStateError: Its experiment is deleted.
        """
        run = self._require(tx, run_id)
        if run.is_deleted:
            if _require_experiment(tx, run.experiment_id).is_deleted:
                raise ExperimentStateError(run.experiment_id, is_deleted=True)
            client_store.set_deleted(tx, run.number, None)
            self._tell(tx, "tracking.run.restored", run_id, "", {"experiment": run.experiment_id})

    def log(
        self,
        tx: Transaction,
        run_id: str,
        *,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Keep points, parameters and tags, all or none.

        Raises:
            RunNotFoundError: There is no such run.
            RunStateError: The run is deleted.
            RunClosedError: Flyball made the run and has ended it; only its tags can change.
            ParamChangedError: A parameter has another value already.
        """
        run, present = client_store.find_run_and_params(tx, run_id, list(params or ()))
        run = self._check_active(run, run_id)
        if points or params:
            self._require_open(run)
        if params:
            for name, old in present.items():
                if params[name] != old:
                    raise ParamChangedError(run_id, name, old, params[name])
            new = {name: value for name, value in params.items() if name not in present}
            client_store.add_params(tx, run.number, run.experiment_id, new)
        if points:
            point_store.put_points(tx, run.number, run.experiment_id, points)
        if tags:
            client_store.put_tags(tx, run.number, run.experiment_id, tags)

    def delete_tag(self, tx: Transaction, run_id: str, name: str) -> None:
        """Remove a tag.

        Raises:
            RunNotFoundError: There is no such run.
            RunStateError: The run is deleted.
            TagNotFoundError: It has no such tag.
        """
        run = self._require_active(tx, run_id)
        if not client_store.delete_tag(tx, run.number, name):
            raise TagNotFoundError(run_id, name)

    def log_inputs(
        self, tx: Transaction, run_id: str, datasets: Sequence[DatasetInput], models: Sequence[ModelLink]
    ) -> None:
        """Keep which datasets and logged models a run read; a dataset that is a snapshot links the run to it.

        Raises:
            RunNotFoundError: There is no such run.
            RunStateError: The run is deleted.
            RunClosedError: Flyball made the run and has ended it.
        """
        run = self._require_active(tx, run_id)
        self._require_open(run)
        for found in datasets:
            client_store.put_input(tx, run.number, run.experiment_id, found, found.tags.get(CONTEXT_TAG))
            if len(found.dataset.digest) >= SHORTEST_DIGEST:
                for snapshot in data_store.find_ids(tx, found.dataset.digest):
                    self._link(tx, run, snapshot)
        client_store.put_models(tx, run.number, "in", models)

    def _link(self, tx: Transaction, run: ClientRun, snapshot: str) -> None:
        link = Link(kind="snapshot", ref=snapshot)
        if link not in store.links(tx, run.id, "in"):
            store.put_link(tx, run.id, "in", link)
            self._tell(tx, RUN_READ, run.id, run.actor, {"snapshot": snapshot})

    def log_outputs(self, tx: Transaction, run_id: str, models: Sequence[ModelLink]) -> None:
        """Keep which logged models a run made.

        Raises:
            RunNotFoundError: There is no such run.
            RunStateError: The run is deleted.
        """
        run = self._require_active(tx, run_id)
        client_store.put_models(tx, run.number, "out", models)

    def log_model(self, tx: Transaction, run_id: str, model: Any) -> None:
        """Add the description of a model to a run, as clients before release 3 do.

        Raises:
            RunNotFoundError: There is no such run.
            RunStateError: The run is deleted.
        """
        run = self._require_active(tx, run_id)
        before = client_store.find_tag(tx, run.number, MODELS_TAG)
        client_store.put_tags(tx, run.number, run.experiment_id, {MODELS_TAG: append_json(before, model)})

    def get(self, run_id: str) -> LoggedRun:
        """Return a run, deleted or not, with what was logged to it.

        Raises:
            RunNotFoundError: There is no such run.
        """
        with self._db.read() as tx:
            run = self._require(tx, run_id)
            return client_store.read_runs(tx, [run.number])[0]

    def search(
        self,
        experiment_ids: Sequence[int],
        *,
        filter_text: str = "",
        orders: Sequence[str] = (),
        view: View = View.ACTIVE,
        limit: int = 1_000,
        token: str = "",
    ) -> Page:
        """Return a page of runs.

        Raises:
            FilterError: The filter or the order cannot be read.
            PageTokenError: The token is of another search.
        """
        conditions, order = parse_filter(filter_text, RUNS), parse_orders(orders, RUNS)
        wanted = sorted(set(experiment_ids))
        query = [wanted, filter_text, list(orders), view.value]
        kinds = search_store.sort_kinds(order)
        after = read_token(query, token, kinds) if token else None
        hits: list[search_store.Hit] = []
        with self._db.read() as tx:
            for experiment_id in wanted:
                experiment = experiment_store.find_experiment(tx, experiment_id)
                if experiment is not None:
                    hits += search_store.find_page(
                        tx, experiment, conditions, order, view, after=after, limit=limit + 1
                    )
            if len(wanted) > 1:
                search_store.sort_hits(hits, order)
            shown = hits[:limit]
            runs = client_store.read_runs(tx, [hit.number for hit in shown])
        return Page(runs, write_token(query, shown[-1].keys) if len(hits) > limit else "")

    def history(self, run_id: str, name: str, *, limit: int, token: str = "") -> HistoryPage:
        """Return the points of a metric by time, step and value.

        Raises:
            RunNotFoundError: There is no such run.
            PageTokenError: The token is of another history.
        """
        query = ["history", run_id, name]
        after = read_token(query, token, _HISTORY_KINDS) if token else None
        with self._db.read() as tx:
            run = self._require(tx, run_id)
            rows = point_store.history(tx, run.number, name, after=after, limit=limit + 1)
        shown = rows[:limit]
        following = ""
        if len(rows) > limit:
            at_us, step, value, is_nan, *_, source = shown[-1]
            following = write_token(query, [at_us, step, value, is_nan, source])
        return HistoryPage(shown, following)

    def histories(
        self, run_ids: Sequence[str], name: str, *, steps: tuple[int, int] | None, limit: int
    ) -> list[tuple[str, list[HistoryRow]]]:
        """Return points of one metric of several runs, by run, at the same steps: evenly chosen, with the ends.

        Args:
            run_ids: Those that are not there are passed over.
            name: The metric.
            steps: The first and the last step to be shown; None for all.
            limit: How many steps at most.
        """
        first, last = steps or (-(2**63), 2**63 - 1)
        with self._db.read() as tx:
            numbers = client_store.find_numbers(tx, run_ids)
            present = [point_store.steps_of(tx, number, name, first, last) for number in numbers.values()]
            chosen = sample_steps(present, limit)
            return [
                (run_id, point_store.history_at(tx, number, name, chosen, max(limit, len(chosen))))
                for run_id, number in numbers.items()
            ]

    def list_datasets(self, experiment_ids: Sequence[int], limit: int) -> list[tuple[int, str, str, str | None]]:
        """Return the datasets that runs of some experiments read: experiment, name, digest, context."""
        with self._db.read() as tx:
            rows = client_store.list_datasets(tx, experiment_ids, limit)
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    def _require(self, tx: Transaction, run_id: str) -> ClientRun:
        run = client_store.find_run(tx, run_id)
        if run is None:
            raise RunNotFoundError(run_id)
        return run

    def _require_active(self, tx: Transaction, run_id: str) -> ClientRun:
        return self._check_active(client_store.find_run(tx, run_id), run_id)

    def _check_active(self, run: ClientRun | None, run_id: str) -> ClientRun:
        if run is None:
            raise RunNotFoundError(run_id)
        if run.is_deleted:
            raise RunStateError(run_id, is_deleted=True)
        return run

    def _require_open(self, run: ClientRun) -> None:
        if run.maker is Maker.FLYBALL and run.status is not RunStatus.RUNNING:
            raise RunClosedError(run.id, run.status)

    def _tell(self, tx: Transaction, kind: str, run_id: str, user: str, data: dict[str, Any]) -> None:
        self._journal.append(tx, kind, f"run/{run_id}", data, actor=f"user/{user}" if user else "mlflow")

    def _now_us(self) -> int:
        return to_us(self._clock.now())


def append_json(before: str | None, item: Any) -> str:
    """Return a JSON list, as text, with one more item.

    Raises:
        InvalidInputError: What was there is no JSON list.
    """
    try:
        found = json.loads(before) if before else []
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise InvalidInputError(f"the tag '{MODELS_TAG}' holds no JSON list, so nothing can be added to it")
    return json.dumps([*found, item])


def _require_experiment(tx: Transaction, experiment_id: int) -> Experiment:
    experiment = experiment_store.find_experiment(tx, experiment_id)
    if experiment is None:
        raise ExperimentNotFoundError(experiment_id)
    return experiment
