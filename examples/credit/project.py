"""Credit risk: will this customer default?

`python simulate.py` writes the data beside this file: half a year of history and the year 2025, with its surprises.
Then `flyball run training`, `flyball up`, or `flyball replay --from 2025-01-01` to live through the year.
"""

import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder

import flyball as fb

# Data: where it lies, when things happened, and when the bank knew of them.
customer = fb.Entity("customer_id")
applications = fb.Table("data/applications.parquet", entity=customer, time="applied_at", key="application_id")
payments = fb.Table("data/payments", entity=customer, time="paid_at", known="recorded_at")  # a Delta table
outcomes = fb.Table("data/outcomes.parquet", entity=customer, time="observed_at", key="application_id")

# What must hold of it, in training and for each live request. The income comes from another department's system,
# so a strange one is set aside and counted instead of stopping everything.
applications.expect(
    fb.column("income").not_null().between(1_000, 1_000_000).or_quarantine(),
    fb.column("amount").not_null().between(100, 100_000),
    fb.column("term_months").is_in([12, 24, 36, 60]),
    fb.column("age").between(18, 100),
    fb.column("channel").is_in(["branch", "web", "partner"]),
)
outcomes.expect(fb.column("defaulted").not_null().is_in([0, 1]))


# Features: one definition for training, point in time, and for live requests.
@fb.features(payments, ttl="180d")
def payment_behaviour(rows: pl.LazyFrame) -> pl.LazyFrame:
    """How the customer paid earlier loans in the half year up to each payment."""
    late = pl.col("days_late")
    return rows.rolling("paid_at", period="180d", group_by="customer_id").agg(
        (late > 2).mean().alias("late_share"),
        late.mean().alias("mean_days_late"),
        pl.len().alias("payments"),
    )


@fb.request_features(applications)
def affordability(rows: pl.LazyFrame) -> pl.LazyFrame:
    """What the loan would cost each month, against what the customer earns."""
    instalment = pl.col("amount") / pl.col("term_months")
    return rows.with_columns(instalment.alias("instalment"), (instalment * 12 / pl.col("income")).alias("burden"))


# The pipeline: plain functions, cached by their code and their inputs.
@fb.step
def train(data: fb.TrainingSet, learning_rate: float = 0.06, half_life_days: float = 14.0) -> Pipeline:
    """A boosted tree to which an application of two weeks before counts half as much as one of today."""
    age_days = (pl.col("applied_at").max() - pl.col("applied_at")).dt.total_seconds() / 86_400
    weights = data.frame.select(0.5 ** (age_days / half_life_days)).to_series().to_numpy()
    model = make_pipeline(
        make_column_transformer(
            (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["region", "channel"]),
            remainder="passthrough",
        ),
        HistGradientBoostingClassifier(
            learning_rate=learning_rate, max_iter=120, max_leaf_nodes=15, min_samples_leaf=40, random_state=0
        ),
    )
    return model.fit(data.X, data.y, histgradientboostingclassifier__sample_weight=weights)


@fb.step
def evaluate(model: Pipeline, data: fb.TrainingSet) -> dict[str, float]:
    """How well the model ranks, and how true its probabilities are."""
    chance = model.predict_proba(data.X)[:, 1]
    return {"auc": roc_auc_score(data.y, chance), "brier": brier_score_loss(data.y, chance)}


@fb.pipeline
def training():
    data = fb.training_set(
        applications, label=outcomes["defaulted"], features=[payment_behaviour, affordability], since="90d"
    )
    fit, held_out = fb.split(data, test="last 10%")  # by time: nothing of the future in the past
    model = train(fit)
    return fb.candidate("credit-risk", model, metrics=evaluate(model, held_out), data=fit)


# Production: what may go live, how, what is watched there, and what happens then.
credit = fb.Endpoint(
    model="credit-risk",
    gates=[fb.metric("auc") >= 0.70, fb.not_worse_than_champion("auc", by=0.02), fb.latency(p50="100ms")],
    approval="auto",
    rollout=[fb.shadow("1d"), fb.canary(0.2, "2d"), fb.canary(0.5, "2d")],
    monitors=[
        fb.drift(window="3d"),
        fb.quality(quarantined=0.02),
        fb.performance("auc", labels=outcomes["defaulted"], at_least=0.72, window="14d", min_labels=300),
    ],
    retrain=training,
    retrain_on=[fb.degraded(cooldown="7d"), fb.every("60d")],
    on_violation="quarantine",
)
