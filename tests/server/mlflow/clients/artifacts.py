"""What the client of MLflow does with artifacts. Run by its own interpreter: ``artifacts.py URL``."""

import hashlib
import os
import sys
import tempfile
from pathlib import Path

import mlflow
import mlflow.artifacts
import requests
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

mlflow.set_tracking_uri(sys.argv[1])
client = MlflowClient()
mlflow.set_experiment("artifacts")


def paths(run_id: str, path: str | None = None) -> list[str]:
    return [entry.path for entry in client.list_artifacts(run_id, path)]


def files_in_folders() -> None:
    with tempfile.TemporaryDirectory() as name, mlflow.start_run() as run:
        folder = Path(name)
        (folder / "sub" / "größe").mkdir(parents=True)
        (folder / "a.txt").write_text("a")
        (folder / "sub" / "naïve 名.txt").write_text("unicode")
        (folder / "sub" / "größe" / "empty").touch()
        (folder / "sub" / "100 %.csv").write_text("x,y")
        mlflow.log_artifact(str(folder / "a.txt"))
        mlflow.log_artifact(str(folder / "a.txt"), "deep/er")
        mlflow.log_artifacts(str(folder), "all")
        run_id = run.info.run_id
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/"), run.info.artifact_uri
    assert paths(run_id) == ["a.txt", "all", "deep"], paths(run_id)
    assert paths(run_id, "all/sub") == ["all/sub/100 %.csv", "all/sub/größe", "all/sub/naïve 名.txt"]
    assert paths(run_id, "a.txt") == paths(run_id, "nothing") == []
    sizes = {entry.path: (entry.is_dir, entry.file_size) for entry in client.list_artifacts(run_id)}
    assert sizes["a.txt"] == (False, 1), sizes
    assert sizes["all"][0] is True
    whole = Path(client.download_artifacts(run_id, "all"))
    assert (whole / "sub" / "naïve 名.txt").read_text() == "unicode"
    assert (whole / "sub" / "größe" / "empty").read_bytes() == b""
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/all/sub/100 %.csv") == "x,y"
    try:
        client.download_artifacts(run_id, "nothing")
        raise AssertionError("there is no such file")
    except (MlflowException, OSError, requests.HTTPError):
        pass


def what_the_client_makes() -> None:
    import matplotlib.pyplot as plt
    import pandas as pd

    with mlflow.start_run() as run:
        mlflow.log_dict({"k": [1, 2]}, "d/config.json")
        mlflow.log_text("<b>hello</b>", "page.html")
        figure, axes = plt.subplots()
        axes.plot([1, 2])
        mlflow.log_figure(figure, "plots/figure.png")
        mlflow.log_table({"q": ["a"], "n": [1]}, "table.json")
        mlflow.log_table(pd.DataFrame({"q": ["b"], "n": [2]}), "table.json")
        run_id = run.info.run_id
    assert mlflow.artifacts.load_dict(f"runs:/{run_id}/d/config.json") == {"k": [1, 2]}
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/page.html") == "<b>hello</b>"
    assert Path(client.download_artifacts(run_id, "plots/figure.png")).read_bytes()[:4] == b"\x89PNG"
    table = mlflow.load_table("table.json", run_ids=[run_id])
    assert table["q"].tolist() == ["a", "b"], table
    client.log_text(run_id, "after the end", "late.txt")
    assert "late.txt" in paths(run_id)


def deleting() -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    run = client.create_run("0")
    for path in ("a.txt", "b/c.txt", "b/d/e.txt"):
        client.log_text(run.info.run_id, path, path)
    store = get_artifact_repository(run.info.artifact_uri)
    store.delete_artifacts("b")
    assert paths(run.info.run_id) == ["a.txt"]
    store.delete_artifacts()
    assert paths(run.info.run_id) == []


def large_files() -> None:
    data = os.urandom(1 << 20) * 24
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model.bin"
        path.write_bytes(data)
        for multipart in ("false", "true"):
            os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD"] = multipart
            os.environ["MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE"] = str(1 << 20)
            os.environ["MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE"] = str(5 << 20)
            run = client.create_run("0")
            client.log_artifact(run.info.run_id, str(path), "models")
            back = Path(client.download_artifacts(run.info.run_id, "models/model.bin")).read_bytes()
            assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest(), multipart


files_in_folders()
what_the_client_makes()
deleting()
large_files()
