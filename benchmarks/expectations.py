"""Expectations: 20 rules over a million rows beside plain Polars, 14 over one live request. Prints one JSON line."""

import json
import time
from collections.abc import Callable

import numpy as np
import polars as pl

from flyball.domain.data.expectations import column, flatten
from flyball.domain.data.requests import RequestSchema
from flyball.domain.data.row_checks import compile_row
from flyball.domain.data.schemas import Schema
from flyball.domain.data.table_checks import compile_table

_ROWS, _REQUESTS, _ROW_RULES = 1_000_000, 20_000, 14


def main() -> None:
    frame = _frame()
    rules = flatten(
        [
            column("id").not_null().at_least(0),
            *(column(f"f{number}").not_null().between(-10, 10) for number in range(6)),
            *(column(f"i{number}").between(0, 99) for number in range(3)),
            column("i3").is_in(list(range(100))),
            column("s").is_in(["a", "b", "c"]),
            column("code").matches(r"[A-Z]{2}-\d{4}"),
        ],
        of="benchmark",
    )
    check_table, check_row = compile_table(rules), compile_row(rules[:_ROW_RULES])
    check_request, row = RequestSchema(Schema.of(frame)), frame.row(5, named=True)
    ours, plain = _best_in_turn(lambda: check_table(frame.lazy()), lambda: _plain(frame))
    figures = {
        "benchmark": "expectations",
        "rows": _ROWS,
        "rules": len(rules),
        "table_s": ours,
        "plain_polars_s": plain,
        "row_of_14_rules_us": _each_us(lambda: check_row(row)),
        "request_of_13_fields_us": _each_us(lambda: check_request.check(row)),
    }
    print(json.dumps(figures))


def _frame() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "id": np.arange(_ROWS),
            **{f"f{number}": rng.normal(size=_ROWS) for number in range(6)},
            **{f"i{number}": rng.integers(0, 100, _ROWS) for number in range(4)},
            "s": rng.choice(["a", "b", "c"], _ROWS),
            "code": [f"AB-{number % 5000:04d}" for number in range(_ROWS)],
        }
    )


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Count the same violations as somebody would write it by hand."""
    floats, ints = [f"f{number}" for number in range(6)], [f"i{number}" for number in range(3)]
    return (
        frame.lazy()
        .select(
            pl.col("id").is_null().sum().alias("1"),
            (pl.col("id") < 0).sum().alias("2"),
            pl.col(floats).is_null().sum().name.suffix(" null"),
            (~pl.col(floats).is_between(-10, 10)).sum().name.suffix(" range"),
            (~pl.col(ints).is_between(0, 99)).sum().name.suffix(" range"),
            (~pl.col("i3").is_in(list(range(100)))).sum(),
            (~pl.col("s").is_in(["a", "b", "c"])).sum(),
            (~pl.col("code").str.contains(r"^[A-Z]{2}-[0-9]{4}$")).sum(),
        )
        .collect()
    )


def _best_in_turn(one: Callable[[], object], other: Callable[[], object], times: int = 7) -> tuple[float, float]:
    best = [float("inf"), float("inf")]
    for _ in range(times):
        for number, function in enumerate((one, other)):
            start = time.perf_counter()
            function()
            best[number] = min(best[number], time.perf_counter() - start)
    return round(best[0], 4), round(best[1], 4)


def _each_us(function: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(_REQUESTS):
            function()
        best = min(best, time.perf_counter() - start)
    return round(best / _REQUESTS * 1e6, 2)


if __name__ == "__main__":
    main()
