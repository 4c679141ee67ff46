"""Commands about features: materialise, get."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from flyball.cli.options import Place, emit, json_option, place_options


@click.group()
def features() -> None:
    """Write features into the online store, and look them up."""


@features.command()
@click.argument("views", nargs=-1)
@click.option("--until", help="Up to this instant, in ISO 8601 [default: now].")
@json_option
@place_options
def materialise(place: Place, views: Sequence[str], until: str | None, as_json: bool) -> None:
    """Bring the online rows of VIEWS up to now; of all views when none is named.

    Only what is new is written, so it may be called again at any time; `flyball up` does it by itself.

    \b
    Example:
      flyball features materialise payment_behaviour
    """
    from flyball.core.durations import parse_instant
    from flyball.workspace.workspace import Workspace

    workspace = Workspace(place.project, place.home)
    done = workspace.materialise(views, until=None if until is None else parse_instant(until, what="--until"))
    emit(
        done,
        as_json=as_json,
        text=lambda found: (
            "\n".join(f"{one.view}: {one.written:,} entities have another row" for one in found)
            or "the project declares no feature view"
        ),
    )


@features.command()
@click.argument("references", nargs=-1, required=True)
@click.option("--key", "keys", multiple=True, required=True, help="An entity's key, NAME=VALUE; several with commas.")
@json_option
@place_options
def get(place: Place, references: Sequence[str], keys: Sequence[str], as_json: bool) -> None:
    """Look up REFERENCES (view or view:feature) of entities in the online store.

    \b
    Example:
      flyball features get payment_behaviour:late_share --key customer_id=1001,1002
    """
    from flyball.workspace.workspace import Workspace

    entities: dict[str, Sequence[Any]] = {}
    for key in keys:
        name, equals, values = key.partition("=")
        if not equals:
            raise click.BadParameter(f"{key!r} is not NAME=VALUE", param_hint="--key")
        if name in entities:
            raise click.BadParameter(f"{name} is given twice; write {name}=1,2 for two entities", param_hint="--key")
        entities[name] = values.split(",")
    vectors = Workspace(place.project, place.home).get_online_features(references, entities)
    rows = [
        {name: column[number] for name, column in zip(vectors.names, vectors.columns, strict=True)}
        for number in range(len(vectors.columns[0]))
    ]
    emit({"rows": rows}, as_json=as_json, text=lambda found: "\n".join(map(_describe, found["rows"])))


def _describe(row: Mapping[str, Any]) -> str:
    return "  ".join(f"{name}={'null' if value is None else value}" for name, value in row.items())
