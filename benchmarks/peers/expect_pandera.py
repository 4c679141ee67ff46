"""The benchmark's 20 rules in pandera, on Polars and pandas, over the file of argument 1. Prints one JSON line."""

import json
import sys
import time

import pandas as pd
import pandera.pandas as pa
import pandera.polars as pp
import polars as pl

FLOATS, INTS = [f"f{number}" for number in range(6)], [f"i{number}" for number in range(3)]


def schema(module, string, whole):
    check, column = module.Check, module.Column
    columns = {
        "id": column(whole, check.ge(0), nullable=False),
        **{name: column(float, check.in_range(-10, 10), nullable=False) for name in FLOATS},
        **{name: column(whole, check.in_range(0, 99), nullable=True) for name in INTS},
        "i3": column(whole, check.isin(list(range(100))), nullable=True),
        "s": column(string, check.isin(["a", "b", "c"]), nullable=True),
        "code": column(string, check.str_matches(r"^[A-Z]{2}-[0-9]{4}$"), nullable=True),
    }
    return module.DataFrameSchema(columns)


def best(function, times):
    found = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        found.append(time.perf_counter() - start)
    return min(found)


def main():
    frame, table = pl.read_parquet(sys.argv[1]), pd.read_parquet(sys.argv[1])
    on_polars, on_pandas = schema(pp, pl.String, pl.Int64), schema(pa, str, "int64")
    row, row_table = frame.head(1), table.head(1)
    with pp.config.config_context(validation_depth=pp.config.ValidationDepth.SCHEMA_AND_DATA):
        figures = {
            "table_polars_s": round(best(lambda: on_polars.validate(frame, lazy=True), 3), 4),
            "row_polars_us": round(best(lambda: on_polars.validate(row, lazy=True), 20) * 1e6, 1),
        }
    figures["table_pandas_s"] = round(best(lambda: on_pandas.validate(table, lazy=True), 2), 4)
    figures["row_pandas_us"] = round(best(lambda: on_pandas.validate(row_table, lazy=True), 20) * 1e6, 1)
    print(json.dumps(figures))


main()
