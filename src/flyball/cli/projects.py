"""Commands around whole projects: init, demo, settings."""

import shutil
from importlib import resources
from pathlib import Path

import click

from flyball.cli.options import HOME, Place, emit, json_option, place_options
from flyball.core.errors import ConflictError, NotFoundError
from flyball.core.settings import PROJECT_FILE, load_settings

_DEMO_MARK = ".flyball-demo"
"""Lies in a folder that a demo may replace; any other folder with something in it is somebody's own."""
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.argument("folder", type=_FOLDER, default=Path())
def init(folder: Path) -> None:
    r"""Write a new project into FOLDER (this one by default) that runs at once.

    \b
    Example:
      flyball init churn && cd churn && flyball run training
    """
    if (folder / PROJECT_FILE).exists():
        raise ConflictError(
            f"{str(folder)!r} holds a {PROJECT_FILE} already", hint="Choose an empty folder: flyball init DIR"
        )
    template = resources.files("flyball.cli") / "template"
    with resources.as_file(template) as source:
        shutil.copytree(
            source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "__init__.py", "*.pyc")
        )
    where = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    click.echo(f"A project is ready in {str(folder)!r}. Next: {where}flyball run training")


@click.command()
@click.option("--seed", default=7, show_default=True, help="Another seed is another year.")
@click.option("--folder", type=_FOLDER, default=Path("demo"), show_default=True, help="Where the project is left.")
def demo(seed: int, folder: Path) -> None:
    r"""Live through a year of a credit model in a minute, and leave the project to look around in.

    \b
    Example:
      flyball demo --folder demo
    """
    from flyball.cli.story import play_demo

    example = find_example("credit")
    if folder.exists() and any(folder.iterdir()) and not (folder / _DEMO_MARK).exists():
        raise ConflictError(
            f"{str(folder)!r} holds something that is not a demo's, so it is not replaced",
            hint="Choose a new folder with --folder, or remove this one yourself.",
        )
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(example, folder, ignore=shutil.ignore_patterns("__pycache__", "data", HOME))
    (folder / _DEMO_MARK).touch()
    play_demo(folder.resolve(), seed)


def find_example(name: str) -> Path:
    """Return an example project's folder: inside the installed package, or in the repository's checkout.

    Raises:
        NotFoundError: This installation has no such example.
    """
    package = Path(str(resources.files("flyball")))
    for folder in (package / "examples" / name, package.parent.parent / "examples" / name):
        if (folder / PROJECT_FILE).is_file():
            return folder
    raise NotFoundError(f"this installation holds no example {name!r}", hint="Install Flyball again.")


@click.command()
@json_option
@place_options
def settings(place: Place, as_json: bool) -> None:
    """Show every setting's value and where it comes from."""
    _, sources = load_settings(place.project)
    emit(
        sources,
        as_json=as_json,
        text=lambda found: "\n".join(f"{entry.name:16} {entry.value!s:30} ({entry.source})" for entry in found),
    )
