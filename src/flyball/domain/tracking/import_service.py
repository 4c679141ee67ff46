"""The one way in for experiments and runs of another store: as they are, with their ids and times."""

from collections.abc import Iterator, Mapping, Sequence

from flyball.domain.data import store as data_store
from flyball.domain.journal.service import Journal
from flyball.domain.tracking import client_store, experiment_store, import_store, point_store, store
from flyball.domain.tracking.client_runs import CONTEXT_TAG, SHORTEST_DIGEST
from flyball.domain.tracking.foreign import ForeignExperiment, ForeignRun
from flyball.domain.tracking.points import Point
from flyball.domain.tracking.runs import Link
from flyball.storage.db import Transaction

ACTOR = "import"


class ImportService:
    """Adds what is not there yet, so that everything can be brought over again after an interruption.

    What somebody changed here since stays: a tag or a parameter that is there keeps its value.

    Args:
        journal: Told of experiments, and of runs by the batch.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def ensure_experiment(self, tx: Transaction, found: ForeignExperiment, location: str) -> int:
        """Return the number here of an experiment; the one of its name, or a new one, with its number if that is free.

        Args:
            tx: A write transaction.
            found: The experiment.
            location: Where its runs' files are to be; empty for Flyball's own store.
        """
        present = experiment_store.find_experiment_of_name(tx, found.name)
        number = import_store.insert_experiment(tx, found, location) if present is None else present.id
        import_store.date_experiment(tx, number, found)
        import_store.add_experiment_tags(tx, number, found.tags)
        if present is None:
            data = {"name": found.name}
            self._journal.append(tx, "tracking.experiment.created", f"experiment/{number}", data, actor=ACTOR)
        return number

    def put_runs(
        self, tx: Transaction, runs: Sequence[ForeignRun], experiments: Mapping[int, int], source: str
    ) -> dict[str, int]:
        """Add runs with all but their points; return the numbers of all of them by id.

        Args:
            tx: A write transaction.
            runs: Some of which may be there already.
            experiments: The numbers of experiments here by those there.
            source: Where they come from, for the journal.
        """
        present = client_store.find_numbers(tx, [run.id for run in runs])
        new = [run for run in runs if run.id not in present]
        numbers = present | import_store.insert_runs(tx, new, experiments)
        homes = {numbers[run.id]: experiments[run.experiment_id] for run in new}
        homes |= import_store.find_experiments(tx, list(present.values()))
        for run in runs:
            if run.id in present:
                import_store.catch_up(tx, numbers[run.id], run)
            self._put_links(tx, numbers[run.id], homes[numbers[run.id]], run)
        import_store.add_items(
            tx,
            [(numbers[run.id], *item) for run in runs for item in _items(run.params, homes[numbers[run.id]])],
            [(numbers[run.id], *item) for run in runs for item in _items(run.tags, homes[numbers[run.id]])],
        )
        if new:
            data = {"runs": len(new), "first": new[0].id, "last": new[-1].id}
            self._journal.append(tx, "tracking.runs.imported", f"store/{source}", data, actor=ACTOR)
        return numbers

    def put_points(self, tx: Transaction, numbers: Mapping[str, int], points: Mapping[str, Sequence[Point]]) -> None:
        """Add points of runs, by the runs' ids; those that are there stay once."""
        homes = import_store.find_experiments(tx, [numbers[run_id] for run_id in points])
        for run_id, found in points.items():
            point_store.put_points(tx, numbers[run_id], homes[numbers[run_id]], found)

    def _put_links(self, tx: Transaction, number: int, experiment_id: int, run: ForeignRun) -> None:
        for found in run.datasets:
            client_store.put_input(tx, number, experiment_id, found, found.tags.get(CONTEXT_TAG))
            if len(found.dataset.digest) >= SHORTEST_DIGEST:
                for snapshot in data_store.find_ids(tx, found.dataset.digest):
                    store.put_link(tx, run.id, "in", Link(kind="snapshot", ref=snapshot))
        client_store.put_models(tx, number, "in", run.read_models)
        client_store.put_models(tx, number, "out", run.made_models)


def _items(found: Mapping[str, str], experiment_id: int) -> Iterator[tuple[str, int, str]]:
    """Yield what the columns of a parameter or a tag hold; no database but SQLite keeps the sign NUL."""
    for name, value in found.items():
        yield name.replace("\0", "\ufffd"), experiment_id, value.replace("\0", "\ufffd")
