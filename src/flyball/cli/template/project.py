"""Delivery times: how many minutes will this order take?

This file is the whole system. Read it from top to bottom, then run it: `flyball run training`.
"""

import polars as pl
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import mean_absolute_error

import flyball as fb

# 1. Data: where it lies, whom it is about (entity), and when each row became true (time).
restaurant = fb.Entity("restaurant_id")
orders = fb.Table("data/orders.csv", entity=restaurant, time="ordered_at", key="order_id")
deliveries = fb.Table("data/deliveries.csv", entity=restaurant, time="delivered_at", key="order_id")

# 2. Data tests: checked before each training, and for each live request in the same words.
orders.expect(
    fb.column("distance_km").not_null().between(0, 30),
    fb.column("items").at_least(1),
)
deliveries.expect(fb.column("minutes").between(5, 240).or_quarantine())


# 3. Features of the past: computed as of each order's time for training, kept ready for live requests.
@fb.features(deliveries)
def kitchen_pace(rows: pl.LazyFrame) -> pl.LazyFrame:
    """How long this restaurant's deliveries took over the last two weeks."""
    recent = rows.rolling("delivered_at", period="14d", group_by="restaurant_id")
    return recent.agg(pl.col("minutes").mean().alias("recent_minutes"))


# ... and features that the request itself tells.
@fb.request_features(orders)
def moment(rows: pl.LazyFrame) -> pl.LazyFrame:
    """When it is: evenings and weekends are busy."""
    at = pl.col("ordered_at").dt
    return rows.with_columns(at.hour().cast(pl.Int64).alias("hour"), at.weekday().cast(pl.Int64).alias("weekday"))


# 4. The pipeline: plain functions. What has not changed is not computed again.
@fb.step
def train(data: fb.TrainingSet, learning_rate: float = 0.1) -> HistGradientBoostingRegressor:
    """Learn from the past."""
    return HistGradientBoostingRegressor(learning_rate=learning_rate, max_iter=80, random_state=0).fit(data.X, data.y)


@fb.step
def evaluate(model: HistGradientBoostingRegressor, data: fb.TrainingSet) -> dict[str, float]:
    """Say how many minutes the forecast is off."""
    return {"mae": mean_absolute_error(data.y, model.predict(data.X))}


@fb.pipeline
def training():
    """From tables to a candidate for going live; its gates are at the endpoint below."""
    data = fb.training_set(orders, label=deliveries["minutes"], features=[kitchen_pace, moment])
    fit, held_out = fb.split(data, test="last 20%")  # by time: the model is judged on days it has not seen
    model = train(fit)
    return fb.candidate("delivery-minutes", model, metrics=evaluate(model, held_out), data=fit)


# 5. Production: what may go live, how, what is watched there, and what happens then.
delivery = fb.Endpoint(
    model="delivery-minutes",
    gates=[fb.metric("mae") <= 8, fb.not_worse_than_champion("mae", by="5%")],
    rollout=[fb.shadow("1d"), fb.canary(0.5, "2d")],
    monitors=[
        fb.drift(window="7d", min_rows=100),
        fb.performance("mae", labels=deliveries["minutes"], at_most=7, window="7d", min_labels=50),
    ],
    retrain=training,
    retrain_on=[fb.degraded(cooldown="3d"), fb.every("30d")],
)
