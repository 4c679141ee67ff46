"""Expectations: 20 rules over a million rows, 14 over one live row. Prints one JSON line.

Beside them are the limits (the same violations counted by hand, in Polars and in Python) and the peers, Great
Expectations and pandera, each in an environment of its own under ``.bench`` that the first run makes. With ``--alone``
the peers are left out.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from flyball.domain.data.expectations import column, flatten
from flyball.domain.data.requests import RequestSchema
from flyball.domain.data.row_checks import compile_row
from flyball.domain.data.schemas import Schema
from flyball.domain.data.table_checks import compile_table

BENCH, PEERS = Path(__file__).parents[1] / ".bench", Path(__file__).parent / "peers"
_PACKAGES = {
    "pandera": ["pandera[polars]", "pandas", "pyarrow"],
    "great_expectations": ["great_expectations", "pandas", "pyarrow"],
}
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
    mixed = compile_table(flatten(_mixed(), of="benchmark"))
    mixed_ours, mixed_plain = _best_in_turn(lambda: mixed(frame.lazy()), lambda: _plain_mixed(frame), times=4)
    check_table, check_row = compile_table(rules), compile_row(rules[:_ROW_RULES])
    check_request, row = RequestSchema(Schema.of(frame)), frame.row(5, named=True)
    ours, plain = _best_in_turn(lambda: check_table(frame.lazy()), lambda: _plain(frame))
    figures = {
        "benchmark": "expectations",
        "rows": _ROWS,
        "rules": len(rules),
        "table_s": ours,
        "plain_polars_s": plain,
        "times_the_limit": round(ours / plain, 2),
        "mixed_table_s": mixed_ours,
        "mixed_plain_polars_s": mixed_plain,
        "mixed_times_the_limit": round(mixed_ours / mixed_plain, 2),
        "row_of_14_rules_us": _each_us(lambda: check_row(row)),
        "plain_python_row_us": _each_us(lambda: _plain_row(row)),
        "request_of_13_fields_us": _each_us(lambda: check_request.check(row)),
    }
    if "--alone" not in sys.argv:
        with tempfile.TemporaryDirectory() as folder:
            frame.write_parquet(Path(folder) / "rows.parquet")
            figures |= {name: _measure_peer(name, Path(folder) / "rows.parquet") for name in _PACKAGES}
    print(json.dumps(figures))


def _mixed() -> list[Any]:
    """Return 20 rules, half of them about the table as a whole."""
    return [
        column("id").not_null().unique().increasing(),
        column("f0").between(-10, 10).mean(at_least=-1, at_most=1).quantile(0.9, at_most=2).std(at_most=2),
        column("f1").nulls_at_most(0.1).median(at_least=-1, at_most=1),
        column("f2").not_null().statistic("max", at_most=10),
        column("i0").between(0, 99).distinct(at_least=50, at_most=100),
        column("i1").at_most(column("id")).or_warn(),
        column("s").is_in(["a", "b", "c"]).mixed_like({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}),
        column("code").matches(r"[A-Z]{2}-\d{4}"),
        column("f3").at_least(-10),
        column("f4").at_most(10),
    ]


def _plain_mixed(frame: pl.DataFrame) -> pl.DataFrame:
    """Compute what `_mixed` demands as somebody would write it by hand."""
    col = pl.col
    return (
        frame.lazy()
        .select(
            col("id").is_null().sum().alias("1"),
            (~col("id").is_first_distinct()).sum().alias("2"),
            (col("id") < col("id").shift(1)).sum().alias("3"),
            (~col("f0").is_between(-10, 10)).sum().alias("4"),
            col("f0").mean().alias("5"),
            col("f0").quantile(0.9, "linear").alias("6"),
            col("f0").std().alias("7"),
            col("f1").null_count().alias("8"),
            col("f1").median().alias("9"),
            col("f2").is_null().sum().alias("10"),
            col("f2").max().alias("11"),
            (~col("i0").is_between(0, 99)).sum().alias("12"),
            col("i0").n_unique().alias("13"),
            (col("i1") > col("id")).sum().alias("14"),
            (~col("s").is_in(["a", "b", "c"])).sum().alias("15"),
            col("s").value_counts().implode().alias("16"),
            (~col("code").str.contains(r"^[A-Z]{2}-[0-9]{4}$")).sum().alias("17"),
            (col("f3") < -10).sum().alias("18"),
            (col("f4") > 10).sum().alias("19"),
        )
        .collect()
    )


def _measure_peer(name: str, rows: Path) -> dict[str, Any] | str:
    """Run a peer in its own environment; say why where that cannot be done."""
    python = BENCH / name / "bin/python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(BENCH / name)], check=True, capture_output=True)
            install = [str(python), "-m", "pip", "install", "--quiet", *_PACKAGES[name]]
            subprocess.run(install, check=True, capture_output=True, text=True, timeout=900)
        command = [str(python), str(PEERS / f"expect_{name}.py"), str(rows)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=200)
    except (subprocess.SubprocessError, OSError) as error:
        return f"failed: {str(getattr(error, 'stderr', '') or error)[-200:]}"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _plain_row(row: dict[str, Any]) -> list[str]:
    """Judge a row by the 14 rules as somebody would write them by hand."""
    broken = []
    if row["id"] is None or row["id"] < 0:
        broken.append("id")
    for name in ("f0", "f1", "f2", "f3", "f4", "f5"):
        value = row[name]
        if value is None or not -10 <= value <= 10:
            broken.append(name)
    return broken


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
