"""Logs points with MLflow's client: ``live_runs_mlflow.py mlflow|mlflow_asynchronous URL CALLS``; prints JSON."""

import json
import os
import statistics
import sys
import time

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}

import mlflow

case, url, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
mlflow.set_tracking_uri(url)
with mlflow.start_run():
    mlflow.log_metric("warm", 1.0)
    waiting, took = [], []
    begun = time.perf_counter()
    for step in range(calls):
        started = time.perf_counter_ns()
        waiting.append(mlflow.log_metric("loss", step * 0.5, step=step, synchronous=case == "mlflow"))
        took.append(time.perf_counter_ns() - started)
    for operation in waiting:
        if operation is not None:
            operation.wait()
    until_kept_s = time.perf_counter() - begun
took.sort()
print(
    json.dumps(
        {
            "p50_us": round(took[calls // 2] / 1000, 1),
            "p99_us": round(took[calls * 99 // 100] / 1000, 1),
            "mean_us": round(statistics.fmean(took) / 1000, 1),
            "points_per_s_until_kept": round(calls / until_kept_s),
        }
    )
)
