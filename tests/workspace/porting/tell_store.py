"""Prints all that a client sees of a store: ``tell_store.py URI``; two stores that hold the same print the same."""

import json
import os
import re
import sys
import tempfile
from pathlib import Path

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}

import mlflow
from mlflow import MlflowClient
from mlflow.entities import ViewType

mlflow.set_tracking_uri(sys.argv[1])
client = MlflowClient()
# Kept by the servers for themselves.
_OWN = {"mlflow.artifactLocation", "mlflow.trace.infoFinalized"}


def every(search, **named):
    found, token = [], None
    while True:
        page = search(page_token=token, **named)
        found += page
        token = page.token
        if not token:
            return found


def number(value: float) -> str:
    return {1.7976931348623157e308: "inf", -1.7976931348623157e308: "-inf"}.get(value, str(value))


def files(uri: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            place = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))
        except Exception:  # noqa: BLE001 - whatever the client raises where there are no files
            return {}
        return {
            str(path.relative_to(place)): path.read_bytes().hex()[:2_000] for path in place.rglob("*") if path.is_file()
        }


def run(found) -> dict[str, object]:
    info, data = found.info, found.data
    history = {
        key: sorted(
            [point.timestamp, point.step, number(point.value)] for point in client.get_metric_history(info.run_id, key)
        )
        for key in data.metrics
    }
    return {
        "info": [info.experiment_id, info.user_id, info.status, info.start_time, info.end_time, info.lifecycle_stage],
        "name": info.run_name,
        "params": data.params,
        "tags": data.tags,
        "last": {key: number(value) for key, value in data.metrics.items()},
        "history": history,
        "datasets": sorted(
            [
                [one.dataset.to_dictionary(), sorted((tag.key, tag.value) for tag in one.tags)]
                for one in found.inputs.dataset_inputs
            ],
            key=str,
        ),
        "made": sorted(one.model_id for one in found.outputs.model_outputs) if found.outputs else [],
        "files": files(info.artifact_uri),
    }


def logged(found) -> dict[str, object]:
    return {
        "info": [found.experiment_id, found.name, str(found.status), found.model_type, found.source_run_id],
        "times": [found.creation_timestamp, found.last_updated_timestamp],
        "params": found.params,
        "tags": found.tags,
        "metrics": sorted([one.key, one.value, one.dataset_name, one.run_id] for one in found.metrics or []),
        "files": files(found.artifact_location),
    }


def version(found) -> dict[str, object]:
    return {
        "info": [found.version, found.creation_timestamp, found.last_updated_timestamp, found.current_stage],
        "said": [found.description, found.user_id, found.run_id, found.run_link, found.status],
        "tags": found.tags,
        "aliases": sorted(found.aliases),
        "files": files(f"models:/{found.name}/{found.version}"),
    }


def trace(found) -> dict[str, object]:
    info = found.info
    return {
        "info": [info.request_time, info.execution_duration, str(info.state), info.request_preview],
        "tags": {key: value for key, value in info.tags.items() if key not in _OWN},
        "metadata": {key: value for key, value in info.trace_metadata.items() if key not in _OWN},
        "spans": [
            [span.name, span.span_type, span.parent_id, span.inputs, span.outputs, str(span.status), span.start_time_ns]
            for span in found.data.spans
        ],
        "assessments": sorted([one.name, one.value, one.rationale, str(one.source)] for one in info.assessments),
    }


experiments = client.search_experiments(view_type=ViewType.ALL)
ids = [one.experiment_id for one in experiments]
active = [one.experiment_id for one in experiments if one.lifecycle_stage == "active"]
told = {
    "experiments": {
        one.name: [one.experiment_id, one.lifecycle_stage, one.creation_time, one.tags] for one in experiments
    },
    "runs": {
        one.info.run_id: run(one) for one in every(client.search_runs, experiment_ids=ids, run_view_type=ViewType.ALL)
    },
    "logged": {one.model_id: logged(one) for one in every(client.search_logged_models, experiment_ids=ids)},
    "models": {
        one.name: [one.description, one.creation_timestamp, one.last_updated_timestamp, one.tags, one.aliases]
        for one in client.search_registered_models()
    },
    "versions": {
        f"{one.name}/{one.version}": version(client.get_model_version(one.name, one.version))
        for one in client.search_model_versions()
    },
    "traces": {one.info.trace_id: trace(one) for one in every(client.search_traces, locations=active)},
}
# Where files lie is each store's own business.
text = re.sub(
    r'"(file://)?/[^"]*?(mlruns|mlartifacts)[^"]*"|"mlflow-artifacts:/[^"]*"',
    '"PLACE"',
    json.dumps(told, default=str, sort_keys=True),
)
print(text)
