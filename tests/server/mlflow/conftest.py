"""A home and the MLflow application over it."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyball.server.mlflow.app import MlflowApp
from flyball.workspace.home import Home
from tests.server.mlflow.calls import Calls


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path, tmp_path / "home", is_durable=False)
    yield home
    home.db.close()


@pytest.fixture
def calls(home: Home) -> Iterator[Calls]:
    app = MlflowApp(home)
    yield Calls(app)
    app.close()


@pytest.fixture
def without_garbage() -> Iterator[None]:
    """Let nothing that other tests left be finalized in the depth of a nested body, where no stack is left for it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
