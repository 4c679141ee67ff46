"""Turns the records of a spool into a run, within one transaction."""

from collections.abc import Sequence
from itertools import groupby

from flyball.core.durations import from_us
from flyball.core.errors import NotFoundError
from flyball.domain.tracking import store
from flyball.domain.tracking.records import Described, Finished, Kept, Params, Point, Record, Started, Tags
from flyball.domain.tracking.runs import (
    Artifact,
    MetricPoint,
    Run,
    RunClosedError,
    RunFacts,
    RunNotFoundError,
    RunStatus,
)
from flyball.storage.blobs import BlobStore
from flyball.storage.db import Transaction

NAME_TAG = "mlflow.runName"
"""The tag under which clients look for a run's name."""


def receive(tx: Transaction, blobs: BlobStore, run_id: str, records: Sequence[Record]) -> None:
    """Keep records of one run in their order.

    Raises:
        RunNotFoundError: The first record does not start the run, and there is none.
        RunClosedError: The run has ended already.
        NotFoundError: The bytes of a file have not been sent.
    """
    if not isinstance(records[0], Started):
        status = store.run_status(tx, run_id)
        if status is None:
            raise RunNotFoundError(run_id)
        if status is not RunStatus.RUNNING:
            raise RunClosedError(run_id, status)
    for kind, group in groupby(records, type):
        if kind is Point:
            _keep_points(tx, run_id, [record for record in group if isinstance(record, Point)])
        else:
            for record in group:
                _keep(tx, blobs, run_id, record)


def _keep_points(tx: Transaction, run_id: str, points: Sequence[Point]) -> None:
    found = [
        MetricPoint(name=point.name, value=point.value, step=point.step, logged_at=from_us(point.at_us))
        for point in points
    ]
    store.put_points(tx, run_id, found, from_us(points[0].at_us))


def _keep(tx: Transaction, blobs: BlobStore, run_id: str, record: Record) -> None:
    match record:
        case Started():
            _start(tx, run_id, record)
        case Params(values):
            store.put_params(tx, run_id, values)
        case Tags(values):
            store.put_tags(tx, run_id, values)
        case Kept(name, digest, size_bytes):
            _require(blobs, digest)
            store.put_artifact(tx, run_id, Artifact(name=name, digest=digest, size_bytes=size_bytes))
        case Described(facts):
            _require_facts(blobs, facts)
            store.set_facts(tx, run_id, facts)
        case Finished(status, error, at_us):
            store.close_run(tx, run_id, status, error, from_us(at_us))


def _start(tx: Transaction, run_id: str, record: Started) -> None:
    run = Run(
        id=run_id,
        pipeline=record.experiment,
        status=RunStatus.RUNNING,
        actor=record.actor,
        cause=None,
        as_of=None,
        started_at=from_us(record.at_us),
    )
    # Without a process: what it logged is still to come when the program has ended, so its end does not close the run.
    store.insert_run(tx, run, "")
    if record.name:
        store.put_tags(tx, run_id, {NAME_TAG: record.name})


def _require_facts(blobs: BlobStore, facts: RunFacts) -> None:
    for digest in (facts.environment, facts.code.diff if facts.code else ""):
        if digest:
            _require(blobs, digest)


def _require(blobs: BlobStore, digest: str) -> None:
    if not blobs.has(digest):
        raise NotFoundError(f"the bytes {digest!r} have not been sent", hint="Send them first.")
