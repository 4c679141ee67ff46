"""The benchmark's 20 rules in Great Expectations, on pandas: argument 1 is the Parquet file. Prints one JSON line."""

import json
import logging
import os
import sys
import time
import warnings

os.environ["GX_ANALYTICS_ENABLED"] = "false"
warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)

import great_expectations as gx  # noqa: E402
import great_expectations.expectations as gxe  # noqa: E402
import pandas as pd  # noqa: E402


def rules():
    found = [
        gxe.ExpectColumnValuesToNotBeNull(column="id"),
        gxe.ExpectColumnValuesToBeBetween(column="id", min_value=0),
    ]
    for number in range(6):
        found.append(gxe.ExpectColumnValuesToNotBeNull(column=f"f{number}"))
        found.append(gxe.ExpectColumnValuesToBeBetween(column=f"f{number}", min_value=-10, max_value=10))
    for number in range(3):
        found.append(gxe.ExpectColumnValuesToBeBetween(column=f"i{number}", min_value=0, max_value=99))
    found.append(gxe.ExpectColumnValuesToBeInSet(column="i3", value_set=list(range(100))))
    found.append(gxe.ExpectColumnValuesToBeInSet(column="s", value_set=["a", "b", "c"]))
    found.append(gxe.ExpectColumnValuesToMatchRegex(column="code", regex=r"^[A-Z]{2}-[0-9]{4}$"))
    return found


def timed(batch, suite, times):
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        assert batch.validate(suite).success
        best = min(best, time.perf_counter() - start)
    return best


def main():
    table = pd.read_parquet(sys.argv[1])
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("asset")
    definition = asset.add_batch_definition_whole_dataframe("whole")
    whole = definition.get_batch({"dataframe": table})
    row = definition.get_batch({"dataframe": table.head(1)})
    suite, few = gx.ExpectationSuite("all", rules()), gx.ExpectationSuite("few", rules()[:14])
    figures = {"table_s": round(timed(whole, suite, 2), 4), "row_us": round(timed(row, few, 5) * 1e6, 1)}
    print(json.dumps(figures))


main()
