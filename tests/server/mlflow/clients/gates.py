"""The unmodified client beside a pipeline and an endpoint of Flyball: ``gates.py URL``. It only asserts."""

import os
import sys
import time

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sklearn.linear_model import LogisticRegression

mlflow.set_tracking_uri(sys.argv[1])
client = MlflowClient()
features = pd.DataFrame({"weight_kg": [1.0, 19.0, 3.0, 15.0], "late_share": [0.1, 0.9, 0.2, 0.8]})


def register(auc: float) -> str:
    model = LogisticRegression().fit(features, [0, 1, 0, 1])
    with mlflow.start_run():
        mlflow.log_input(mlflow.data.from_pandas(features, name="parcels", digest=digest), context="training")
        mlflow.log_metric("auc", auc)
        info = mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name="lateness",
            input_example=features,
            pip_requirements=["scikit-learn"],
        )
    return str(info.registered_model_version)


def wait_for(version: str, wanted: str | None) -> None:
    """Wait until Flyball has judged a version."""
    for _ in range(300):
        if client.get_model_version("lateness", version).status_message == wanted:
            return
        time.sleep(0.1)
    raise AssertionError(client.get_model_version("lateness", version).status_message)


trained = client.get_model_version_by_alias("lateness", "champion")
assert int(trained.version) == 1
assert client.get_run(trained.run_id).info.status == "FINISHED"
own = mlflow.pyfunc.load_model("models:/lateness@champion")
names = own.metadata.get_input_schema().input_names()
rows = pd.DataFrame([dict.fromkeys(names, 1.0)])
rows = rows.astype({field.name: field.type.to_pandas() for field in own.metadata.get_input_schema().inputs})
assert own.predict(rows).shape == (1, 2)

# A client sees the snapshots that a pipeline's run read as datasets, whose digests name them.
digest = client.get_run(trained.run_id).inputs.dataset_inputs[0].dataset.digest

bad = register(0.3)
wait_for(bad, "its gates say no")
try:
    client.set_registered_model_alias("lateness", "champion", bad)
    raise AssertionError("a version that was rejected became champion")
except MlflowException as error:
    assert "auc" in str(error) and error.error_code == "INVALID_PARAMETER_VALUE", str(error)

good = register(0.9)
wait_for(good, None)
client.set_registered_model_alias("lateness", "champion", good)
assert int(client.get_model_version_by_alias("lateness", "champion").version) == int(good) == 3
