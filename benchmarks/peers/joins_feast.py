"""Feast's historical features with its DuckDB store: prints seconds and memory. Arguments as `joins_duckdb.py`."""

import json
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource
from feast.types import Float64
from feast.value_type import ValueType
from memory import peak_mb

views, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
with tempfile.TemporaryDirectory() as home:
    Path(home, "feature_store.yaml").write_text(
        f"project: joins\nregistry: {home}/registry.db\nprovider: local\n"
        f"online_store:\n  type: sqlite\n  path: {home}/online.db\n"
        "offline_store:\n  type: duckdb\nentity_key_serialization_version: 3\n"
    )
    store = FeatureStore(home)
    customer = Entity(name="customer", join_keys=["customer"], value_type=ValueType.INT64)
    declared = [customer]
    for view, columns in enumerate(views):
        source = FileSource(path=str(next(folder.glob(f"v{view}/*.parquet"))), timestamp_field="at")
        fields = [Field(name=name, dtype=Float64) for name in columns]
        declared.append(
            FeatureView(name=f"v{view}", entities=[customer], ttl=timedelta(days=90), schema=fields, source=source)
        )
    store.apply(declared)
    start = time.perf_counter()
    labels = pd.read_parquet(folder / "labels.parquet").rename(columns={"asked_at": "event_timestamp"})
    names = [f"v{view}:{name}" for view, columns in enumerate(views) for name in columns]
    found = store.get_historical_features(entity_df=labels, features=names).to_df()
    taken = time.perf_counter() - start
print(json.dumps({"seconds": round(taken, 3), "memory_mb": peak_mb(), "rows": len(found)}))
