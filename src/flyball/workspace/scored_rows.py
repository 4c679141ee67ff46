"""Finds one row of a scored table by its prediction id, in the folder that it was written to."""

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from flyball.core.durations import to_us
from flyball.core.encoding import to_json
from flyball.domain.predictions.records import PredictionRecord, PredictionStatus, Reason
from flyball.domain.serving import score_store
from flyball.domain.serving.row_scoring import NODE
from flyball.domain.serving.score_jobs import ScoreJob
from flyball.workspace.home import Home

VARIANT = "table"
_OURS = {"prediction_id", "model_version", "prediction", "scores", "scored_at", "status", "reasons"}


def find_scored(home: Home, prediction_id: str) -> PredictionRecord | None:
    """Return a row of a scored table as if it had been asked alone; None where no scoring gave it that id.

    Its request is what was kept of the table's row. Where the row is no longer in the folder, its version is all that
    is known.
    """
    with home.db.read() as tx:
        job = score_store.find_job_of(tx, prediction_id)
    if job is None:
        return None
    rows = _scan(Path(job.out), job)
    found = _find(rows, prediction_id)
    if found is not None:
        return _answered(job, found)
    rejected = _find(_scan_parquet(job.rejects, job), prediction_id)
    if rejected is not None:
        return _make(job, rejected, job.started_at, PredictionStatus(rejected["status"]), rejected["reasons"])
    gone = [{"field": "", "rule": "gone", "message": f"its row is no longer in {job.out}"}]
    return _make(job, {"prediction_id": prediction_id}, job.started_at, PredictionStatus.OK, gone)


def _scan(folder: Path, job: ScoreJob) -> pl.LazyFrame | None:
    if job.format == "parquet":
        return _scan_parquet(folder, job)
    return pl.scan_delta(str(folder)) if (folder / "_delta_log").is_dir() else None


def _scan_parquet(folder: Path, job: ScoreJob) -> pl.LazyFrame | None:
    paths = sorted(folder.glob(f"part-{job.id}-*.parquet"))
    return pl.scan_parquet(paths) if paths else None


def _find(rows: pl.LazyFrame | None, prediction_id: str) -> dict[str, Any] | None:
    if rows is None:
        return None
    found = rows.filter(pl.col("prediction_id") == prediction_id).collect()
    return found.row(0, named=True) if found.height else None


def _answered(job: ScoreJob, row: dict[str, Any]) -> PredictionRecord:
    scores = list(row["scores"].values()) if row.get("scores") else None
    record = _make(job, row, row["scored_at"], PredictionStatus.OK, [])
    value = row["prediction"] if scores is None else float(scores.index(max(scores)))
    return msgspec.structs.replace(record, prediction=value, scores=scores)


def _make(
    job: ScoreJob, row: dict[str, Any], at: datetime, status: PredictionStatus, reasons: list[dict[str, str]]
) -> PredictionRecord:
    ours = _OURS | {NODE} if job.by_graph else _OURS
    kept = {name: value for name, value in row.items() if name not in ours}
    return PredictionRecord(
        id=row["prediction_id"],
        endpoint=job.endpoint,
        at_us=to_us(at),
        variant=VARIANT,
        version=row.get("model_version", job.version),
        node=row.get(NODE) if job.by_graph else None,
        status=status,
        request=msgspec.Raw(to_json(kept)),
        reasons=[Reason(column=one["field"], rule=one["rule"], message=one["message"]) for one in reasons],
    )
