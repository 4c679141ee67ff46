"""What `benchmarks.serving` serves: StandardScaler and HistGradientBoosting of 100 trees on 20 numbers."""

import polars as pl
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import flyball as fb

FIELDS = [f"field{number}" for number in range(20)]
STORED = [f"stored{number}" for number in range(10)]

customer = fb.Entity("customer_id")
rows = fb.Table("data/rows.parquet", time="asked_at", key="row_id")
orders = fb.Table("data/orders.parquet", entity=customer, time="asked_at", key="row_id")
outcomes = fb.Table("data/outcomes.parquet", time="known_at", key="row_id")
payments = fb.Table("data/payments.parquet", entity=customer, time="at")
visits = fb.Table("data/visits.parquet", entity=customer, time="at")

rows.expect(*(fb.column(name).not_null().between(0, 1) for name in FIELDS))
orders.expect(*(fb.column(name).not_null().between(0, 1) for name in FIELDS[:10]))


@fb.features(payments)
def paid(facts: pl.LazyFrame) -> pl.LazyFrame:
    return facts.select("customer_id", "at", *STORED[:5])


@fb.features(visits)
def visited(facts: pl.LazyFrame) -> pl.LazyFrame:
    return facts.select("customer_id", "at", *STORED[5:])


@fb.step
def train(data: fb.TrainingSet, rounds: int = 100) -> Pipeline:
    return make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=rounds, random_state=0)).fit(
        data.X, data.y
    )


@fb.pipeline
def plain_training():
    data = fb.training_set(rows, label=outcomes["label"])
    return fb.candidate("plain", train(data), metrics={"rows": 1.0}, data=data)


@fb.step
def train_linear(data: fb.TrainingSet) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(data.X, data.y)


@fb.pipeline
def linear_training():
    data = fb.training_set(rows, label=outcomes["label"])
    return fb.candidate("linear", train_linear(data), metrics={"rows": 1.0}, data=data)


@fb.pipeline
def stored_training():
    data = fb.training_set(orders, label=outcomes["label"], features=[paid, visited])
    return fb.candidate("stored", train(data), metrics={"rows": 1.0}, data=data)


@fb.step
def train_voters(data: fb.TrainingSet, trees: int = 100) -> Pipeline:
    """A model that has no compiled form: its parts vote."""
    parts = [
        ("one", RandomForestClassifier(trees, random_state=0)),
        ("two", ExtraTreesClassifier(trees, random_state=0)),
    ]
    return make_pipeline(StandardScaler(), VotingClassifier(parts, voting="soft")).fit(data.X, data.y)


@fb.pipeline
def voters_training():
    data = fb.training_set(rows, label=outcomes["label"])
    return fb.candidate("voters", train_voters(data), metrics={"rows": 1.0}, data=data)


plain = fb.Endpoint(model="plain", gates=[fb.metric("rows") >= 1], approval="auto")
linear = fb.Endpoint(model="linear", gates=[fb.metric("rows") >= 1], approval="auto")
voters = fb.Endpoint(model="voters", gates=[fb.metric("rows") >= 1], approval="auto")
stored = fb.Endpoint(model="stored", gates=[fb.metric("rows") >= 1], approval="auto")
