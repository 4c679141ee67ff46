"""What the registry needs of tests of a service: their results, and who makes them."""

from collections.abc import Callable

import msgspec

from flyball.domain.registry.packages import Package


class TestResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a version did at one kind of test.

    Attributes:
        name: Such as ``golden rows``.
        passed: Whether all of its cases went well.
        cases: How many there were.
        failed: How many did not go well.
        reason: In words, with figures; of failures the first.
        value: What was measured, where something was; seconds for times.
        limit: What was asked for.
    """

    __test__ = False  # no test of its own, whatever its name

    name: str
    passed: bool
    cases: int
    failed: int
    reason: str
    value: float | None = None
    limit: float | None = None


class ServiceTester:
    """Tests packages as services; the workspace brings what it takes.

    Args:
        test: Puts requests to a package; gets the limit for the 99th percentile of a request's time, in seconds.
    """

    def __init__(self, test: Callable[[Package, float | None], list[TestResult]]) -> None:
        self._test = test

    def test(self, package: Package, p99_s: float | None) -> list[TestResult]:
        """Return how a package did, one result a kind of test."""
        return self._test(package, p99_s)
