"""Puts requests to a version as callers will, and worse ones, before it goes live. Logs and routes nothing."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from flyball.core.clock import monotonic_s
from flyball.domain.data.schemas import DType, Field
from flyball.domain.predictions.records import PredictionStatus
from flyball.domain.registry.runtimes import Predictor
from flyball.domain.registry.service_tests import TestResult
from flyball.domain.serving.loaded import FeatureLookup, LoadedVersion
from flyball.domain.serving.scoring import OnViolation, Scored, score_rows

# In single precision the same row gets a chance of 0.18046603 or 0.18046606, by how many rows stand beside it.
_SAME_WITHIN = 1e-6
_FEW = 25
_TIMED = 300
_WARM_UP = 20
_ROUNDS = 3
_BUDGET_S = 8.0
_STRANGE: dict[DType, tuple[Any, ...]] = {
    "int": (0, -1, 2**31, -(2**63), 2**63 - 1),
    "float": (0.0, -1.0, 1e-308, 1e308, -1e308, 2**53 + 1),
    "string": ("", " ", "x" * 10_000, "Zürich 東京 🚲", "'; --", "null", "\x00"),
    "bool": (True, False),
    "datetime": ("1970-01-01T00:00:00Z", "2262-04-11T00:00:00Z", "2026-02-28T23:59:59.999999+14:00"),
    "date": ("1970-01-01", "2262-04-11", "2024-02-29"),
}
_WRONG: dict[DType, Any] = {"int": "7", "float": "seven", "string": 7, "bool": 1, "datetime": 7, "date": "tomorrow"}
_UNKNOWN_KEYS: dict[DType, Any] = {"int": 2**40 + 7, "float": 1e15 + 7, "string": "nobody-of-that-name", "bool": False}


class Case(NamedTuple):
    """One request and what it is about."""

    what: str
    request: Mapping[str, Any]


class ServiceTest:
    """Tests one version.

    Args:
        loaded: The version.
        lookup: Stored features.
        requests: Requests as they may come, of which the version should refuse none for its form.
        at: When they are asked.
        on_violation: What becomes of a request that breaks an expectation.
    """

    def __init__(
        self,
        loaded: LoadedVersion,
        lookup: FeatureLookup,
        requests: Sequence[Mapping[str, Any]],
        at: datetime,
        on_violation: OnViolation,
    ) -> None:
        self._loaded = loaded
        self._lookup = lookup
        self._requests = requests
        self._at = at
        self._on_violation = on_violation
        self._fields = loaded.request.schema.fields

    def run(self, reference: pl.DataFrame, native: Predictor | None, p99_s: float | None) -> list[TestResult]:
        """Make all tests.

        Args:
            reference: The package's sample of training rows.
            native: The model as it was trained, where the version serves another form of it.
            p99_s: How long a request may take at the 99th percentile.
        """
        return [
            self._test_schema(),
            self._test_golden(reference, native),
            self._test_never_fails("missing fields", list(self._missing())),
            self._test_never_fails("extreme values", list(self._extreme())),
            self._test_permuted(),
            self._test_load(p99_s),
        ]

    def ask(self, requests: Sequence[Any]) -> list[Scored]:
        """Answer requests together."""
        return score_rows(self._loaded, self._lookup, requests, [self._at] * len(requests), self._on_violation)

    def _test_schema(self) -> TestResult:
        failures: list[str] = []
        cases = len(self._requests)
        for scored in self.ask(self._requests):
            wrong = _why_invalid(self._loaded, scored)
            if wrong is not None:
                failures.append(wrong)
        good = next(
            (row for row, one in zip(self._requests, self.ask(self._requests), strict=True) if _is_ok(one)), None
        )
        if good is None:
            return _result("schema", ["no request made of the table's rows is answered", *failures], max(1, cases))
        malformed = list(self._malformed(good))
        for case, scored in zip(malformed, self.ask([case.request for case in malformed]), strict=True):
            if scored.status is not PredictionStatus.REFUSED:
                failures.append(f"{case.what} is not refused")
            elif not scored.violations:
                failures.append(f"{case.what} is refused without a reason")
        return _result("schema", failures, cases + len(malformed))

    def _malformed(self, good: Mapping[str, Any]) -> Iterator[Case]:
        yield Case("an unknown field", {**good, "no_such_field": 1})
        yield Case("a list instead of an object", [good])  # type: ignore[arg-type]
        for field in self._fields:
            if field.name != self._loaded.time:
                without = {name: value for name, value in good.items() if name != field.name}
                yield Case(f"a request without {field.name}", without)
            yield Case(f"{field.name} of another type", {**good, field.name: _WRONG[field.dtype]})
            if not field.nullable and field.name != self._loaded.time:
                yield Case(f"null as {field.name}", {**good, field.name: None})
            if field.dtype == "float":
                yield Case(f"NaN as {field.name}", {**good, field.name: math.nan})

    def _test_golden(self, reference: pl.DataFrame, native: Predictor | None) -> TestResult:
        inputs = reference.select(self._loaded.signature.features.names)
        failures: list[str] = []
        cases, worst = 0, 0.0
        if native is not None and inputs.height:
            cases += inputs.height
            gaps = _gaps(self._loaded.predictor.predict(inputs), native.predict(inputs))
            worst = float(gaps.max(initial=0.0))
            others = int((gaps > _SAME_WITHIN).sum())
            if others:
                failures += [f"the form that is served differs from the model as trained by up to {worst:.3g}"] * others
        few = list(self._requests[: 2 * _FEW])
        together = self.ask(few)
        for request, scored, again in zip(few, together, self.ask(few), strict=True):
            cases += 1
            [alone] = self.ask([request])
            if not _are_alike(scored, again):
                failures.append(f"the same request gets {scored.prediction}, and then {again.prediction}")
            elif not _are_alike(scored, alone):
                failures.append(f"a request among others gets {scored.prediction}, and alone {alone.prediction}")
        return _result("golden rows", failures, cases, value=worst, limit=_SAME_WITHIN)

    def _missing(self) -> Iterator[Case]:
        for request in self._requests[:_FEW]:
            for field in self._fields:
                if field.nullable:
                    yield Case(f"null as {field.name}", {**request, field.name: None})
            yield Case(
                "null wherever it may be",
                {**request, **{field.name: None for field in self._fields if field.nullable}},
            )
            strangers = {
                field.name: _UNKNOWN_KEYS[field.dtype]
                for field in self._fields
                if field.name in self._keys() and field.dtype in _UNKNOWN_KEYS
            }
            if strangers:
                yield Case("an entity that nothing is stored of", {**request, **strangers})

    def _keys(self) -> set[str]:
        return {*self._loaded.entity, *(key for view in self._loaded.views for key in view.keys)}

    def _extreme(self) -> Iterator[Case]:
        for request in self._requests[:3]:
            for field in self._fields:
                for value in _STRANGE[field.dtype]:
                    yield Case(f"{_short(value)} as {field.name}", {**request, field.name: value})
            yield Case("extremes everywhere", {**request, **{field.name: _most(field) for field in self._fields}})

    def _test_never_fails(self, name: str, cases: Sequence[Case]) -> TestResult:
        """Demand an answer or a reason for each: a model that raises or gives NaN is not ready for the world."""
        failures = []
        for case in cases:
            [scored] = self.ask([case.request])
            if scored.status is PredictionStatus.ERROR:
                failures.append(f"{case.what}: {scored.failure.message if scored.failure else 'it fails'}")
            elif not _is_ok(scored) and not scored.violations:
                failures.append(f"{case.what}: no answer and no reason")
        return _result(name, failures, len(cases))

    def _test_permuted(self) -> TestResult:
        dice = random.Random(7)
        failures: list[str] = []
        few = self._requests[:_FEW]
        for request, scored in zip(few, self.ask(few), strict=True):
            names = list(request)
            for order in (list(reversed(names)), dice.sample(names, len(names))):
                [other] = self.ask([{name: request[name] for name in order}])
                if not _are_alike(scored, other):
                    failures.append(f"with its fields in another order a request gets {other.prediction}")
        cases = 2 * len(few)
        swapped = [case for request in few[:5] for case in self._swapped(request)]
        result = self._test_never_fails("permuted fields", swapped)
        return _result("permuted fields", [*failures, *([result.reason] * result.failed)], cases + len(swapped))

    def _swapped(self, request: Mapping[str, Any]) -> Iterator[Case]:
        for one in self._fields:
            for other in self._fields:
                if one.name < other.name and one.dtype == other.dtype:
                    values = {one.name: request.get(other.name), other.name: request.get(one.name)}
                    yield Case(f"{one.name} and {other.name} swapped", {**request, **values})

    def _test_load(self, p99_s: float | None) -> TestResult:
        """Ask one request after the other, warm; of three rounds the calmest counts."""
        if not self._requests:
            return _result("load", ["there are no requests to measure with"], 1)
        for request in self._requests[:_WARM_UP]:
            self.ask([request])
        began = monotonic_s()
        rounds: list[tuple[float, float, float]] = []
        while len(rounds) < _ROUNDS and (not rounds or monotonic_s() - began < _BUDGET_S):
            rounds.append(self._measure(began + _BUDGET_S))
        p50, p99, rate = min(rounds, key=lambda one: one[1])
        told = f"p99 of one request is {p99 * 1_000:.3g} ms (p50 {p50 * 1_000:.3g} ms, {rate:,.0f} a second)"
        if p99_s is None:
            return _result("load", [], _TIMED, reason=f"{told}; no limit is asked for", value=p99)
        told += f"; the limit is {p99_s * 1_000:g} ms"
        return _result("load", [told] if p99 > p99_s else [], 1, reason=told, value=p99, limit=p99_s)

    def _measure(self, deadline_s: float) -> tuple[float, float, float]:
        times_s: list[float] = []
        while len(times_s) < _TIMED and (len(times_s) < 2 or monotonic_s() < deadline_s):
            request = self._requests[len(times_s) % len(self._requests)]
            start = monotonic_s()
            self.ask([request])
            times_s.append(monotonic_s() - start)
        times_s.sort()
        p50, p99 = (times_s[math.ceil(share * len(times_s)) - 1] for share in (0.50, 0.99))
        return p50, p99, len(times_s) / sum(times_s)


def _result(
    name: str,
    failures: Sequence[str],
    cases: int,
    *,
    reason: str = "",
    value: float | None = None,
    limit: float | None = None,
) -> TestResult:
    if failures:
        more = f"; and {len(failures) - 1:,} more of {cases:,}" if len(failures) > 1 else ""
        reason = failures[0] + more
    return TestResult(
        name=name,
        passed=not failures,
        cases=cases,
        failed=len(failures),
        reason=reason or f"all {cases:,} cases went well",
        value=value,
        limit=limit,
    )


def _is_ok(scored: Scored) -> bool:
    return scored.status is PredictionStatus.OK


def _why_invalid(loaded: LoadedVersion, scored: Scored) -> str | None:
    """Tell what is wrong with the answer to a request made of the table's own row; quarantine is right where asked."""
    if scored.status is PredictionStatus.ERROR:
        return f"a row of the table fails: {scored.failure.message if scored.failure else ''}"
    if scored.status is PredictionStatus.REFUSED:
        return f"a row of the table is refused: {scored.violations[0].message if scored.violations else ''}"
    if scored.prediction is None:
        return None
    task = loaded.signature.task
    if task == "binary" and not 0.0 <= scored.prediction <= 1.0:
        return f"a chance of {scored.prediction} is none"
    if task == "multiclass" and abs(sum(scored.scores or ()) - 1.0) > _SAME_WITHIN:
        return f"the chances of all classes add up to {sum(scored.scores or ()):.6g}"
    return None


def _are_alike(one: Scored, other: Scored) -> bool:
    if one.status is not other.status:
        return False
    if one.prediction is None or other.prediction is None:
        return one.prediction is other.prediction
    return math.isclose(one.prediction, other.prediction, rel_tol=_SAME_WITHIN, abs_tol=_SAME_WITHIN)


def _gaps(served: Any, native: Any) -> "np.ndarray[Any, Any]":
    one, other = np.asarray(served, dtype=np.float64), np.asarray(native, dtype=np.float64)
    gaps = np.abs(one - other) / np.maximum(1.0, np.abs(other))
    return gaps if gaps.ndim == 1 else np.asarray(gaps.max(axis=1))


def _most(field: Field) -> Any:
    return _STRANGE[field.dtype][-2]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 30 else f"{text[:27]}..."
