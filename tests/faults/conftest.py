from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers import postgresql
from tests.stories.system import System


@pytest.fixture(params=["sqlite", "postgresql"])
def tracking_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    """A server of runs in a folder without a project, on either database; it is not started yet."""
    folder = tmp_path / "server"
    folder.mkdir()
    with ExitStack() as stack:
        if request.param == "postgresql":
            server = stack.enter_context(postgresql(settings=()))
            (folder / "flyball.toml").write_text(f'database = "{server.new_database()}"\n')
        made = System(folder)
        stack.callback(made.stop)
        yield made
