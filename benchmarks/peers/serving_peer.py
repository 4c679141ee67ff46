"""Trains and serves the benchmark's model with a peer. Usage: serving_peer.py NAME train|serve PORT, in its folder."""

import json
import os
import pickle
import sys
from pathlib import Path


def train(name, port):
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    fields = rng.random((20_000, 20))
    label = fields[:, :5].sum(axis=1) + rng.normal(size=20_000) / 2 > 2.5
    model = make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=100, random_state=0))
    names = [f"field{at}" for at in range(20)]
    if name == "mlflow":
        import mlflow
        import pandas as pd

        frame = pd.DataFrame(fields, columns=names)
        model.fit(frame, label)
        signature = mlflow.models.infer_signature(frame, model.predict_proba(frame)[:, 1])
        # Newer skops, its default, does not load the trees again.
        options = {"serialization_format": "cloudpickle", "pyfunc_predict_fn": "predict_proba"}
        mlflow.sklearn.save_model(model, "model", signature=signature, **options)
        return
    model.fit(fields, label)
    if name == "mlserver":
        import joblib

        joblib.dump(model, "model.joblib")
        settings = {"implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "./model.joblib"}}
        Path("model-settings.json").write_text(json.dumps({"name": "plain"} | settings))
        server = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2, "parallel_workers": 0}
        Path("settings.json").write_text(json.dumps(server | {"debug": False}))
    else:
        Path("model.pickle").write_bytes(pickle.dumps(model))
        Path("service.py").write_text(_SERVICE)


_SERVICE = """
import pickle
from pathlib import Path

import bentoml
import numpy as np


@bentoml.service(workers=1, traffic={"timeout": 60})
class Plain:
    def __init__(self):
        self.model = pickle.loads(Path("model.pickle").read_bytes())

    @bentoml.api
    def predict(self, values: np.ndarray) -> np.ndarray:
        return self.model.predict_proba(values)[:, 1]
"""


def serve(name, port):
    commands = {
        "mlserver": ["mlserver", "start", "."],
        "mlflow": ["mlflow", "models", "serve", "-m", "model", "-p", str(port), "--env-manager", "local", "-w", "1"],
        "bentoml": ["bentoml", "serve", "service:Plain", "--port", str(port)],
    }
    command = commands[name]
    os.execvp(command[0], command)


if __name__ == "__main__":
    {"train": train, "serve": serve}[sys.argv[2]](sys.argv[1], int(sys.argv[3]))
