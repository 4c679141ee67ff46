"""Fills a store of MLflow with some of everything, by its own client: ``make_store.py URI``. Prints what there is."""

import contextlib
import json
import os
import sys

os.environ |= {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_ENABLE_ASYNC_TRACE_LOGGING": "false",
}

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import AssessmentSource, Metric
from sklearn.linear_model import LogisticRegression

mlflow.set_tracking_uri(sys.argv[1])
client = MlflowClient()
rows = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "y": [0, 0, 1, 1]})


@mlflow.trace
def answer(question: str) -> dict[str, object]:
    if question == "bad":
        raise ValueError(question)
    return {"text": question, "sizes": [1, 2.5, None, True], "deep": {"a": {"b": "ünï"}}}


def experiments() -> None:
    gone = client.create_experiment("gone", tags={"why": "old"})
    client.create_run(gone)
    client.delete_experiment(gone)
    client.create_run("0")
    mlflow.set_experiment("main")
    mlflow.set_experiment_tags({"team": "risk", "ünï": "🎯"})


def runs() -> str:
    dataset = mlflow.data.from_pandas(rows, name="rows", targets="y")
    with mlflow.start_run(run_name="parent", description="what it is", tags={"kind": "ünï 🎯"}) as parent:
        mlflow.log_params({f"p{number}": "v" * (number * 50) for number in range(120)})
        mlflow.log_metric("loss", float("nan"), step=3)
        mlflow.log_metrics({"top": float("inf"), "low": float("-inf"), "auc": 0.75}, step=-2)
        mlflow.log_input(dataset, context="training", tags={"split": "a"})
        mlflow.log_text("hello", "notes/ünï 🎯.txt")
        mlflow.log_dict({"a": 1}, "deep/er/and/deeper.json")
        with mlflow.start_run(nested=True):
            mlflow.log_metric("loss", 1)
    points = [Metric("curve", number / 7, 1_700_000_000_000 + number // 2, number) for number in range(2_500)]
    for start in range(0, 2_500, 1_000):
        client.log_batch(parent.info.run_id, metrics=points[start : start + 1_000])
    deleted = client.create_run(mlflow.get_experiment_by_name("main").experiment_id)
    client.log_param(deleted.info.run_id, "a", "b")
    client.log_text(deleted.info.run_id, "still here", "kept.txt")
    client.delete_run(deleted.info.run_id)
    failed = client.create_run("0", start_time=5, tags={"mlflow.user": "ada"})
    client.set_terminated(failed.info.run_id, "FAILED", end_time=6)
    return parent.info.run_id


def models() -> None:
    model = LogisticRegression().fit(rows[["x"]], rows["y"])
    with mlflow.start_run() as run:
        logged = mlflow.sklearn.log_model(
            model, name="model", registered_model_name="risk", pip_requirements=[], params={"depth": 3}
        )
        mlflow.log_metric("auc", 0.9, model_id=logged.model_id, dataset=mlflow.data.from_pandas(rows, name="rows"))
    mlflow.register_model(logged.model_uri, "risk", tags={"of": "version"})
    mlflow.set_logged_model_tags(logged.model_id, {"stage": "trial"})
    client.create_model_version("risk", f"runs:/{run.info.run_id}/model", run_id=run.info.run_id)
    client.delete_model_version("risk", "2")
    client.update_registered_model("risk", "what it does")
    client.update_model_version("risk", "1", "the first")
    client.set_registered_model_tag("risk", "team", "risk")
    client.set_model_version_tag("risk", "1", "signed", "yes")
    client.set_registered_model_alias("risk", "champion", "3")
    client.set_registered_model_alias("risk", "old", "1")
    client.transition_model_version_stage("risk", "1", "Archived")
    client.create_registered_model("empty")


def traces() -> None:
    answer("what")
    trace_id = mlflow.get_last_active_trace_id()
    client.set_trace_tag(trace_id, "a", "b")
    person = AssessmentSource(source_type="HUMAN", source_id="ada")
    mlflow.log_feedback(trace_id=trace_id, name="right", value=True, rationale="it is", source=person)
    mlflow.log_expectation(trace_id=trace_id, name="wanted", value={"text": "what"}, source=person)
    with contextlib.suppress(ValueError):
        answer("bad")


experiments()
parent = runs()
models()
traces()
print(json.dumps({"parent": parent}))
