"""Commands that take everything along: export, import."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flyball.cli.options import Place, emit, json_option, place_options

if TYPE_CHECKING:
    from flyball.workspace.archives import Manifest
    from flyball.workspace.porting.feast_definitions import Carried


@click.command()
@click.argument("archive", type=click.Path(file_okay=False, path_type=Path))
@click.option("--check", is_flag=True, help="Only check that an archive that is there is whole.")
@json_option
@place_options
def export(place: Place, archive: Path, check: bool, as_json: bool) -> None:
    """Write all that the home holds into the folder ARCHIVE as Parquet, JSON and plain files; it may be in use.

    \b
    Examples:
      flyball export ../everything
      flyball export ../everything --check
    """
    from flyball.workspace.exporting import export_home
    from flyball.workspace.home import Home
    from flyball.workspace.restoring import check_archive

    found = check_archive(archive) if check else export_home(Home(place.project, place.home), archive.resolve())
    done = "is whole" if check else "is written"
    emit(found, as_json=as_json, text=lambda manifest: f"{archive} {done}: {_count(manifest)}")


@click.group("import")
def import_() -> None:
    """Bring in what another store, or an archive, holds."""


@import_.command()
@click.argument("archive", type=click.Path(file_okay=False, exists=True, path_type=Path))
@json_option
@place_options
def flyball(place: Place, archive: Path, as_json: bool) -> None:
    """Fill an empty home from ARCHIVE, which `flyball export` wrote; every file is checked by its digest.

    \b
    Example:
      flyball import flyball ../everything --home .flyball
    """
    from flyball.workspace.home import Home
    from flyball.workspace.restoring import restore_home

    found = restore_home(archive, Home(place.project, place.home))
    emit(found, as_json=as_json, text=lambda manifest: f"{place.home} is filled: {_count(manifest)}")


@import_.command()
@click.option("--from", "uri", required=True, help="A server's address, or a database: sqlite:///mlflow.db.")
@click.option(
    "--artifacts",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="What mlflow server was given as --artifacts-destination [default: mlartifacts beside the database].",
)
@json_option
@place_options
def mlflow(place: Place, uri: str, artifacts: Path | None, as_json: bool) -> int:
    """Bring over all that a store of MLflow holds; what is here already stays, so it can be done again.

    Exits with 1 when not all of it is here as it is there; what differs is named.

    \b
    Examples:
      flyball import mlflow --from http://127.0.0.1:5000
      flyball import mlflow --from sqlite:///mlflow.db --artifacts mlartifacts
    """
    from flyball.cli.progress import telling
    from flyball.cli.running import find_running
    from flyball.workspace.home import Home
    from flyball.workspace.porting.importing import Importer
    from flyball.workspace.porting.opening import open_source
    from flyball.workspace.porting.reports import draw_report

    source = open_source(uri, artifacts, own=find_running(place.home))
    try:
        with telling() as tell:
            report = Importer(Home(place.project, place.home), source, tell).bring()
    finally:
        source.close()
    emit(report, as_json=as_json, text=draw_report)
    return 0 if report.is_complete else 1


@import_.command()
@click.argument("repository", type=click.Path(file_okay=False, exists=True, path_type=Path))
@click.option("--python", "interpreter", default="python3", help="An interpreter that has Feast [default: python3].")
@json_option
@place_options
def feast(place: Place, repository: Path, interpreter: str, as_json: bool) -> None:
    """Write a project file with the definitions of a Feast REPOSITORY, and say what could not come along.

    Its Python is run, as feast apply runs it; nothing is applied or changed.

    \b
    Example:
      flyball import feast ../shop/feature_repo --python ../shop/.venv/bin/python --project .
    """
    from flyball.workspace.porting.feast_definitions import import_repository

    found = import_repository(repository, place.project, interpreter)
    emit(found, as_json=as_json, text=_describe_carried)


def _describe_carried(found: "Carried") -> str:
    lines = [f"{found.path} has {found.views} feature views and {found.services} lists of features"]
    lines += [f"  note: {note}" for note in found.notes]
    lines += [f"  left out: {line}" for line in found.left_out]
    return "\n".join(lines)


def _count(manifest: "Manifest") -> str:
    files = sum(count.files for count in manifest.files.values())
    size = sum(count.size_bytes for count in manifest.files.values())
    return f"{manifest.rows:,} rows of {len(manifest.tables)} tables, {files:,} files of {size / 1e6:,.1f} MB"
