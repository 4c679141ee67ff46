"""Metrics' histories: all points of one, and thinned out for charts."""

from typing import Any

import msgspec

from flyball.core.errors import InvalidInputError
from flyball.domain.tracking.client_runs import BatchTooLargeError
from flyball.domain.tracking.points import HistoryRow
from flyball.server.mlflow.experiments import read_limit
from flyball.server.mlflow.requests import Int64, ParameterMissingError, Request
from flyball.server.mlflow.routing import Route, read
from flyball.server.mlflow.runs import run_id_of
from flyball.server.mlflow.wire import MetricValue, write_history
from flyball.workspace.home import Home

MAX_POINTS = 100_000
"""Of a page; four pages of a quarter cost a client a tenth more."""
_MAX_BULK_POINTS = 25_000
_MAX_CHART_RUNS = 100
_MAX_CHART_POINTS = 2_500
_A = "/api/2.0/mlflow/metrics/"


class History(msgspec.Struct):
    """One metric of a run."""

    metric_key: str
    run_id: str = ""
    run_uuid: str = ""
    max_results: Int64 | None = None
    page_token: str | None = None


class Interval(msgspec.Struct):
    """One metric of several runs, between two steps."""

    metric_key: str
    run_ids: list[str] | None = None
    start_step: Int64 | None = None
    end_step: Int64 | None = None
    max_results: Int64 | None = None


class Bulk(msgspec.Struct):
    """One metric of several runs; pages say ``run_id`` again and again."""

    metric_key: str
    run_id: list[str] | None = None
    max_results: Int64 | None = None


def get_history(home: Home, request: Request) -> Any:
    """Return the points of a metric, page by page; without a limit, all of them up to a page's."""
    fields = request.decode(History)
    if not fields.metric_key:
        raise ParameterMissingError("metric_key")
    limit = read_limit(fields.max_results, MAX_POINTS, 2**31 - 1)
    page = home.client_runs.history(
        run_id_of(fields), fields.metric_key, limit=min(limit, MAX_POINTS), token=fields.page_token or ""
    )
    answer: dict[str, Any] = {"metrics": write_history(fields.metric_key, page.rows)}
    return answer | ({"next_page_token": page.token} if page.token else {})


def get_bulk(home: Home, request: Request) -> Any:
    """Return the points of one metric of several runs."""
    fields = request.decode(Bulk)
    run_ids = _check_runs(fields.run_id)
    limit = read_limit(fields.max_results, _MAX_BULK_POINTS, _MAX_BULK_POINTS)
    found = home.client_runs.histories(run_ids, fields.metric_key, steps=None, limit=limit)
    return {"metrics": _write(fields.metric_key, found)[:limit]}


def get_interval(home: Home, request: Request) -> Any:
    """Return points of one metric of several runs, evenly chosen between two steps."""
    fields = request.decode(Interval)
    run_ids = _check_runs(fields.run_ids)
    steps = None
    if fields.start_step is not None and fields.end_step is not None:
        steps = (fields.start_step, fields.end_step)
        if steps[0] > steps[1]:
            raise InvalidInputError(
                f"end_step must be greater than start_step. Found start_step={steps[0]} and end_step={steps[1]}"
            )
    elif fields.start_step is not None or fields.end_step is not None:
        raise InvalidInputError("If either start step or end step are specified, both must be specified")
    limit = read_limit(fields.max_results, _MAX_CHART_POINTS, _MAX_CHART_POINTS)
    found = home.client_runs.histories(run_ids, fields.metric_key, steps=steps, limit=limit)
    return {"metrics": _write(fields.metric_key, found)}


def _check_runs(run_ids: list[str] | None) -> list[str]:
    if not run_ids:
        raise ParameterMissingError("run_ids")
    if len(run_ids) > _MAX_CHART_RUNS:
        raise BatchTooLargeError("run_ids", _MAX_CHART_RUNS, len(run_ids))
    return run_ids


def _write(name: str, found: list[tuple[str, list[HistoryRow]]]) -> list[MetricValue]:
    return [value for run_id, rows in found for value in write_history(name, rows, run_id)]


ROUTES: tuple[Route, ...] = (
    read("GET", _A + "get-history", get_history),
    read("GET", _A + "get-history-bulk", get_bulk),
    read("GET", _A + "get-history-bulk-interval", get_interval),
)
