"""Run with Feast's interpreter: reads and writes through Feast's own ``remote`` online store; prints one JSON line."""

import json
import sys
from datetime import timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, PushSource
from feast.types import Bool, Float64, Int64, String, UnixTimestamp
from feast.value_type import ValueType

folder, address = Path(sys.argv[1]), sys.argv[2]
(folder / "feature_store.yaml").write_text(
    f"""
project: shop
provider: local
registry: {folder}/registry.db
online_store: {{type: remote, path: {address}}}
entity_key_serialization_version: 3
"""
)
source = FileSource(path=str(folder / "nothing.parquet"), timestamp_field="paid_at", name="payments_file")
pushed = PushSource(name="payments", batch_source=source)
customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.INT64)
view = FeatureView(
    name="behaviour",
    entities=[customer],
    ttl=timedelta(days=30),
    source=pushed,
    schema=[
        Field(name="customer_id", dtype=Int64),
        Field(name="days", dtype=Int64),
        Field(name="share", dtype=Float64),
        Field(name="shop", dtype=String),
        Field(name="is_late", dtype=Bool),
        Field(name="seen", dtype=UnixTimestamp),
    ],
)
everything = FeatureService(name="everything", features=[view])
pd.DataFrame(
    {"customer_id": [1], "days": [1], "share": [1.0], "shop": ["a"], "is_late": [True],
     "seen": [pd.Timestamp.utcnow()], "paid_at": [pd.Timestamp.utcnow()]}
).to_parquet(folder / "nothing.parquet")  # fmt: skip
store = FeatureStore(repo_path=str(folder))
store.apply([customer, view, everything])
answers = {}


def ask(name, features, rows, **more):
    found = store.get_online_features(features=features, entity_rows=rows, **more)
    answers[name] = json.loads(json.dumps(found.to_dict(), default=str))


rows = [{"customer_id": 1}, {"customer_id": 2}, {"customer_id": 999}]
names = ["days", "share", "shop", "is_late", "seen"]
ask("by_name", [f"behaviour:{name}" for name in names], rows)
ask("by_service", everything, rows[:1])
ask("full_names", ["behaviour:days"], rows[:1], full_feature_names=True)
ask("outdated", ["behaviour:days"], [{"customer_id": 3}, {"customer_id": 1}])
ask("text_key", ["behaviour:days"], [{"customer_id": "1"}])
now = pd.Timestamp.utcnow()
ask("not_yet", ["behaviour:days"], [{"customer_id": 21}])
store.materialize(now - timedelta(days=1), now, feature_views=["behaviour"])  # the gateway does it, from its tables
ask("materialised", ["behaviour:days"], [{"customer_id": 21}])
store.materialize_incremental(now, feature_views=["behaviour"])
frame = pd.DataFrame(
    {"customer_id": [1, 7], "days": [77, 78], "share": [0.25, 0.75], "shop": ["x", "y"], "is_late": [True, False],
     "seen": [now.floor("s"), now.floor("s")], "paid_at": [now, now]}
)  # fmt: skip
store.write_to_online_store("behaviour", frame)
ask("written", ["behaviour:days", "behaviour:shop", "behaviour:seen"], [{"customer_id": 1}, {"customer_id": 7}])
answers["now"] = now.floor("s").timestamp()
store.push("payments", frame.assign(days=[80, 81], paid_at=pd.Timestamp.utcnow()))
ask("pushed", ["behaviour:days"], [{"customer_id": 1}, {"customer_id": 7}])
store.push("payments", frame.assign(days=[1, 1], paid_at=now - pd.Timedelta(days=1)))
ask("late", ["behaviour:days"], [{"customer_id": 1}, {"customer_id": 7}])
try:
    store.get_online_features(features=["behaviour:nothing"], entity_rows=rows)
except Exception as error:  # noqa: BLE001 - the kind is the client's own
    answers["unknown_feature"] = f"{type(error).__name__}: {error}"
try:
    store.materialize_incremental(now, feature_views=["nothing"])
except Exception as error:  # noqa: BLE001 - the kind is the client's own
    answers["unknown_view"] = f"{type(error).__name__}: {error}"
print(json.dumps(answers))
