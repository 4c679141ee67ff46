"""The SQL that removes what steps of runs returned that are gone, and tells which blobs the rest needs."""

from collections.abc import Collection, Iterator, Sequence

from flyball.core.encoding import from_json
from flyball.domain.pipelines.certificates import Certificate
from flyball.domain.pipelines.results import StoredValue
from flyball.storage.db import Transaction


def count_results(tx: Transaction, runs: Sequence[str]) -> int:
    """Return how many results of steps are kept of some runs."""
    going = set(runs)
    return sum(run in going for (run,) in tx.tuples("SELECT run_id FROM pipelines_result")) if going else 0


def remove_runs(tx: Transaction, runs: Sequence[str]) -> None:
    """Remove the steps and the kept results of runs."""
    for run in runs:
        tx.execute("DELETE FROM pipelines_step WHERE run_id = ?", (run,))
        tx.execute("DELETE FROM pipelines_result WHERE run_id = ?", (run,))


def list_blobs(tx: Transaction, without: Collection[str]) -> Iterator[str]:
    """Yield the digests of the blobs that kept results and certificates name, again and again.

    Args:
        tx: A transaction.
        without: Runs whose results do not count.
    """
    for run, text in tx.tuples("SELECT run_id, outputs FROM pipelines_result"):
        if run not in without:
            for value in from_json(text, list[StoredValue], what="a kept result"):
                yield from value.blobs
    for (body,) in tx.tuples("SELECT body FROM pipelines_certificate"):
        yield from from_json(body, Certificate, what="a certificate").blobs
