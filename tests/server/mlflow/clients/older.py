"""What programs written for releases 2 of MLflow's client do, in its words: ``older.py URL``. It only asserts."""

import os
import sys

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}

import mlflow
import mlflow.sklearn
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from sklearn.linear_model import LogisticRegression

mlflow.set_tracking_uri(sys.argv[1])
client = MlflowClient()
X = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0, 0.0]})
MODEL = LogisticRegression().fit(X, [0, 0, 1, 1])


def runs() -> None:
    number = mlflow.set_experiment("older").experiment_id
    with mlflow.start_run(run_name="parent") as parent:
        mlflow.log_params({"depth": 3, "name": "x"})
        mlflow.log_metric("loss", 0.5, step=1)
        mlflow.log_metric("loss", float("nan"), step=2)
        mlflow.set_tag("kind", "ünï")
        mlflow.log_input(mlflow.data.from_pandas(X, name="rows"), context="training")
        mlflow.log_dict({"a": 1}, "d/config.json")
        mlflow.log_text("hello", "größe.txt")
        with mlflow.start_run(nested=True):
            mlflow.log_metric("loss", 0.25)
    run_id = parent.info.run_id
    run = client.get_run(run_id)
    assert run.data.params == {"depth": "3", "name": "x"} and run.info.status == "FINISHED"
    assert run.inputs.dataset_inputs[0].dataset.name == "rows"
    assert [point.step for point in client.get_metric_history(run_id, "loss")] == [1, 2]
    assert mlflow.artifacts.load_dict(f"runs:/{run_id}/d/config.json") == {"a": 1}
    assert [found.path for found in client.list_artifacts(run_id)] == ["d", "größe.txt"]
    frame = mlflow.search_runs(experiment_ids=[number], filter_string="params.depth = '3'", order_by=["metrics.loss"])
    assert list(frame["run_id"]) == [run_id]
    client.log_batch(run_id, metrics=[Metric("m", 1.0, 1, step) for step in range(100)], params=[Param("p", "1")])
    client.delete_run(run_id)
    client.restore_run(run_id)
    try:
        client.log_param(run_id, "p", "2")
        raise AssertionError("a parameter was changed")
    except MlflowException as error:
        assert error.error_code == "INVALID_PARAMETER_VALUE"


def models() -> None:
    with mlflow.start_run() as run:
        mlflow.sklearn.log_model(MODEL, "model", registered_model_name="older", pip_requirements=["scikit-learn"])
    uri = f"runs:/{run.info.run_id}/model"
    assert (mlflow.sklearn.load_model(uri).predict(X) == MODEL.predict(X)).all()
    version = mlflow.register_model(uri, "older")
    assert int(version.version) == 2
    client.set_registered_model_alias("older", "champion", 2)
    client.transition_model_version_stage("older", 1, "Production")
    for name in ("models:/older@champion", "models:/older/1", "models:/older/Production", "models:/older/latest"):
        assert (mlflow.pyfunc.load_model(name).predict(X) == MODEL.predict(X)).all(), name
    assert int(client.get_latest_versions("older", ["Production"])[0].version) == 1
    assert len(client.search_model_versions("name = 'older'")) == 2


def learning() -> None:
    mlflow.set_experiment("older, by itself")
    mlflow.sklearn.autolog()
    LogisticRegression(C=0.5).fit(X, [0, 0, 1, 1])
    mlflow.sklearn.autolog(disable=True)
    run = mlflow.search_runs(output_format="list")[0]
    assert run.data.params["C"] == "0.5" and run.data.metrics["training_accuracy_score"] == 1.0
    loaded = mlflow.sklearn.load_model(f"runs:/{run.info.run_id}/model")
    assert (loaded.predict(X) == MODEL.predict(X)).all()


def traces() -> None:
    """Their addresses are those of release 3.2 and later: an older client is told, and its program goes on."""

    @mlflow.trace
    def answer(question: str) -> str:
        return question.upper()

    assert answer("what") == "WHAT"
    try:
        client.search_traces(experiment_ids=["0"])
        raise AssertionError("traces of old clients are kept after all: test them")
    except MlflowException as error:
        assert error.error_code == "ENDPOINT_NOT_FOUND" and "/api/2.0/mlflow/traces" in str(error)


for part in (runs, models, learning, traces):
    part()
    print(part.__name__)
