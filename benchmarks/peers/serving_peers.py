"""The peers of `benchmarks.serving`: each in an environment of its own under ``.bench``, with the same model.

Make one with: uv venv --python 3.11 .bench/NAME && uv pip install --python .bench/NAME/bin/python PACKAGES, where
NAME and PACKAGES are those of `PACKAGES`.
"""

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = {
    "mlserver": "mlserver==1.7.1 mlserver-sklearn==1.7.1",
    "mlflow": "mlflow scikit-learn uvicorn",
    "bentoml": "bentoml scikit-learn",
}
ADDRESSES = {
    "mlserver": "mlserver /v2/models/plain/infer",
    "mlflow": "mlflow /invocations",
    "bentoml": "bentoml /predict",
}
_HEALTH = {"mlserver": "/v2/health/ready", "mlflow": "/ping", "bentoml": "/readyz"}
_BENCH = Path(__file__).parents[2] / ".bench"
_SCRIPT = Path(__file__).with_name("serving_peer.py")


@contextmanager
def serving(name: str, folder: Path, port: int, core: int) -> Iterator[tuple[int, float]]:
    """Run a peer on one core for as long as the block lasts, and yield its process and how long it took
    until it was ready."""
    python = _BENCH / name / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"{name} is not installed: {python}; packages: {PACKAGES[name]}")
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PATH": f"{python.parent}:{os.environ['PATH']}"}
    subprocess.run([python, _SCRIPT, name, "train", str(port)], cwd=folder, env=environment, check=True)
    log = (folder / "log.txt").open("wb")
    begin = time.monotonic()
    command = ["taskset", "-c", str(core), python, _SCRIPT, name, "serve", str(port)]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        while not _is_ready(f"http://127.0.0.1:{port}{_HEALTH[name]}"):
            if process.poll() is not None or time.monotonic() - begin > 90:
                raise SystemExit(f"{name} did not start; see {folder / 'log.txt'}")
            time.sleep(0.05)
        yield process.pid, time.monotonic() - begin
    finally:
        # Peers start processes of their own, all in the session that was made here.
        os.killpg(process.pid, 15)
        process.wait(timeout=30)


def _is_ready(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except (OSError, urllib.error.HTTPError):
        return False
    return True
