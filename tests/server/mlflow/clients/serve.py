"""``mlflow models serve`` of a model that the registry holds: ``serve.py URL``. It only asserts."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet", "MLFLOW_TRACKING_URI": sys.argv[1]}

# As in an activated environment.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

import mlflow
import pandas as pd
from mlflow import MlflowClient
from sklearn.linear_model import LinearRegression

rows = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.0, 1.0, 0.0]})
fitted = LinearRegression().fit(rows, [2.0, 5.0, 6.0])
with mlflow.start_run():
    mlflow.sklearn.log_model(fitted, name="model", registered_model_name="served", input_example=rows)
MlflowClient().set_registered_model_alias("served", "champion", 1)

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
command = [
    "-m",
    "mlflow",
    "models",
    "serve",
    "-m",
    "models:/served@champion",
    "--env-manager",
    "local",
    "-p",
    str(port),
]
server = subprocess.Popen([sys.executable, *command], start_new_session=True)
try:
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=1)
            break
        except OSError:
            assert server.poll() is None, "mlflow models serve ended"
            time.sleep(0.2)
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps({"dataframe_split": rows.to_dict(orient="split")}).encode(),
        {"Content-Type": "application/json"},
    )
    answer = json.load(urllib.request.urlopen(request, timeout=20))
finally:
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)
expected = list(fitted.predict(rows))
assert all(abs(found - wanted) < 1e-9 for found, wanted in zip(answer["predictions"], expected, strict=True)), answer
