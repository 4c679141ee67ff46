"""The SQL that finds what was deleted long ago, removes it for good, and tells what the rest refers to."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

from flyball.core.durations import from_us
from flyball.core.encoding import from_json
from flyball.domain.tracking import artifact_store, trace_store
from flyball.domain.tracking.runs import RunFacts
from flyball.domain.tracking.traces import TRACE_PREFIX
from flyball.storage.db import Transaction

_BATCH = 500
_BY_NUMBER = ("param", "tag", "point", "latest", "input", "run_model")
_BY_ID = ("link", "fact", "received")


def find_deleted_runs(tx: Transaction, before_us: int) -> list[str]:
    """Return the runs that were deleted before an instant."""
    return [
        run for (run,) in tx.tuples("SELECT id FROM tracking_run WHERE deleted_at_us < ? ORDER BY id", (before_us,))
    ]


def keep_deleted(tx: Transaction, runs: Sequence[str], before_us: int) -> list[str]:
    """Return those of a few runs that were deleted before an instant."""
    sql = f"SELECT id FROM tracking_run WHERE id IN ({', '.join('?' * len(runs))}) AND deleted_at_us < ? ORDER BY id"
    return [run for (run,) in tx.tuples(sql, (*runs, before_us))]


def find_deleted_experiments(tx: Transaction, before_us: int, runs: Collection[str]) -> list[int]:
    """Return the experiments that were deleted before an instant and have no runs but some that go."""
    found = [
        number
        for (number,) in tx.tuples(
            "SELECT id FROM tracking_experiment WHERE deleted_at_us < ? AND id <> 0 ORDER BY id", (before_us,)
        )
    ]
    going = set(runs)
    return [
        number
        for number in found
        if all(run in going for (run,) in tx.tuples("SELECT id FROM tracking_run WHERE experiment_id = ?", (number,)))
    ]


def list_traces(tx: Transaction, experiments: Collection[int]) -> list[str]:
    """Return the traces of some experiments that may have files."""
    return [
        trace
        for number in experiments
        for (trace,) in tx.tuples("SELECT id FROM tracking_trace WHERE experiment_id = ?", (number,))
        if trace.startswith(TRACE_PREFIX)
    ]


def remove_runs(tx: Transaction, runs: Sequence[str]) -> int:
    """Remove runs with all that was logged to them and all names of their files; return how many were there."""
    count = 0
    for run in runs:
        number = tx.value("SELECT number FROM tracking_run WHERE id = ?", (run,))
        if number is None:
            continue
        count += 1
        for table in _BY_NUMBER:
            tx.send(f"DELETE FROM tracking_{table} WHERE run = ?", (number,))
        for table in _BY_ID:
            tx.send(f"DELETE FROM tracking_{table} WHERE run_id = ?", (run,))
        artifact_store.remove_owners(tx, [run])
        tx.send("DELETE FROM tracking_run WHERE number = ?", (number,))
    return count


def remove_experiments(tx: Transaction, experiments: Sequence[int]) -> int:
    """Remove experiments without runs, with their tags, datasets and traces; return how many were there."""
    count = 0
    for number in experiments:
        traces = tx.tuples("SELECT number FROM tracking_trace WHERE experiment_id = ?", (number,))
        trace_store.delete_traces(tx, [trace for (trace,) in traces])
        tx.send("DELETE FROM tracking_experiment_tag WHERE experiment_id = ?", (number,))
        tx.send("DELETE FROM tracking_dataset WHERE experiment_id = ?", (number,))
        count += tx.execute("DELETE FROM tracking_experiment WHERE id = ?", (number,))
    return count


def count_artifacts(tx: Transaction, owners: Sequence[str]) -> int:
    """Return how many files some runs, logged models or traces have."""
    count = 0
    for start in range(0, len(owners), _BATCH):
        part = owners[start : start + _BATCH]
        marks = ", ".join("?" * len(part))
        count += tx.value(f"SELECT count(*) FROM tracking_artifact WHERE owner IN ({marks})", part)
    return count


def list_blobs(tx: Transaction, without: Collection[str]) -> Iterator[str]:
    """Yield the digests of the blobs that files, environments and differences of code name, again and again.

    Args:
        tx: A transaction.
        without: Owners whose files do not count.
    """
    for owner, digest in tx.tuples("SELECT DISTINCT owner, digest FROM tracking_artifact"):
        if owner not in without:
            yield digest
    for run, text in tx.tuples("SELECT id, facts FROM tracking_run WHERE facts IS NOT NULL"):
        if run not in without:
            facts = from_json(text, RunFacts, what="a run's facts")
            yield from filter(None, (facts.environment, facts.code.diff if facts.code else ""))


def list_snapshots(tx: Transaction, without: Collection[str]) -> set[str]:
    """Return the snapshots that runs read or made."""
    rows = tx.tuples("SELECT run_id, ref FROM tracking_link WHERE kind = 'snapshot'")
    return {ref for run, ref in rows if run not in without}


def list_open(tx: Transaction) -> list[tuple[datetime, str]]:
    """Return of each open run of Flyball's own when it began, and the process that makes it."""
    rows = tx.tuples("SELECT started_at_us, process FROM tracking_run WHERE status = 'running' AND process <> ''")
    return [(from_us(started_us), process) for started_us, process in rows]
