"""The peers of `benchmarks.serving`: each in an environment of its own under ``.bench``, with the same model.

An environment is made when its peer is first measured.
"""

import os
import subprocess
import sys
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
    python = _install(name)
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


def _install(name: str) -> Path:
    """Make a peer's environment, unless it is there, and return its interpreter."""
    python, done = _BENCH / name / "bin" / "python", _BENCH / name / "installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", str(_BENCH / name)], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES[name].split()], check=True, timeout=900)
        done.touch()
    return python


def _is_ready(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except (OSError, urllib.error.HTTPError):
        return False
    return True
