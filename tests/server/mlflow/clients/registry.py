"""Everything that the unmodified client does with the registry: ``registry.py URL``. It only asserts."""

import os
import sys

os.environ |= {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sklearn.linear_model import LogisticRegression

URL = sys.argv[1]
mlflow.set_tracking_uri(URL)
client = MlflowClient()
rows = np.random.default_rng(0).normal(size=(200, 3))
labels = (rows[:, 0] > 0).astype(int)
fitted = LogisticRegression().fit(rows, labels)


def refused(code: str, call, *arguments, **named) -> str:
    try:
        call(*arguments, **named)
    except MlflowException as error:
        assert error.error_code == code, (error.error_code, str(error))
        return str(error)
    raise AssertionError(f"{call} was not refused")


def same(model) -> None:
    """Check that a model that was loaded answers as the fitted one does."""
    assert (model.predict(rows) == fitted.predict(rows)).all()


def log_and_load() -> None:
    mlflow.set_experiment("registry")
    with mlflow.start_run() as run:
        mlflow.log_metric("auc", 0.9)
        info = mlflow.sklearn.log_model(
            fitted,
            name="model",
            registered_model_name="churn",
            input_example=rows[:3],
            pip_requirements=["scikit-learn"],
        )
        mlflow.log_metric("accuracy", 0.8, model_id=info.model_id)
    assert int(info.registered_model_version) == 1
    run_id = run.info.run_id
    client.set_registered_model_alias("churn", "champion", 1)
    for uri in (
        "models:/churn@champion",
        "models:/churn/1",
        "models:/churn/latest",
        f"models:/{info.model_id}",
        f"runs:/{run_id}/model",
        info.model_uri,
    ):
        same(mlflow.pyfunc.load_model(uri))
    same(mlflow.sklearn.load_model("models:/churn@champion"))
    version = client.get_model_version_by_alias("churn", "champion")
    assert (int(version.version), version.run_id, version.status) == (1, run_id, "READY")
    assert list(version.aliases) == ["champion"]
    assert client.get_run(run_id).outputs.model_outputs[0].model_id == info.model_id

    again = mlflow.register_model(f"runs:/{run_id}/model", "churn", tags={"from": "run"})
    assert int(again.version) == 2 and again.tags == {"from": "run"}
    other = mlflow.register_model(f"models:/{info.model_id}", "other")
    assert int(other.version) == 1
    same(mlflow.pyfunc.load_model("models:/other/1"))
    copied = client.copy_model_version("models:/churn@champion", "copied")
    assert int(copied.version) == 1 and copied.source == "models:/churn/1"
    same(mlflow.pyfunc.load_model("models:/copied/1"))
    same(
        mlflow.pyfunc.load_model("models:/copied@best")
        if client.set_registered_model_alias("copied", "best", 1)
        else fitted
    )
    refused("RESOURCE_DOES_NOT_EXIST", client.create_model_version, "churn", "models:/m-0123")
    try:
        mlflow.pyfunc.load_model("models:/churn@nobody")
    except MlflowException as error:
        assert "nobody" in str(error)


def registry() -> None:
    client.create_registered_model("crud", tags={"team": "risk"}, description="first")
    refused("RESOURCE_ALREADY_EXISTS", client.create_registered_model, "crud")
    for number in range(4):
        client.create_model_version("crud", f"s3://bucket/{number}", tags={"odd": str(number % 2)}, description="v")
    client.update_registered_model("crud", description="second")
    client.set_registered_model_tag("crud", "a", "b")
    client.delete_registered_model_tag("crud", "team")
    client.set_registered_model_alias("crud", "best", "2")
    client.set_registered_model_alias("crud", "best", "3")
    client.set_registered_model_alias("crud", "old", "1")
    client.delete_registered_model_alias("crud", "old")
    model = client.get_registered_model("crud")
    assert (model.description, model.tags, model.aliases) == ("second", {"a": "b"}, {"best": "3"})
    client.update_model_version("crud", "1", description="the first")
    client.set_model_version_tag("crud", "1", "k", "v")
    client.delete_model_version_tag("crud", "1", "odd")
    version = client.get_model_version("crud", "1")
    assert (version.description, version.tags, version.current_stage) == ("the first", {"k": "v"}, "None")
    assert client.get_model_version_download_uri("crud", "1") == "s3://bucket/0"
    client.transition_model_version_stage("crud", "1", "Production")
    client.transition_model_version_stage("crud", "2", "Production", archive_existing_versions=True)
    stages = {str(found.version): found.current_stage for found in client.search_model_versions("name='crud'")}
    assert stages == {"1": "Archived", "2": "Production", "3": "None", "4": "None"}
    newest = client.get_latest_versions("crud", stages=["Production", "None"])
    assert {str(found.version) for found in newest} == {"2", "4"}
    found = client.search_model_versions("name='crud' and tags.odd='1'", order_by=["version_number ASC"])
    assert [int(one.version) for one in found] == [2, 4]
    names, token = [], None
    while True:
        page = client.search_registered_models(max_results=2, order_by=["name DESC"], page_token=token)
        names += [one.name for one in page]
        token = page.token
        if not token:
            break
    assert names == sorted(names, reverse=True) and "crud" in names
    assert [one.name for one in client.search_registered_models("name LIKE 'cr%'")] == ["crud"]
    client.rename_registered_model("crud", "renamed")
    assert client.get_model_version("renamed", "4").name == "renamed"
    client.delete_model_version("renamed", "4")
    refused("RESOURCE_DOES_NOT_EXIST", client.get_model_version, "renamed", "4")
    client.delete_registered_model("renamed")
    refused("RESOURCE_DOES_NOT_EXIST", client.get_registered_model, "renamed")
    refused("INVALID_PARAMETER_VALUE", client.create_registered_model, "a/b")


def logged_models() -> None:
    number = mlflow.set_experiment("logged").experiment_id
    model = mlflow.initialize_logged_model(name="agent", params={"depth": "3"}, tags={"a": "b"}, model_type="agent")
    mlflow.log_model_params({"width": "4"}, model_id=model.model_id)
    mlflow.set_logged_model_tags(model.model_id, {"c": "d"})
    mlflow.delete_logged_model_tag(model.model_id, "a")
    model = mlflow.finalize_logged_model(model.model_id, "READY")
    assert model.params == {"depth": "3", "width": "4"}
    assert model.tags["c"] == "d" and "a" not in model.tags  # the client adds tags of its own
    with mlflow.start_run():
        mlflow.log_metric("loss", 0.5, model_id=model.model_id)
    found = mlflow.get_logged_model(model.model_id)
    assert [(metric.key, metric.value) for metric in found.metrics] == [("loss", 0.5)]
    for text in ("name = 'agent'", "metrics.loss < 1", "params.depth = '3'", "tags.c = 'd'", "model_type = 'agent'"):
        assert len(mlflow.search_logged_models([number], text, output_format="list")) == 1, text
    assert mlflow.search_logged_models([number], "metrics.loss > 1", output_format="list") == []
    frame = mlflow.search_logged_models([number], order_by=[{"field_name": "metrics.loss", "ascending": False}])
    assert list(frame["model_id"]) == [model.model_id]
    assert mlflow.last_logged_model().model_id == model.model_id
    client.delete_logged_model(model.model_id)
    refused("RESOURCE_DOES_NOT_EXIST", client.get_logged_model, model.model_id)


def prompts() -> None:
    first = mlflow.genai.register_prompt("greet", "Say hello to {{name}}.", commit_message="first", tags={"a": "b"})
    second = mlflow.genai.register_prompt("greet", "Greet {{name}}.", commit_message="second")
    assert (int(first.version), int(second.version)) == (1, 2)
    assert mlflow.genai.load_prompt("prompts:/greet/1").format(name="Ada") == "Say hello to Ada."
    mlflow.genai.set_prompt_alias("greet", alias="live", version=2)
    assert mlflow.genai.load_prompt("prompts:/greet@live").template == "Greet {{name}}."
    mlflow.genai.delete_prompt_alias("greet", alias="live")
    assert [prompt.name for prompt in mlflow.genai.search_prompts()] == ["greet"]
    assert "greet" not in [model.name for model in client.search_registered_models()]
    mlflow.genai.set_prompt_tag("greet", "team", "risk")
    mlflow.genai.set_prompt_version_tag("greet", 1, "seen", "yes")
    assert mlflow.genai.get_prompt_tags("greet")["team"] == "risk"
    refused("INVALID_PARAMETER_VALUE", mlflow.genai.register_prompt, "a/b", "x")


for part in (registry, logged_models, prompts, log_and_load):
    part()
    print(part.__name__, "done", flush=True)
