"""Tests an endpoint's version as a service: takes requests from the rows of its table, and keeps the result."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import msgspec
import polars as pl

from flyball.core.errors import ConflictError, InvalidInputError, NotFoundError, PluginError
from flyball.domain.data.schemas import Schema
from flyball.domain.loop.endpoints import Endpoint
from flyball.domain.registry.gates import LatencyGate, ServiceTestGate
from flyball.domain.registry.packages import MODEL, Package
from flyball.domain.registry.runtimes import Predictor
from flyball.domain.registry.service_tests import TestResult
from flyball.domain.serving.loaded import LoadedVersion
from flyball.domain.serving.scoring import OnViolation
from flyball.domain.serving.service_tests import ServiceTest
from flyball.domain.serving.table_requests import TableRequests
from flyball.workspace.rooms import Rooms
from flyball.workspace.scores import find_version

_ROWS = 300
_NEUTRAL: dict[str, Any] = {"int": 1, "float": 1.0, "string": "a", "bool": False}


class ServiceReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a version did as a service.

    Attributes:
        endpoint: The endpoint.
        version: The version.
        passed: Whether every test went well.
        results: One for each kind of test.
    """

    endpoint: str
    version: str
    passed: bool
    results: list[TestResult]


def test_endpoint(workspace: Rooms, name: str, version: str | None = None, p99_s: float | None = None) -> ServiceReport:
    """Test the live version of an endpoint, or another one, and keep the result in the journal.

    Args:
        workspace: The project and its home.
        name: The endpoint.
        version: The version, or its number; the live one by default.
        p99_s: How long a request may take at the 99th percentile; by default what the endpoint's gates ask for.

    Raises:
        UnknownNameError: There is no such endpoint or version.
        NothingLiveError: No version is live, and none is named.
    """
    endpoint = workspace.project.endpoint(name)
    ref = find_version(workspace, name, endpoint, version)
    limit_s = p99_s if p99_s is not None else _asked_p99_s(endpoint)
    results = run_tests(workspace, workspace.registry.open(ref), ref, limit_s, endpoint.on_violation)
    report = ServiceReport(endpoint=name, version=ref, passed=all(result.passed for result in results), results=results)
    data = {"endpoint": name, "passed": report.passed, "results": msgspec.to_builtins(results)}
    with workspace.db.begin() as tx:
        workspace.journal.append(tx, "serving.version.tested", f"version/{ref}", data, actor="user")
    return report


test_endpoint.__test__ = False  # type: ignore[attr-defined]  # no test of its own, whatever its name


def run_tests(
    workspace: Rooms, package: Package, ref: str, p99_s: float | None, on_violation: OnViolation
) -> list[TestResult]:
    """Test a package, registered or not yet."""
    known_as = workspace.packages.adopt(ref, package)
    workspace.packages.bring_online(known_as)
    loaded = workspace.packages.load(known_as)
    requests = _make_requests(workspace, loaded, package, known_as, on_violation)
    test = ServiceTest(loaded, workspace.features, requests, workspace.clock.now(), on_violation)
    return test.run(package.reference(), _native(workspace, package), p99_s)


def _asked_p99_s(endpoint: Endpoint) -> float | None:
    limits = [gate.p99_s for gate in endpoint.gates if isinstance(gate, LatencyGate | ServiceTestGate)]
    return min((limit for limit in limits if limit is not None), default=None)


def _native(workspace: Rooms, package: Package) -> Predictor | None:
    """Return the model as it was trained, where it can be run here and is not what is served anyway."""
    try:
        return workspace.runtimes.get(package.manifest.runtime).predictor(package.path / MODEL, package.signature)
    except PluginError:
        return None


def _make_requests(
    workspace: Rooms, loaded: LoadedVersion, package: Package, known_as: str, on_violation: OnViolation
) -> list[dict[str, Any]]:
    """Return requests made of the newest rows of the table, without those that its expectations would set aside."""
    schema = loaded.request.schema
    table = workspace.packages.tables(known_as).get(package.features.spine)
    if table is not None:
        try:
            snapshot = workspace.data.snapshot(table, as_of=workspace.clock.now())
            frame = workspace.data.read(snapshot.id).tail(4 * _ROWS).collect()
            requests = TableRequests(loaded, frame.schema, table.required_name, on_violation)
            _, rejected = requests.read(frame, workspace.clock.now())
            gone = {verdict.row for verdict in rejected}
            kept = frame[[row for row in range(frame.height) if row not in gone]].tail(_ROWS)
            if kept.height:
                return _to_json(schema.only(requests.columns).fit(kept))
        except (InvalidInputError, NotFoundError, ConflictError):
            pass  # the table has moved on since; the package's own sample tells what requests look like
    return _from_reference(package.reference(), schema)


def _from_reference(reference: pl.DataFrame, schema: Schema) -> list[dict[str, Any]]:
    rows = _to_json(reference.tail(_ROWS))
    optional = {field.name: _NEUTRAL.get(field.dtype) for field in schema.fields}
    return [{name: row.get(name, optional[name]) for name in schema.names} for row in rows]


def _to_json(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return [{name: _plain(value) for name, value in row.items()} for row in frame.iter_rows(named=True)]


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def tell_results(results: Sequence[TestResult]) -> list[str]:
    """Return a line for each result."""
    return [f"{'ok    ' if result.passed else 'FAILED'}  {result.name:<16}  {result.reason}" for result in results]
