"""DuckDB's ASOF join of views and labels: prints seconds and memory. Arguments: columns of each view, the folder."""

import json
import sys
import time

import duckdb
from memory import peak_mb

views, folder = json.loads(sys.argv[1]), sys.argv[2]
start = time.perf_counter()
joins, names = "", []
for view, columns in enumerate(views):
    joins += (
        f" ASOF LEFT JOIN '{folder}/v{view}/*.parquet' t{view} "
        f"ON l.customer = t{view}.customer AND l.asked_at >= t{view}.at"
    )
    names += [f"CASE WHEN l.asked_at - t{view}.at <= INTERVAL 90 DAY THEN {name} END AS {name}" for name in columns]
found = duckdb.sql(f"SELECT l.*, {', '.join(names)} FROM '{folder}/labels.parquet' l{joins}").to_arrow_table()
taken = time.perf_counter() - start
assert found.num_rows
print(json.dumps({"seconds": round(taken, 3), "memory_mb": peak_mb(), "rows": found.num_rows}))
