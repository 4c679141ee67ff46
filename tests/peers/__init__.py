"""Other tools' clients, each in a virtual environment of its own so that their pins do not bind ours.

``make peers`` makes ``.peers/NAME`` for every ``NAME.txt`` beside this file. A test runs a client's script with
`peer_python`; it skips where the environment has not been made.
"""

import os
import shutil
from pathlib import Path

import pytest

ENVIRONMENTS = Path(__file__).parents[2] / ".peers"


def peer_python(name: str) -> str:
    """Return the interpreter that has a peer's client."""
    if not (ENVIRONMENTS / name / "installed").exists():
        pytest.skip(f"the environment of {name} is not there; make it with: make peers")
    return str(ENVIRONMENTS / name / "bin" / "python")


def needs_spark() -> None:
    """Skip where PySpark or Java is not installed; `make test-all` installs both."""
    pytest.importorskip("pyspark")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("Java is not installed (Debian's package openjdk-17-jre-headless)")
