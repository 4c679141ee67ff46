"""What clients ask of the registry costs the same however much it holds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flyball.storage.sqlite import SqliteBackend
from flyball.workspace.home import Home

_STEPS_COUNTED = 10


@pytest.fixture
def home(tmp_path: Path, request: pytest.FixtureRequest) -> Home:
    if request.config.getoption("--database") != "sqlite":
        pytest.skip("counts the steps of SQLite")
    return Home(tmp_path, tmp_path / "home", is_durable=False)


def count_steps(home: Home, work: Callable[[], Any]) -> int:
    """Return how many steps SQLite's machine takes for some work."""
    backend = home.db._backend
    assert isinstance(backend, SqliteBackend)
    counted = [0]

    def count() -> int:
        counted[0] += _STEPS_COUNTED
        return 0

    connection = backend._connection()
    connection.set_progress_handler(count, _STEPS_COUNTED)
    work()
    connection.set_progress_handler(None, 0)
    return counted[0]


def fill(home: Home, versions: int) -> None:
    with home.db.begin() as tx:
        for _ in range(versions):
            made = home.client_registry.create_version(tx, "m", "s3://x/y", tags={"a": "b"}).version
            home.client_registry.set_alias(tx, "m", "champion", made.number)
            home.logged_models.create(tx, 0, name="model")
        for number in range(versions):
            home.client_registry.create_model(tx, f"other-{number}-{made.number}")


def test_no_call_costs_more_in_a_store_that_holds_ten_times_as_much(home: Home) -> None:
    registry, logged = home.client_registry, home.logged_models
    with home.db.begin() as tx:
        registry.create_model(tx, "m")

    def writing(work: Callable[[Any], Any]) -> Callable[[], None]:
        def write() -> None:
            with home.db.begin() as tx:
                work(tx)

        return write

    asked: dict[str, Callable[[], Any]] = {
        "load by alias": lambda: registry.get_by_alias("m", "champion"),
        "a model": lambda: registry.get_model("m"),
        "a version": lambda: registry.get_version("m", 2),
        "versions": lambda: registry.search_versions(limit=10),
        "versions of a model": lambda: registry.search_versions(filter_text="name = 'm'", limit=10),
        "versions by number": lambda: registry.search_versions(
            filter_text="name = 'm'", orders=["version_number DESC"], limit=10
        ),
        "versions of a run": lambda: registry.search_versions(filter_text="run_id = 'none'", limit=10),
        "models": lambda: registry.search_models(limit=10),
        "logged models": lambda: logged.search([0], limit=10),
        "what waits for its gates": lambda: home.registry.list_unpackaged("m"),
        "register": writing(lambda tx: registry.create_version(tx, "m", "s3://x/y")),
        "move an alias": writing(lambda tx: registry.set_alias(tx, "m", "best", 1)),
        "log a model": writing(lambda tx: logged.create(tx, 0)),
    }
    fill(home, 30)
    before = {name: count_steps(home, work) for name, work in asked.items()}
    fill(home, 300)
    after = {name: count_steps(home, work) for name, work in asked.items()}
    assert {name: (before[name], steps) for name, steps in after.items() if steps > before[name] * 1.3 + 200} == {}
