"""What all tests share: on which database they run."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyball.storage import db as storage_db
from flyball.storage.db import Backend, Database
from tests.servers import PostgresqlServer, postgresql

_TEMPLATE = "migrated"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database",
        choices=("sqlite", "postgresql"),
        default="sqlite",
        help="Where tests keep metadata: postgresql gives each home a database of a server made for the tests.",
    )


@pytest.fixture(scope="session", name="postgresql_server")
def make_postgresql_server() -> Iterator[PostgresqlServer]:
    with postgresql() as server:
        yield server


@pytest.fixture(scope="session", autouse=True)
def use_postgresql(request: pytest.FixtureRequest) -> Iterator[None]:
    """With ``--database postgresql``, open a database of a real server for each file that a test names."""
    if request.config.getoption("--database") == "sqlite":
        yield
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql_server")
    template = server.new_database(_TEMPLATE)
    Database(template).close()
    open_before = storage_db._open
    made: dict[str, str] = {}

    def open_instead(url: str, is_durable: bool) -> Backend:
        path = os.path.realpath(url.removeprefix("sqlite:///"))
        if not url.startswith("sqlite:///") or Path(path).exists():  # one that was written as a file on purpose
            return open_before(url, is_durable)
        if path not in made:
            made[path] = server.new_database(f"t{hashlib.sha256(path.encode()).hexdigest()[:40]}", template=_TEMPLATE)
        return open_before(made[path], is_durable)

    patch = pytest.MonkeyPatch()
    patch.setattr(storage_db, "_open", open_instead)
    yield
    patch.undo()
