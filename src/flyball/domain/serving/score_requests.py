"""What is asked of a table scoring, what it answers, and when it is refused."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from flyball.core.errors import ConflictError
from flyball.domain.data.tables import Table
from flyball.domain.serving.score_jobs import PART_ROWS, ScoreJob, rejects_of
from flyball.domain.serving.score_store import PartResult
from flyball.domain.serving.table_requests import OnViolation
from flyball.storage.tables.outputs import OutputFormat


class ScoreRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to score.

    Attributes:
        endpoint: Whose rules apply.
        table: Whose rows are scored.
        version: By which version, as the caller named it or as it is live.
        is_pinned: Whether the caller named it.
        on_violation: What becomes of a row that breaks an expectation.
        out: The folder that the predictions go to.
        format: What that folder is.
        keep: The table's columns that stand beside each prediction; key, entity and time by default.
        at_row_time: Whether stored features count as they were at each row's time.
        by_graph: Whether the endpoint's graph answers, instead of the version alone.
        all_rows: Whether all rows are scored, in place of what is there.
        part_rows: How many rows are in memory at a time.
        sensitive: Fields that rejected rows do not tell, unless they are kept beside predictions, too.
    """

    endpoint: str
    table: Table
    version: str
    is_pinned: bool = False
    on_violation: OnViolation = "refuse"
    out: Path
    format: OutputFormat = "parquet"
    keep: tuple[str, ...] | None = None
    at_row_time: bool = False
    by_graph: bool = False
    all_rows: bool = False
    part_rows: int = PART_ROWS
    sensitive: frozenset[str] = frozenset()


class ScoreResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a scoring did.

    Attributes:
        endpoint: The endpoint.
        table: The table's name.
        snapshot: The table as it was scored.
        version: The version that answered.
        out: The folder with the predictions.
        rejects: The folder with the rejected rows.
        rows: How many rows were looked at; with those that an earlier, killed run of the same job had done.
        answered: How many of them have a prediction.
        rejected: How many have none.
        reasons: Why, with how many rows each.
        taken_up: Whether a run that had stopped was brought to its end.
        duration_s: How long this run took.
        note: What the caller should know.
    """

    endpoint: str
    table: str
    snapshot: str
    version: str
    out: str
    rejects: str
    rows: int
    answered: int
    rejected: int
    reasons: dict[str, int]
    taken_up: bool = False
    duration_s: float
    note: str = ""


class OutputTakenError(ConflictError):
    """What is in the output folder is not from scoring this table by this endpoint here."""

    code = "serving/output-taken"

    def __init__(self, out: str, found: str) -> None:
        super().__init__(f"{out!r} cannot take the predictions: {found}", hint="Name another folder with --out.")


class ScoreUnfinishedError(ConflictError):
    """A scoring into the folder was stopped, and the new request asks for something else than it did."""

    code = "serving/score-unfinished"

    def __init__(self, job: ScoreJob, difference: str) -> None:
        super().__init__(
            f"a scoring of {job.table!r} into {job.out!r} by {job.version} has not come to its end, and {difference}",
            hint="Let it finish by the same command without that option, or begin anew with --all.",
        )


def check_output(request: ScoreRequest, last: ScoreJob | None) -> None:
    """Refuse a folder that does not belong to the scoring of this table by this endpoint.

    Raises:
        OutputTakenError: It does not.
    """
    out, rejects = request.out, rejects_of(request.out)
    if out.exists() and not out.is_dir():
        raise OutputTakenError(str(out), "it is a file, and a folder is needed")
    if last is None:
        for folder in (out, rejects):
            if folder.is_dir() and any(folder.iterdir()):
                raise OutputTakenError(
                    str(out), f"{folder.name!r} holds something already that this home did not write"
                )
        return
    if (last.endpoint, last.table) != (request.endpoint, request.table.required_name):
        raise OutputTakenError(str(out), f"it holds predictions of {last.endpoint!r} for the table {last.table!r}")
    if last.format != request.format:
        raise OutputTakenError(str(out), f"it is a {last.format} folder, not {request.format}")
    if last.by_graph != request.by_graph and not request.all_rows:
        held, asked = ("a graph", "one model") if last.by_graph else ("one model", "a graph")
        raise OutputTakenError(
            str(out), f"it holds what {held} answered, and {asked} is asked now; --all scores all rows again"
        )


def check_same(request: ScoreRequest, job: ScoreJob) -> None:
    """Refuse a request that asks for something else than the stopped job that it would bring to its end.

    Raises:
        ScoreUnfinishedError: It does.
    """
    if request.is_pinned and request.version != job.version:
        raise ScoreUnfinishedError(job, f"{request.version} is asked for now")
    if request.at_row_time != job.at_row_time:
        raise ScoreUnfinishedError(job, "features at another time are asked for now")
    if request.keep is not None and request.keep != job.keep:
        raise ScoreUnfinishedError(job, "other columns are asked for now")


def make_result(
    job: ScoreJob, parts: Sequence[PartResult], *, taken_up: bool, duration_s: float, note: str
) -> ScoreResult:
    """Add up what became of a job's parts."""
    reasons: dict[str, int] = {}
    for part in parts:
        for reason, count in part.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    answered, rejected = sum(part.answered for part in parts), sum(part.rejected for part in parts)
    return ScoreResult(
        endpoint=job.endpoint,
        table=job.table,
        snapshot=job.snapshot,
        version=job.version,
        out=job.out,
        rejects=str(job.rejects),
        rows=answered + rejected,
        answered=answered,
        rejected=rejected,
        reasons=dict(sorted(reasons.items(), key=lambda pair: -pair[1])),
        taken_up=taken_up,
        duration_s=round(duration_s, 3),
        note=note,
    )
