"""MLflow's tables in a file of SQLite, of any release that has them; read only, without MLflow."""

import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flyball.domain.registry.foreign import ForeignLoggedModel, ForeignModel, ForeignVersion
from flyball.domain.registry.logged_models import ModelStatus
from flyball.domain.tracking.client_runs import NAME_TAG, Dataset, DatasetInput, ModelLink
from flyball.domain.tracking.foreign import ForeignExperiment, ForeignRun
from flyball.domain.tracking.points import Point
from flyball.domain.tracking.runs import RunStatus
from flyball.domain.tracking.traces import NAME_TAG as TRACE_NAME_TAG
from flyball.domain.tracking.traces import PLACE_TAG, Trace, TraceState
from flyball.workspace.porting.folders import Folders
from flyball.workspace.porting.mlflow_traces import read_assessment_row, read_span
from flyball.workspace.porting.records import (
    STATUS_OF,
    SourceFile,
    SourceInvalidError,
    SourceTrace,
    read_stage,
    restore_infinity,
)

_RUNS_AT_ONCE = 500
_TRACES_AT_ONCE = 200
_POINTS_AT_ONCE = 200_000
_MODEL_STATUS = {1: ModelStatus.PENDING, 2: ModelStatus.READY, 3: ModelStatus.FAILED}
# What old releases kept in columns of runs, and later ones in tags.
_SOURCE_TAGS = {
    "source_type": "mlflow.source.type",
    "source_name": "mlflow.source.name",
    "entry_point_name": "mlflow.project.entryPoint",
    "source_version": "mlflow.source.git.commit",
}
_SESSION = "mlflow.trace.session"


class MlflowFile:
    """Implements `Source`.

    Args:
        path: The file.
        folders: Where the files of artifacts are.

    Raises:
        SourceInvalidError: It is no such file.
    """

    def __init__(self, path: Path, folders: Folders) -> None:
        self.name = f"sqlite:///{path}"
        self._folders = folders
        if not path.is_file():
            raise SourceInvalidError(
                f"there is no file {str(path)!r}",
                hint="Name the file of mlflow's database; or a server, as http://HOST:PORT.",
            )
        self._connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            tables = [
                name for (name,) in self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            ]
            self._columns = {
                table: {row[1] for row in self._connection.execute(f'PRAGMA table_info("{table}")')} for table in tables
            }
        except sqlite3.DatabaseError as error:
            raise SourceInvalidError(f"{str(path)!r} is no file of SQLite: {error}") from error
        if not {"experiments", "runs", "params", "metrics"} <= set(self._columns):
            raise SourceInvalidError(f"{str(path)!r} has no tables of MLflow")
        # One state of everything, though its server may go on writing.
        self._connection.execute("BEGIN")
        self._judged: dict[str, dict[tuple[str, int, int], tuple[str, str | None, str | None]]] | None = None

    def close(self) -> None:
        """See `Source.close`."""
        self._connection.close()

    def list_experiments(self) -> list[ForeignExperiment]:
        """See `Source.list_experiments`."""
        tags = self._named("experiment_tags", "experiment_id")
        return [
            ForeignExperiment(
                id=number,
                name=name,
                location=location or "",
                created_ms=created or 0,
                updated_ms=updated or created or 0,
                is_deleted=stage == "deleted",
                tags=tags.get(number, {}),
            )
            for number, name, location, stage, created, updated in self._select(
                "experiments",
                "experiment_id, name, artifact_location, lifecycle_stage, creation_time, last_update_time",
                "ORDER BY experiment_id",
            )
        ]

    def read_runs(self) -> Iterator[list[ForeignRun]]:
        """See `Source.read_runs`."""
        ids = [row[0] for row in self._select("runs", "run_uuid", "ORDER BY start_time, run_uuid")]
        for start in range(0, len(ids), _RUNS_AT_ONCE):
            yield self._runs(ids[start : start + _RUNS_AT_ONCE])

    def read_points(self, runs: Sequence[ForeignRun]) -> Iterator[Mapping[str, Sequence[Point]]]:
        """See `Source.read_points`."""
        judged = self._judged = self._read_judged() if self._judged is None else self._judged
        page: dict[str, list[Point]] = {}
        count = 0
        ids = [run.id for run in runs]
        for run_id, key, value, at_ms, step, is_nan in self._select(
            "metrics", "run_uuid, key, value, timestamp, step, is_nan", f"WHERE run_uuid IN ({_marks(ids)})", ids
        ):
            found = math.nan if is_nan else restore_infinity(value)
            about = judged.get(run_id, {}).get((key, at_ms, step), (None, None, None))
            page.setdefault(run_id, []).append(Point(key, found, at_ms * 1000, step, "", *about))
            count += 1
            if count == _POINTS_AT_ONCE:
                yield page
                page, count = {}, 0
        if page:
            yield page

    def read_logged_models(self) -> Iterator[list[ForeignLoggedModel]]:
        """See `Source.read_logged_models`."""
        params = self._named("logged_model_params", "model_id", "param_key", "param_value")
        tags = self._named("logged_model_tags", "model_id", "tag_key", "tag_value")
        found = [
            ForeignLoggedModel(
                id=row[0],
                experiment_id=row[1],
                name=row[2],
                location=row[3] or "",
                created_ms=row[4],
                updated_ms=row[5],
                status=_MODEL_STATUS.get(row[6], ModelStatus.PENDING),
                is_deleted=row[7] == "deleted",
                model_type=row[8] or "",
                run_id=row[9] or "",
                params=params.get(row[0], {}),
                tags=tags.get(row[0], {}),
            )
            for row in self._select(
                "logged_models",
                "model_id, experiment_id, name, artifact_location, creation_timestamp_ms, last_updated_timestamp_ms,"
                " status, lifecycle_stage, model_type, source_run_id",
                "ORDER BY creation_timestamp_ms, model_id",
            )
        ]
        for start in range(0, len(found), _RUNS_AT_ONCE):
            yield found[start : start + _RUNS_AT_ONCE]

    def read_models(self) -> Iterator[ForeignModel]:
        """See `Source.read_models`."""
        tags = self._named("registered_model_tags", "name")
        aliases: dict[str, dict[str, int]] = {}
        for name, alias, number in self._select("registered_model_aliases", "name, alias, version", "ORDER BY alias"):
            aliases.setdefault(name, {})[alias] = number
        for name, description, created, updated in self._select(
            "registered_models", "name, description, creation_time, last_updated_time", "ORDER BY name"
        ):
            yield ForeignModel(
                name=name,
                description=description or "",
                created_ms=created or 0,
                updated_ms=updated or created or 0,
                tags=tags.get(name, {}),
                aliases=aliases.get(name, {}),
                versions=self._versions(name),
            )

    def read_traces(self) -> Iterator[list[SourceTrace]]:
        """See `Source.read_traces`."""
        ids = [row[0] for row in self._select("trace_info", "request_id", "ORDER BY timestamp_ms, request_id")]
        for start in range(0, len(ids), _TRACES_AT_ONCE):
            yield self._traces(ids[start : start + _TRACES_AT_ONCE])

    def list_files(self, location: str, run_id: str = "") -> Iterator[SourceFile] | None:
        """See `Source.list_files`."""
        return self._folders.list_files(location)

    def list_missing(self) -> list[str]:
        """See `Source.list_missing`."""
        return sorted(self._folders.missing)

    def _runs(self, ids: Sequence[str]) -> list[ForeignRun]:
        where = f"WHERE run_uuid IN ({_marks(ids)})"
        params, tags = self._named_of("params", ids), self._named_of("tags", ids)
        datasets, read, made = self._inputs(ids)
        found: dict[str, ForeignRun] = {}
        for row in self._select(
            "runs",
            "run_uuid, experiment_id, user_id, status, start_time, end_time, lifecycle_stage, deleted_time,"
            " artifact_uri, name, source_type, source_name, entry_point_name, source_version",
            where,
            ids,
        ):
            run_id, started, is_deleted = row[0], row[4] or 0, row[6] == "deleted"
            kept = dict(zip(_SOURCE_TAGS.values(), row[10:], strict=True)) | {NAME_TAG: row[9]}
            found[run_id] = ForeignRun(
                id=run_id,
                experiment_id=row[1],
                user=row[2] or "",
                status=STATUS_OF.get(row[3], RunStatus.FAILED),
                started_ms=started,
                ended_ms=row[5],
                deleted_ms=(row[7] or row[5] or started) if is_deleted else None,
                location=row[8] or "",
                params=params.get(run_id, {}),
                tags={name: value for name, value in kept.items() if value and value != "UNKNOWN"}
                | tags.get(run_id, {}),
                datasets=datasets.get(run_id, ()),
                read_models=read.get(run_id, ()),
                made_models=made.get(run_id, ()),
            )
        return [found[run_id] for run_id in ids if run_id in found]

    def _inputs(
        self, ids: Sequence[str]
    ) -> tuple[dict[str, list[DatasetInput]], dict[str, list[ModelLink]], dict[str, list[ModelLink]]]:
        datasets: dict[str, list[DatasetInput]] = {}
        read: dict[str, list[ModelLink]] = {}
        made: dict[str, list[ModelLink]] = {}
        if "inputs" not in self._columns:
            return datasets, read, made
        for run_id, input_id, dataset_id in self._select(
            "inputs",
            "destination_id, input_uuid, source_id",
            f"WHERE source_type = 'DATASET' AND destination_type = 'RUN' AND destination_id IN ({_marks(ids)})",
            ids,
        ):
            for name, digest, kind, source, schema, profile in self._select(
                "datasets",
                "name, digest, dataset_source_type, dataset_source, dataset_schema, dataset_profile",
                "WHERE dataset_uuid = ?",
                [dataset_id],
            ):
                dataset = Dataset(
                    name=name, digest=digest, source_type=kind, source=source, schema=schema, profile=profile
                )
                tags = dict(self._select("input_tags", "name, value", "WHERE input_uuid = ?", [input_id]))
                datasets.setdefault(run_id, []).append(DatasetInput(dataset=dataset, tags=tags))
        for target, kind in ((read, "INPUT"), (made, "OUTPUT")):
            where = f"WHERE source_type = 'RUN_{kind}' AND destination_type = 'MODEL_{kind}'"
            for run_id, model_id, step in self._select(
                "inputs", "source_id, destination_id, step", f"{where} AND source_id IN ({_marks(ids)})", ids
            ):
                target.setdefault(run_id, []).append(ModelLink(model_id, step or 0))
        return datasets, read, made

    def _versions(self, name: str) -> list[ForeignVersion]:
        tags: dict[int, dict[str, str]] = {}
        for number, key, value in self._select("model_version_tags", "version, key, value", "WHERE name = ?", [name]):
            tags.setdefault(number, {})[key] = value or ""
        return [
            ForeignVersion(
                number=row[0],
                created_ms=row[1] or 0,
                updated_ms=row[2] or row[1] or 0,
                description=row[3] or "",
                user=row[4] or "",
                stage=read_stage(row[5]),
                source=row[6] or "",
                location=row[7] or row[6] or "",
                run_id=row[8] or "",
                status=row[9] or "READY",
                run_link=row[10] or "",
                model_id="",
                tags=tags.get(row[0], {}),
            )
            for row in self._select(
                "model_versions",
                "version, creation_time, last_updated_time, description, user_id, current_stage, source,"
                " storage_location, run_id, status, run_link",
                "WHERE name = ? AND current_stage <> 'Deleted_Internal' ORDER BY version",
                [name],
            )
        ]

    def _traces(self, ids: Sequence[str]) -> list[SourceTrace]:
        tags = self._named_of("trace_tags", ids, "request_id")
        metadata = self._named_of("trace_request_metadata", ids, "request_id")
        spans: dict[str, list[str]] = {}
        for trace_id, content in self._select(
            "spans", "trace_id, content", f"WHERE trace_id IN ({_marks(ids)}) ORDER BY start_time_unix_nano", ids
        ):
            spans.setdefault(trace_id, []).append(content)
        judged: dict[str, list[Mapping[str, Any]]] = {}
        names = sorted(self._columns.get("assessments", ()))
        for row in (
            self._select("assessments", ", ".join(names), f"WHERE trace_id IN ({_marks(ids)})", ids) if names else ()
        ):
            found = dict(zip(names, row, strict=True))
            judged.setdefault(found["trace_id"], []).append(found)
        runs: dict[str, list[str]] = {}
        for trace_id, run_id in self._select(
            "entity_associations",
            "source_id, destination_id",
            f"WHERE source_type = 'trace' AND destination_type = 'run' AND source_id IN ({_marks(ids)})",
            ids,
        ):
            runs.setdefault(trace_id, []).append(run_id)
        by_id = {}
        for row in self._select(
            "trace_info",
            "request_id, experiment_id, timestamp_ms, execution_time_ms, status, client_request_id, request_preview,"
            " response_preview, trace_name, session_id",
            f"WHERE request_id IN ({_marks(ids)})",
            ids,
        ):
            trace_id = row[0]
            extra = {TRACE_NAME_TAG: row[8]} if row[8] else {}
            session = {_SESSION: row[9]} if row[9] else {}
            trace = Trace(
                id=trace_id,
                experiment_id=row[1],
                started_at_us=row[2] * 1000,
                duration_us=None if row[3] is None else row[3] * 1000,
                state=TraceState(row[4]) if row[4] in {state.value for state in TraceState} else TraceState.UNKNOWN,
                client_request_id=row[5],
                request_preview=row[6],
                response_preview=row[7],
                metadata=session | metadata.get(trace_id, {}),
                tags=extra | tags.get(trace_id, {}),
                runs=tuple(runs.get(trace_id, ())),
                assessments=[read_assessment_row(found) for found in judged.get(trace_id, ())],
            )
            there = spans.get(trace_id, ())
            kept = [span for span in (read_span(trace_id, content) for content in there) if span is not None]
            by_id[trace_id] = SourceTrace(trace, kept, trace.tags.get(PLACE_TAG, ""), len(there) - len(kept))
        return [by_id[trace_id] for trace_id in ids if trace_id in by_id]

    def _read_judged(self) -> dict[str, dict[tuple[str, int, int], tuple[str, str | None, str | None]]]:
        """Return which points judge logged models, by run; then by metric, time and step."""
        found: dict[str, dict[tuple[str, int, int], tuple[str, str | None, str | None]]] = {}
        for run_id, name, at_ms, step, model_id, dataset, digest in self._select(
            "logged_model_metrics",
            "run_id, metric_name, metric_timestamp_ms, metric_step, model_id, dataset_name, dataset_digest",
        ):
            found.setdefault(run_id, {})[(name, at_ms, step)] = (model_id, dataset, digest)
        return found

    def _named(self, table: str, owner: str, key: str = "key", value: str = "value") -> dict[Any, dict[str, str]]:
        found: dict[Any, dict[str, str]] = {}
        for whose, name, text in self._select(table, f"{owner}, {key}, {value}"):
            found.setdefault(whose, {})[name] = text or ""
        return found

    def _named_of(self, table: str, ids: Sequence[str], owner: str = "run_uuid") -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for whose, name, text in self._select(table, f"{owner}, key, value", f"WHERE {owner} IN ({_marks(ids)})", ids):
            found.setdefault(whose, {})[name] = text or ""
        return found

    def _select(
        self, table: str, columns: str, rest: str = "", params: Sequence[Any] = ()
    ) -> Iterator[tuple[Any, ...]]:
        """Yield rows; NULL stands for columns that the release which made the file did not have, nothing for tables."""
        present = self._columns.get(table)
        if present is None:
            return iter(())
        names = [name.strip() for name in columns.split(",")]
        shown = ", ".join(f'"{name}"' if name in present else "NULL" for name in names)
        return self._connection.execute(f"SELECT {shown} FROM {table} {rest}", params)


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
