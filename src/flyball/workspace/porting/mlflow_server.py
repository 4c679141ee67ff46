"""A running server of MLflow, read by its REST protocol, without MLflow."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from flyball.core.errors import BackendError, BackendUnavailableError
from flyball.domain.registry.foreign import ForeignLoggedModel, ForeignModel, ForeignVersion
from flyball.domain.registry.logged_models import ModelStatus
from flyball.domain.tracking.client_runs import Dataset, DatasetInput, ModelLink
from flyball.domain.tracking.foreign import ForeignExperiment, ForeignRun
from flyball.domain.tracking.points import Point
from flyball.domain.tracking.runs import RunStatus
from flyball.workspace.porting.connections import Connections, RefusedError
from flyball.workspace.porting.mlflow_traces import read_wire_span, read_wire_trace
from flyball.workspace.porting.records import STATUS_OF, SourceFile, SourceTrace, read_stage, restore_infinity
from flyball.workspace.porting.served_files import ServedFiles

_A, _B = "/api/2.0/mlflow", "/api/3.0/mlflow"
_BULK = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
_PAGE = 500
_AT_ONCE = 4
_RUNS_OF_BULK = 100
# What its servers return at most of a metric's history at once.
_MOST_POINTS = 25_000
_SPANS_AT_ONCE = 10
_PROMPTS = "tags.`mlflow.prompt.is_prompt` = 'true'"
_STATUS = {status.value: status for status in ModelStatus}
_Judged = dict[tuple[str, str, int, int], tuple[str, str | None, str | None]]


class MlflowServer:
    """Implements `Source`.

    Args:
        address: Such as ``http://127.0.0.1:5000``.

    Raises:
        BackendUnavailableError: It does not answer.
    """

    def __init__(self, address: str) -> None:
        self.name = address.rstrip("/")
        self._server = Connections(self.name)
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="mlflow")
        self._files = ServedFiles(self._server, lists_owners=not _is_flyball(self._server))
        self._experiments: list[ForeignExperiment] | None = None
        self._models: list[ForeignLoggedModel] | None = None
        self._judged: _Judged = {}
        self._server.get(f"{_A}/experiments/search", max_results=1)

    def close(self) -> None:
        """See `Source.close`."""
        self._pool.shutdown(cancel_futures=True)
        self._server.close()

    def list_experiments(self) -> list[ForeignExperiment]:
        """See `Source.list_experiments`."""
        if self._experiments is None:
            body = {"view_type": "ALL", "max_results": _PAGE}
            self._experiments = [
                ForeignExperiment(
                    id=int(found["experiment_id"]),
                    name=found["name"],
                    location=found.get("artifact_location", ""),
                    created_ms=int(found.get("creation_time", 0)),
                    updated_ms=int(found.get("last_update_time", found.get("creation_time", 0))),
                    is_deleted=found.get("lifecycle_stage") == "deleted",
                    tags=_pairs(found.get("tags")),
                )
                for page in self._pages(f"{_A}/experiments/search", body)
                for found in page.get("experiments", ())
            ]
        return self._experiments

    def read_runs(self) -> Iterator[list[ForeignRun]]:
        """See `Source.read_runs`."""
        self._load_logged_models()
        for experiment in self.list_experiments():
            body = {
                "experiment_ids": [str(experiment.id)],
                "run_view_type": "ALL",
                "max_results": _PAGE,
                "order_by": ["attributes.start_time ASC"],
            }
            for page in self._pages(f"{_A}/runs/search", body):
                if runs := [self._run(found) for found in page.get("runs", ())]:
                    yield runs

    def read_points(self, runs: Sequence[ForeignRun]) -> Iterator[Mapping[str, Sequence[Point]]]:
        """See `Source.read_points`."""
        of_metric: dict[str, list[str]] = {}
        for run in runs:
            for name in run.metrics:
                of_metric.setdefault(name, []).append(run.id)
        asked = [
            (name, ids[start : start + _RUNS_OF_BULK])
            for name, ids in of_metric.items()
            for start in range(0, len(ids), _RUNS_OF_BULK)
        ]
        for (name, part), found in zip(asked, self._pool.map(self._bulk, asked), strict=True):
            if len(found) < _MOST_POINTS:
                yield self._points(found)
                continue
            for run_id in part:  # there may be more than were returned
                yield from self._history(run_id, name)

    def read_logged_models(self) -> Iterator[list[ForeignLoggedModel]]:
        """See `Source.read_logged_models`."""
        models = self._load_logged_models()
        for start in range(0, len(models), _PAGE):
            yield models[start : start + _PAGE]

    def read_models(self) -> Iterator[ForeignModel]:
        """See `Source.read_models`."""
        seen: set[str] = set()
        for text in ("", _PROMPTS):
            query = {"max_results": _PAGE} | ({"filter": text} if text else {})
            for page in self._get_pages(f"{_A}/registered-models/search", query):
                for found in page.get("registered_models", ()):
                    if found["name"] not in seen:
                        seen.add(found["name"])
                        yield self._model(found, text)

    def read_traces(self) -> Iterator[list[SourceTrace]]:
        """See `Source.read_traces`."""
        for experiment in self.list_experiments():
            place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": str(experiment.id)}}
            body = {"locations": [place], "max_results": _PAGE, "order_by": ["timestamp_ms ASC"]}
            try:
                for page in self._pages(f"{_B}/traces/search", body):
                    if traces := [read_wire_trace(found) for found in page.get("traces", ())]:
                        yield self._with_spans(traces)
            except RefusedError:
                return  # a release that has no traces

    def list_files(self, location: str, run_id: str = "") -> Iterator[SourceFile] | None:
        """See `Source.list_files`."""
        return self._files.list_files(location, run_id)

    def list_missing(self) -> list[str]:
        """See `Source.list_missing`."""
        return []

    def _run(self, found: Mapping[str, Any]) -> ForeignRun:
        info, data = found["info"], found.get("data", {})
        inputs, outputs = found.get("inputs", {}), found.get("outputs", {})
        ended, started = info.get("end_time"), int(info.get("start_time", 0))
        is_deleted = info.get("lifecycle_stage") == "deleted"
        return ForeignRun(
            id=info["run_id"],
            experiment_id=int(info["experiment_id"]),
            user=info.get("user_id", ""),
            status=STATUS_OF.get(info.get("status", ""), RunStatus.FAILED),
            started_ms=started,
            ended_ms=None if ended is None else int(ended),
            deleted_ms=int(ended or started) if is_deleted else None,
            location=info.get("artifact_uri", ""),
            params=_pairs(data.get("params")),
            tags=_pairs(data.get("tags")),
            datasets=[_dataset(entry) for entry in inputs.get("dataset_inputs", ())],
            read_models=[ModelLink(entry["model_id"]) for entry in inputs.get("model_inputs", ())],
            made_models=[
                ModelLink(entry["model_id"], int(entry.get("step", 0))) for entry in outputs.get("model_outputs", ())
            ],
            metrics=tuple(metric["key"] for metric in data.get("metrics", ())),
        )

    def _bulk(self, asked: tuple[str, list[str]]) -> list[dict[str, Any]]:
        name, run_ids = asked
        answer = self._server.get(_BULK, run_id=run_ids, metric_key=name, max_results=_MOST_POINTS)
        found: list[dict[str, Any]] = answer.get("metrics", [])
        return found

    def _history(self, run_id: str, name: str) -> Iterator[Mapping[str, Sequence[Point]]]:
        query = {"run_id": run_id, "run_uuid": run_id, "metric_key": name, "max_results": _MOST_POINTS}
        for page in self._get_pages(f"{_A}/metrics/get-history", query):
            yield self._points([point | {"run_id": run_id} for point in page.get("metrics", ())])

    def _points(self, found: Sequence[Mapping[str, Any]]) -> dict[str, list[Point]]:
        points: dict[str, list[Point]] = {}
        for point in found:
            run_id, name = point["run_id"], point["key"]
            at_ms, step = int(point["timestamp"]), int(point.get("step") or 0)
            about = self._judged.get((run_id, name, at_ms, step), (None, None, None))
            value = restore_infinity(float(point["value"]))
            points.setdefault(run_id, []).append(Point(name, value, at_ms * 1000, step, "", *about))
        return points

    def _load_logged_models(self) -> list[ForeignLoggedModel]:
        if self._models is not None:
            return self._models
        self._models = []
        ids = [str(experiment.id) for experiment in self.list_experiments()]
        with suppress(RefusedError):  # a release that has no logged models
            for start in range(0, len(ids), _PAGE):
                body = {"experiment_ids": ids[start : start + _PAGE], "max_results": 100}
                for page in self._pages(f"{_A}/logged-models/search", body):
                    for found in page.get("models", ()):
                        self._models.append(self._logged_model(found))
        return self._models

    def _logged_model(self, found: Mapping[str, Any]) -> ForeignLoggedModel:
        info, data = found["info"], found.get("data", {})
        for metric in data.get("metrics", ()):
            key = (metric.get("run_id", ""), metric["key"], int(metric["timestamp"]), int(metric.get("step") or 0))
            self._judged[key] = (info["model_id"], metric.get("dataset_name"), metric.get("dataset_digest"))
        return ForeignLoggedModel(
            id=info["model_id"],
            experiment_id=int(info["experiment_id"]),
            name=info["name"],
            location=info.get("artifact_uri", ""),
            created_ms=int(info.get("creation_timestamp_ms", 0)),
            updated_ms=int(info.get("last_updated_timestamp_ms", 0)),
            status=_STATUS.get(info.get("status", ""), ModelStatus.PENDING),
            is_deleted=False,
            model_type=info.get("model_type", ""),
            run_id=info.get("source_run_id", ""),
            params=_pairs(data.get("params")),
            tags=_pairs(info.get("tags")),
        )

    def _model(self, found: Mapping[str, Any], prompts: str) -> ForeignModel:
        name = found["name"]
        quoted = name.replace("'", "''")
        query = {"filter": f"name = '{quoted}'" + (f" AND {prompts}" if prompts else ""), "max_results": _PAGE}
        versions = [
            self._version(name, version)
            for page in self._get_pages(f"{_A}/model-versions/search", query)
            for version in page.get("model_versions", ())
        ]
        return ForeignModel(
            name=name,
            description=found.get("description", ""),
            created_ms=int(found.get("creation_timestamp", 0)),
            updated_ms=int(found.get("last_updated_timestamp", 0)),
            tags=_pairs(found.get("tags")),
            aliases={entry["alias"]: int(entry["version"]) for entry in found.get("aliases", ())},
            versions=sorted(versions, key=lambda version: version.number),
        )

    def _version(self, name: str, found: Mapping[str, Any]) -> ForeignVersion:
        location = found.get("source", "")
        with suppress(RefusedError):
            answer = self._server.get(f"{_A}/model-versions/get-download-uri", name=name, version=found["version"])
            location = answer.get("artifact_uri") or location
        return ForeignVersion(
            number=int(found["version"]),
            created_ms=int(found.get("creation_timestamp", 0)),
            updated_ms=int(found.get("last_updated_timestamp", 0)),
            description=found.get("description", ""),
            user=found.get("user_id", ""),
            stage=read_stage(found.get("current_stage")),
            source=found.get("source", ""),
            location=location,
            run_id=found.get("run_id", ""),
            status=found.get("status", "READY"),
            run_link=found.get("run_link", ""),
            model_id=found.get("model_id") or "",
            tags=_pairs(found.get("tags")),
        )

    def _with_spans(self, traces: Sequence[SourceTrace]) -> list[SourceTrace]:
        spans: dict[str, list[Any]] = {}
        ids = [found.trace.id for found in traces]
        for start in range(0, len(ids), _SPANS_AT_ONCE):
            part = ids[start : start + _SPANS_AT_ONCE]
            with suppress(RefusedError, BackendError):
                for found in self._server.get(f"{_B}/traces/batchGet", trace_ids=part).get("traces", ()):
                    trace_id = found["trace_info"]["trace_id"]
                    spans[trace_id] = [read_wire_span(trace_id, span) for span in found.get("spans", ())]
        return [found._replace(spans=spans.get(found.trace.id, ())) for found in traces]

    def _pages(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        page = self._server.post(path, body)
        while token := page.get("next_page_token", ""):
            # The server makes the next page while this one is kept.
            following = self._pool.submit(self._server.post, path, body | {"page_token": token})
            yield page
            page = following.result()
        yield page

    def _get_pages(self, path: str, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            page = self._server.get(path, **query, **({"page_token": token} if token else {}))
            yield page
            token = page.get("next_page_token", "")
            if not token:
                return


def _dataset(entry: Mapping[str, Any]) -> DatasetInput:
    found = entry["dataset"]
    dataset = Dataset(
        name=found["name"],
        digest=found["digest"],
        source_type=found.get("source_type", ""),
        source=found.get("source", ""),
        schema=found.get("schema"),
        profile=found.get("profile"),
    )
    return DatasetInput(dataset=dataset, tags=_pairs(entry.get("tags")))


def _pairs(found: Sequence[Mapping[str, Any]] | None) -> dict[str, str]:
    return {pair["key"]: pair.get("value", "") for pair in found or ()}


def _is_flyball(server: Connections) -> bool:
    """Tell whether a server is Flyball's, such as a colleague's, whose folders tell nothing of those of runs."""
    try:
        return "parts" in server.get("/health")
    except BackendUnavailableError:
        raise
    except RefusedError as error:  # one of its parts is not ready
        return '"parts"' in error.message
    except BackendError:
        return False
