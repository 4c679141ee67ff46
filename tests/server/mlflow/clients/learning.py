"""What people train with, while it logs by itself, and what judges it: ``learning.py URL``. It only asserts."""

import os
import sys
from pathlib import Path

os.environ |= {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "Agg",
}

import matplotlib.pyplot as plt
import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

URL = sys.argv[1]
mlflow.set_tracking_uri(URL)
client = MlflowClient()
X, Y = load_iris(return_X_y=True, as_frame=True)
TRUE = Y == 0


def files(run_id: str, below: str = "") -> set[str]:
    return {found.path for found in client.list_artifacts(run_id, below or None)}


def last(name: str) -> mlflow.entities.Run:
    return mlflow.search_runs(experiment_names=[name], output_format="list", max_results=1)[0]


def scikit_learn() -> None:
    mlflow.set_experiment("sklearn")
    mlflow.sklearn.autolog(log_datasets=True)
    model = LogisticRegression(max_iter=200).fit(X, Y)
    run = last("sklearn")
    assert run.info.status == "FINISHED"
    assert run.data.params["max_iter"] == "200" and run.data.metrics["training_accuracy_score"] > 0.9
    assert run.inputs.dataset_inputs and len(run.outputs.model_outputs) == 1
    made = mlflow.get_logged_model(run.outputs.model_outputs[0].model_id)
    assert made.status == "READY" and made.source_run_id == run.info.run_id
    loaded = mlflow.sklearn.load_model(f"models:/{made.model_id}")
    assert (loaded.predict(X) == model.predict(X)).all()
    assert (mlflow.sklearn.load_model(f"runs:/{run.info.run_id}/model").predict(X) == model.predict(X)).all()
    assert "training_confusion_matrix.png" in files(run.info.run_id)
    model.score(X, Y)
    assert any(name.startswith("LogisticRegression_score") for name in client.get_run(run.info.run_id).data.metrics)
    mlflow.sklearn.autolog(disable=True)


def searching() -> None:
    mlflow.set_experiment("grid")
    mlflow.sklearn.autolog(log_models=False, max_tuning_runs=3)
    GridSearchCV(LogisticRegression(max_iter=200), {"C": [0.1, 1.0, 10.0]}, cv=2).fit(X, Y)
    mlflow.sklearn.autolog(disable=True)
    frame = mlflow.search_runs(experiment_names=["grid"])
    parents = frame[frame["tags.mlflow.parentRunId"].isna()]
    assert len(frame) == 4 and len(parents) == 1
    assert set(frame["tags.mlflow.parentRunId"].dropna()) == {parents["run_id"].iloc[0]}
    assert "cv_results.csv" in files(parents["run_id"].iloc[0])


def xgb() -> None:
    import xgboost

    mlflow.set_experiment("xgboost")
    mlflow.xgboost.autolog(model_format="json")
    rows = xgboost.DMatrix(X, label=TRUE)
    xgboost.train({"objective": "binary:logistic", "nthread": 1}, rows, num_boost_round=5, evals=[(rows, "train")])
    mlflow.xgboost.autolog(disable=True)
    run = last("xgboost")
    assert len(client.get_metric_history(run.info.run_id, "train-logloss")) == 5
    assert run.data.params["num_boost_round"] == "5" and "feature_importance_weight.json" in files(run.info.run_id)
    model = mlflow.xgboost.load_model(f"runs:/{run.info.run_id}/model")
    assert (model.predict(rows).round() == TRUE).all()


def light() -> None:
    import lightgbm

    mlflow.set_experiment("lightgbm")
    mlflow.lightgbm.autolog()
    rows = lightgbm.Dataset(X, label=TRUE)
    asked = {"objective": "binary", "num_threads": 1, "verbosity": -1}
    lightgbm.train(asked, rows, num_boost_round=5, valid_sets=[rows], valid_names=["train"])
    mlflow.lightgbm.autolog(disable=True)
    run = last("lightgbm")
    assert len(client.get_metric_history(run.info.run_id, "train-binary_logloss")) == 5
    assert mlflow.lightgbm.load_model(f"runs:/{run.info.run_id}/model").num_trees() == 5


def pictures_and_tables() -> None:
    mlflow.set_experiment("files")
    with mlflow.start_run() as run:
        figure, axes = plt.subplots()
        axes.plot([1, 2], [3, 4])
        mlflow.log_figure(figure, "plots/line.png")
        mlflow.log_table({"question": ["a", "b"], "answer": [1, 2]}, "answers.json")
        mlflow.log_table({"question": ["c"], "answer": [3]}, "answers.json")
        mlflow.log_dict({"a": [1]}, "deep/in/folders/ünï 🎯.json")
        mlflow.log_text("what it says", "notes.txt")
        mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), key="dogs", step=3, synchronous=True)
    run_id = run.info.run_id
    assert files(run_id) == {"plots", "answers.json", "deep", "notes.txt", "images"}
    assert {name.partition("+timestamp")[0] for name in files(run_id, "images")} == {"images/dogs+step+3"}
    assert files(run_id, "deep/in/folders") == {"deep/in/folders/ünï 🎯.json"}
    assert list(mlflow.load_table("answers.json", run_ids=[run_id])["answer"]) == [1, 2, 3]
    root = client.get_run(run_id).info.artifact_uri
    assert mlflow.artifacts.load_text(f"{root}/notes.txt") == "what it says"
    assert mlflow.artifacts.load_dict(f"{root}/deep/in/folders/ünï 🎯.json") == {"a": [1]}
    again = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="plots", dst_path="fetched")
    assert [found.name for found in Path(again).iterdir()] == ["line.png"]


def judging() -> None:
    mlflow.set_experiment("judged")
    model = LogisticRegression(max_iter=200).fit(X, TRUE)
    rows = X.assign(target=TRUE)
    with mlflow.start_run() as run:
        logged = mlflow.sklearn.log_model(model, name="model", input_example=X.head(2), pip_requirements=[])
        result = mlflow.models.evaluate(
            logged.model_uri,
            rows,
            targets="target",
            model_type="classifier",
            evaluator_config={"log_explainer": False, "log_model_explainability": False},
        )
    assert result.metrics["accuracy_score"] > 0.9
    assert client.get_run(run.info.run_id).data.metrics["accuracy_score"] == result.metrics["accuracy_score"]
    assert "confusion_matrix.png" in files(run.info.run_id)
    told = {metric.key for metric in mlflow.get_logged_model(logged.model_id).metrics}
    assert "accuracy_score" in told


def registering() -> None:
    mlflow.set_experiment("registered")
    model = LogisticRegression(max_iter=200).fit(X, TRUE)
    with mlflow.start_run():
        logged = mlflow.sklearn.log_model(model, name="model", registered_model_name="iris", pip_requirements=[])
    again = mlflow.register_model(logged.model_uri, "iris")
    assert (int(logged.registered_model_version), int(again.version)) == (1, 2), logged.registered_model_version
    client.set_registered_model_alias("iris", "champion", "2")
    found = mlflow.pyfunc.load_model("models:/iris@champion")
    assert (pd.Series(found.predict(X)) == model.predict(X)).all()
    assert found.metadata.model_id == logged.model_id


PARTS = (scikit_learn, searching, xgb, light, pictures_and_tables, judging, registering)
for part in PARTS if len(sys.argv) < 3 else [found for found in PARTS if found.__name__ in sys.argv[2:]]:
    part()
    print(part.__name__)
