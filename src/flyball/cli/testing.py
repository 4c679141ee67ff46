"""The command test: a version as a service, before it goes live."""

import click

from flyball.cli.options import Place, emit, json_option, place_options


@click.command()
@click.argument("endpoint")
@click.option("--version", help="A version or its number [default: the one that is live].")
@click.option("--p99", help="How long a request may take, such as 20ms [default: what the endpoint's gates ask for].")
@json_option
@place_options
def test(place: Place, endpoint: str, version: str | None, p99: str | None, as_json: bool) -> int:
    """Put requests to ENDPOINT's version as callers will, and worse ones. Ends with status 1 if a test fails.

    Requests are made of the newest rows of the table that the model was trained on: as they are, malformed, with
    missing and extreme values, with fields in other orders, and one after the other against the clock. Nothing is
    logged as a prediction; the result is kept in the journal.

    \b
    Example:
      flyball test credit --version 4 --p99 20ms
    """
    from flyball.core.durations import parse_duration
    from flyball.workspace.service_tests import tell_results, test_endpoint
    from flyball.workspace.workspace import Workspace

    limit_s = parse_duration(p99, what="--p99").total_seconds() if p99 else None
    report = test_endpoint(Workspace(place.project, place.home), endpoint, version, limit_s)
    emit(
        report,
        as_json=as_json,
        text=lambda found: "\n".join([f"{found.version} at {found.endpoint}", *tell_results(found.results)]),
    )
    return 0 if report.passed else 1
