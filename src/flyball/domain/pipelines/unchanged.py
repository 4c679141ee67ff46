"""Answers a run of an unchanged project without importing it, nor anything heavy.

Imports only the standard library, msgspec and the rooms' light modules: see `docs/decisions`. The whole process of
``flyball run`` then takes a fraction of a second.
"""

import os.path
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from flyball.core.boots import boot_id
from flyball.core.clock import SystemClock
from flyball.core.durations import to_us
from flyball.core.ids import IdSource
from flyball.core.settings import load_settings
from flyball.domain.journal.service import Journal
from flyball.domain.pipelines import store
from flyball.domain.pipelines.certificates import VERSION, Certificate, list_modules, params_text
from flyball.domain.pipelines.fingerprints import Watched, check_watched
from flyball.domain.pipelines.results import RunResult
from flyball.domain.tracking import store as tracking_store
from flyball.domain.tracking.distributions import environment_digest
from flyball.domain.tracking.processes import this_process
from flyball.domain.tracking.runs import Run, RunStatus
from flyball.storage.blobs import LocalBlobStore
from flyball.storage.db import Database, Transaction, database_url

BLOBS_FOLDER = "blobs"


def check_unchanged(
    home: Path,
    project_dir: Path,
    pipeline: str,
    params: Mapping[str, Any] | None = None,
    *,
    actor: str = "system",
) -> RunResult | None:
    """Record a run without carrying it out, if nothing that the last successful one depended on has changed.

    Args:
        home: The home; if it does not exist, nothing is made.
        project_dir: The project's folder.
        pipeline: The pipeline's name.
        params: Parameters set from outside, as given to `PipelineService.run`.
        actor: Who or what asks.

    Returns:
        The run, every step cached; None if anything changed, so that the run must be carried out.
    """
    text = params_text(params or {})
    url = database_url(home, load_settings(project_dir)[0].database)
    if text is None or (url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).is_file()):
        return None
    db = Database(url)
    try:
        with db.read() as tx:
            body = store.find_certificate(tx, pipeline, text)
        certificate = _decode(body)
        if certificate is None or certificate.project != str(project_dir.resolve()):
            return None
        present = _check(db, certificate, LocalBlobStore(home / BLOBS_FOLDER))
        if present is None:
            return None
        return _record(db, pipeline, text, certificate, present, actor)
    finally:
        db.close()


def _decode(body: bytes | None) -> Certificate | None:
    if body is None:
        return None
    try:
        certificate = msgspec.json.decode(body, type=Certificate)
    except msgspec.DecodeError:  # written by another release
        return None
    return certificate if certificate.version == VERSION else None


def _check(db: Database, certificate: Certificate, blobs: LocalBlobStore) -> Certificate | None:
    """Return the certificate with the present state of the files, or None when anything differs."""
    now_us = to_us(SystemClock().now())
    if certificate.valid_until_us is not None and now_us >= certificate.valid_until_us:
        return None
    if certificate.environment != environment_digest() or certificate.boot not in ("", boot_id()):
        return None
    if any(map(os.path.exists, certificate.absent)):
        return None
    try:
        if any(list_modules(folder) != names for folder, names in certificate.listings.items()):
            return None
    except OSError:
        return None
    sources = [check_watched(Watched(stamp.path, [stamp])) for stamp in certificate.sources]
    watched = [check_watched(one) for one in certificate.watched]
    if None in sources or None in watched or not all(map(blobs.has, certificate.blobs)):
        return None
    with db.read() as tx:
        if _was_voided(tx, certificate) or tracking_store.find_run(tx, certificate.run_id) is None:
            return None
    return msgspec.structs.replace(
        certificate,
        sources=[one.files[0] for one in sources if one is not None],
        watched=[one for one in watched if one is not None],
    )


def _was_voided(tx: Transaction, certificate: Certificate) -> bool:
    return any(store.has_event_since(tx, kind, certificate.seq) for kind in certificate.unless)


def _record(
    db: Database, pipeline: str, params: str, before: Certificate, present: Certificate, actor: str
) -> RunResult:
    clock = SystemClock()
    journal = Journal(db, clock)
    started = clock.now()
    with db.begin() as tx:
        original = tracking_store.find_run(tx, before.run_id)
        assert original is not None
        facts = original.facts and msgspec.structs.replace(original.facts, unchanged_since=original.id)
        run = Run(
            id=IdSource(clock).new(),
            pipeline=pipeline,
            status=RunStatus.SUCCEEDED,
            actor=actor,
            cause=None,
            as_of=None,
            started_at=started,
            finished_at=clock.now(),
            facts=facts,
        )
        tracking_store.insert_run(tx, run, this_process())
        tracking_store.copy_logged(tx, original.id, run.id)
        store.put_cached_steps(tx, original.id, run.id, f"cached since run {original.id}")
        if present != before:
            store.put_certificate(tx, pipeline, params, present.encode())
        data = {"pipeline": pipeline, "unchanged_since": original.id}
        start = journal.append(tx, "pipelines.run.started", f"run/{run.id}", data, actor=actor)
        data = {"pipeline": pipeline, "status": run.status.value, "unchanged_since": original.id}
        journal.append(tx, "pipelines.run.finished", f"run/{run.id}", data, actor=actor, cause=start.seq)
        steps = store.list_steps(tx, run.id)
    return RunResult(
        run_id=run.id,
        pipeline=pipeline,
        status=run.status,
        steps=steps,
        outputs=present.outputs,
        notes=present.notes,
        duration=run.duration or timedelta(),
        is_unchanged=True,
    )
