"""Commands around whole projects: init, demo, settings."""

import shutil
from importlib import resources
from pathlib import Path

import click

from flyball.cli.options import HOME, Place, emit, json_option, place_options
from flyball.core.errors import ConflictError, NotFoundError
from flyball.core.settings import PROJECT_FILE, load_settings

_FOLDER = click.Path(file_okay=False, path_type=Path)
_DEMO_MARK = ".flyball-demo"
"""A file that says: this folder was made by the demo, which may make it anew."""


@click.command()
@click.argument("folder", type=_FOLDER, default=Path())
@json_option
def init(folder: Path, as_json: bool) -> None:
    """Write a new project into FOLDER (this one by default) that runs at once.

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
    made = {"project": str(folder), "next": f"{where}flyball run training"}
    emit(made, as_json=as_json, text=lambda _: f"A project is ready in {str(folder)!r}. Next: {made['next']}")


@click.command()
@click.option("--seed", default=7, show_default=True, help="Another seed is another year.")
@click.option("--project", "folder", type=_FOLDER, default=Path("demo"), show_default=True, help="Where it is left.")
@click.option("--home", type=_FOLDER, help="Where everything is kept [default: .flyball in the project].")
@json_option
def demo(seed: int, folder: Path, home: Path | None, as_json: bool) -> None:
    """Live through a year of a credit model in a minute, and leave the project to look around in.

    \b
    Example:
      flyball demo --project demo
    """
    from flyball.cli.story import play_demo

    example = find_example("credit")
    place = Place(folder, home)
    if place.project.exists() and any(place.project.iterdir()) and not (place.project / _DEMO_MARK).exists():
        raise ConflictError(
            f"{str(folder)!r} holds something else, and a demo starts from an empty folder",
            hint="Choose another folder: flyball demo --project DIR",
        )
    shutil.rmtree(place.project, ignore_errors=True)
    shutil.copytree(example, place.project, ignore=shutil.ignore_patterns("__pycache__", "data", HOME))
    (place.project / _DEMO_MARK).touch()
    report = play_demo(place, seed, is_quiet=as_json)
    if as_json:
        emit(report, as_json=True)


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
