"""Definitions of a Feast repository, for `test_feast_repositories`; Feast's interpreter runs them."""

from datetime import timedelta

import pandas as pd
from feast import Entity, FeatureService, FeatureView, Field, FileSource, KafkaSource, PushSource, RequestSource
from feast.data_format import JsonFormat
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Float32, Float64, Int64, String

print("a repository may print")
customer = Entity(name="customer", join_keys=["customer_id"])
shop = Entity(name="shop", join_keys=["shop_id"])
payments = FileSource(
    name="payments_file",
    path="data/payments.parquet",
    timestamp_field="paid_at",
    created_timestamp_column="booked_at",
)
visits = FileSource(name="visits", path="data/visits.parquet", timestamp_field="at", field_mapping={"shop": "shop_id"})
pushed = PushSource(name="payments_push", batch_source=payments)
stream = KafkaSource(
    name="clicks",
    kafka_bootstrap_servers="localhost:9092",
    topic="clicks",
    timestamp_field="at",
    batch_source=visits,
    message_format=JsonFormat(schema_json="at timestamp"),
)
behaviour = FeatureView(
    name="behaviour",
    entities=[customer],
    ttl=timedelta(days=30),
    source=pushed,
    schema=[
        Field(name="customer_id", dtype=Int64),
        Field(name="days", dtype=Int64),
        Field(name="share", dtype=Float64),
        Field(name="embedding", dtype=Array(Float32)),
    ],
)
loyalty = FeatureView(
    name="loyalty",
    entities=[customer, shop],
    ttl=timedelta(0),
    source=visits,
    schema=[
        Field(name="customer_id", dtype=Int64),
        Field(name="shop_id", dtype=String),
        Field(name="count", dtype=Int64),
    ],
)
clicks = FeatureView(
    name="from", entities=[customer], source=stream, schema=[Field(name="count", dtype=Int64)], online=False
)
everybody = FeatureView(name="everybody", entities=[], source=visits, schema=[Field(name="count", dtype=Int64)])
asked = RequestSource(name="asked", schema=[Field(name="amount", dtype=Float64)])


@on_demand_feature_view(sources=[behaviour, asked], schema=[Field(name="weighted", dtype=Float64)])
def weighted(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"weighted": inputs["share"] * inputs["amount"]})


everything = FeatureService(name="every-thing", features=[behaviour, loyalty, weighted])
some = FeatureService(name="some", features=[behaviour[["days"]], everybody])
