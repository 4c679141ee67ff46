"""The options that commands share, and how they print."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from flyball.core.encoding import to_json

F = TypeVar("F", bound=Callable[..., Any])
HOME = ".flyball"


class Place:
    """Where a command works: the project's folder and its home."""

    def __init__(self, project: Path, home: Path | None) -> None:
        self.project = project.resolve()
        self.home = (home if home is not None else self.project / HOME).resolve()


def place_options(function: F) -> F:
    """Add ``--project`` and ``--home``; the command receives a `Place` as ``place``."""

    def with_place(*, project: Path, home: Path | None, **arguments: Any) -> Any:
        return function(place=Place(project, home), **arguments)

    with_place.__doc__ = function.__doc__
    with_place.__name__ = function.__name__
    # Click keeps the options that decorators below this one declared on the function.
    with_place.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    folder = click.Path(file_okay=False, path_type=Path)
    return click.option(  # type: ignore[return-value]
        "--home", type=folder, help="Where everything is kept [default: .flyball in the project]."
    )(
        click.option("--project", type=folder, default=Path(), help="The project's folder [default: this one].")(
            with_place
        )
    )


def json_option(function: F) -> F:
    """Add ``--json``; the command receives ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(function)


def emit(value: Any, *, as_json: bool, text: Callable[[Any], str] | None = None) -> None:
    """Print a result on standard output: as JSON, or in words by ``text``."""
    if as_json or text is None:
        click.echo(to_json(value, indent=0 if as_json else 2).decode())
    else:
        click.echo(text(value))
