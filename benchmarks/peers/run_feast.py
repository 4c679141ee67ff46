"""Feast beside Flyball: ``python run_feast.py read|write|materialise|apply FOLDER REDIS``; prints one JSON line.

The folder has ``rows.parquet``: customer_id, at and 20 features.
"""

import json
import random
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

_STARTED = time.perf_counter()

import pandas as pd  # noqa: E402
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, PushSource  # noqa: E402
from feast.types import Float64, Int64  # noqa: E402
from feast.value_type import ValueType  # noqa: E402

_IMPORTED_S = time.perf_counter() - _STARTED
FEATURES = [f"mean_{number}" for number in range(10)] + [f"count_{number}" for number in range(10)]
KEYS = 100_000
END = datetime(2026, 6, 1, tzinfo=UTC)


def open_store(folder: Path, name: str, redis: str) -> FeatureStore:
    root = folder / name
    root.mkdir(parents=True, exist_ok=True)
    online = f"{{type: sqlite, path: {root}/online.db}}"
    if name == "redis":
        online = f'{{type: redis, connection_string: "{redis}"}}'
    (root / "feature_store.yaml").write_text(
        f"project: bench_{name}\nprovider: local\nregistry: {root}/registry.db\nonline_store: {online}\n"
        "offline_store: {type: duckdb}\nentity_key_serialization_version: 3\n"
    )
    store = FeatureStore(repo_path=str(root))
    source = FileSource(path=str(folder / "rows.parquet"), timestamp_field="at", name="rows")
    view = FeatureView(
        name="tx",
        entities=[Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.INT64)],
        ttl=timedelta(days=0),
        source=PushSource(name="tx_push", batch_source=source),
        schema=[Field(name=name, dtype=Float64 if name.startswith("mean") else Int64) for name in FEATURES],
    )
    started = time.perf_counter()
    store.apply([Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.INT64), view,
                 FeatureService(name="all20", features=[view])])  # fmt: skip
    store.applied_s = time.perf_counter() - started
    return store


def median_us(work, arguments) -> float:
    work(arguments[0])
    taken = []
    for argument in arguments:
        started = time.perf_counter_ns()
        work(argument)
        taken.append(time.perf_counter_ns() - started)
    return round(statistics.median(taken) / 1_000, 1)


def fill(store: FeatureStore, folder: Path) -> None:
    store.write_to_online_store("tx", pd.read_parquet(folder / "rows.parquet"))


def read(folder: Path, redis: str) -> dict:
    told = {}
    for name in ("sqlite", "redis"):
        store = open_store(folder, name, redis)
        fill(store, folder)
        references = [f"tx:{feature}" for feature in FEATURES]
        chosen = random.Random(1)
        for entities, times in ((1, 300), (100, 30)):
            asked = [[{"customer_id": key} for key in chosen.sample(range(KEYS), entities)] for _ in range(times)]
            told[f"{name}_{entities}_us"] = median_us(
                lambda rows: store.get_online_features(features=references, entity_rows=rows).to_dict(), asked
            )
    return told


def write(folder: Path, redis: str) -> dict:
    told = {}
    for name in ("sqlite", "redis"):
        store = open_store(folder, name, redis)
        frame = pd.read_parquet(folder / "rows.parquet").head(1_000)
        spent = median_us(lambda _: store.write_to_online_store("tx", frame), [0] * 8)
        told[f"{name}_1000_rows_per_s"] = round(1_000 / spent * 1e6)
        told[f"{name}_1_us"] = median_us(lambda _: store.write_to_online_store("tx", frame.head(1)), [0] * 100)
    return told


def materialise(folder: Path, redis: str) -> dict:
    told = {}
    for name in ("sqlite", "redis"):
        store = open_store(folder, name, redis)
        started = time.perf_counter()
        store.materialize(datetime(2025, 12, 1, tzinfo=UTC), END)
        told[f"{name}_s"] = round(time.perf_counter() - started, 3)
    return told


def serve(folder: Path, redis: str) -> dict:
    fill(open_store(folder, "redis", redis), folder)
    return {"serve": "filled"}


def apply(folder: Path, redis: str) -> dict:
    store = open_store(folder, "sqlite", redis)
    return {"import_s": round(_IMPORTED_S, 2), "apply_s": round(store.applied_s, 2)}


if __name__ == "__main__":
    case, folder, redis = sys.argv[1:4]
    cases = {"read": read, "write": write, "materialise": materialise, "serve": serve, "apply": apply}
    print(json.dumps(cases[case](Path(folder), redis)))
