"""The SQL of table scorings."""

from typing import NamedTuple

from flyball.core.durations import to_us
from flyball.core.encoding import from_json, to_json
from flyball.domain.serving.score_jobs import ID_PREFIX, JobStatus, ScoreJob
from flyball.storage.db import Transaction


class PartResult(NamedTuple):
    """What became of one part's rows: how many were answered, rejected, and for which reasons."""

    number: int
    answered: int
    rejected: int
    reasons: dict[str, int]


def put_job(tx: Transaction, job: ScoreJob) -> None:
    """Keep a job as it is now."""
    tx.execute(
        "INSERT INTO scoring_job (id, id_prefix, out, status, started_at_us, body) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET status = excluded.status, body = excluded.body",
        (job.id, job.id_prefix, job.out, job.status.value, to_us(job.started_at), to_json(job).decode()),
    )


def find_last_job(tx: Transaction, out: str) -> ScoreJob | None:
    """Return the job that was begun last for a folder."""
    body = tx.value("SELECT body FROM scoring_job WHERE out = ? ORDER BY started_at_us DESC, id DESC LIMIT 1", (out,))
    return None if body is None else from_json(body, ScoreJob, what="scoring")


def find_last_complete(tx: Transaction, out: str) -> ScoreJob | None:
    """Return the job that was completed last for a folder."""
    body = tx.value(
        "SELECT body FROM scoring_job WHERE out = ? AND status = ? ORDER BY started_at_us DESC, id DESC LIMIT 1",
        (out, JobStatus.COMPLETE.value),
    )
    return None if body is None else from_json(body, ScoreJob, what="scoring")


def find_job_of(tx: Transaction, prediction_id: str) -> ScoreJob | None:
    """Return the job that gave a prediction its id."""
    body = tx.value("SELECT body FROM scoring_job WHERE id_prefix = ?", (prediction_id[:ID_PREFIX],))
    return None if body is None else from_json(body, ScoreJob, what="scoring")


def put_part(tx: Transaction, job_id: str, part: PartResult) -> None:
    """Keep that a part is written."""
    tx.execute(
        "INSERT INTO scoring_part (job_id, number, answered, rejected, reasons) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (job_id, number) DO NOTHING",
        (job_id, part.number, part.answered, part.rejected, to_json(part.reasons).decode()),
    )


def list_parts(tx: Transaction, job_id: str) -> list[PartResult]:
    """Return the parts of a job that are written, in order."""
    rows = tx.rows(
        "SELECT number, answered, rejected, reasons FROM scoring_part WHERE job_id = ? ORDER BY number", (job_id,)
    )
    return [
        PartResult(
            row["number"],
            row["answered"],
            row["rejected"],
            from_json(row["reasons"], dict[str, int], what="reasons"),
        )
        for row in rows
    ]
