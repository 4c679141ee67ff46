"""Bike demand: how many bikes will be rented in this hour?

The data is two real years of hourly rentals (Capital Bikeshare, 2011 and 2012, with the weather). Say where
`bike_sharing_hour.csv` lies with FLYBALL_EXAMPLES_DATA; without it, the folder `data` beside this file is meant.
"""

import os
from pathlib import Path

import polars as pl
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

import flyball as fb

DATA = Path(os.environ.get("FLYBALL_EXAMPLES_DATA", "data"))


def prepare(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Make one instant of day and hour, and leave out row numbers and what only repeats the date in words."""
    day = pl.col("dteday").str.to_datetime("%m/%d/%y", time_unit="us", time_zone="UTC")
    return rows.with_columns((day + pl.duration(hours="hr")).alias("hour_start")).drop(
        "", "X", "dteday", "hr", "yr", "mnth", "weekday", "mnth2", "weekday2", "hr2"
    )


rides = fb.Table(DATA / "bike_sharing_hour.csv", time="hour_start", key="instant", nulls=["NA"], prepare=prepare)

# Hours without a weather report were added to the file by hand, all with a count of 0: learning from them would
# teach that nobody rides when the weather station is down.
rides.expect(
    fb.column("weathersit").not_null().or_quarantine(),
    fb.column("weathersit").is_in([1, 2, 3, 4]),
    fb.column("temp").between(0, 1),
    fb.column("hum").between(0, 1),
    fb.column("cnt").not_null().at_least(0),
)


@fb.request_features(rides)
def calendar(rows: pl.LazyFrame) -> pl.LazyFrame:
    """What the hour says about demand: people commute on workdays and stroll on Sundays."""
    at = pl.col("hour_start").dt
    return rows.with_columns(
        at.hour().cast(pl.Int64).alias("hour"),
        at.weekday().cast(pl.Int64).alias("weekday"),
        at.month().cast(pl.Int64).alias("month"),
    )


@fb.step
def train(data: fb.TrainingSet, half_life_days: float = 45.0) -> HistGradientBoostingRegressor:
    """Boosted trees to which the last weeks count most: the scheme grows, and its past is not its future."""
    age_days = (pl.col("hour_start").max() - pl.col("hour_start")).dt.total_seconds() / 86_400
    weights = data.frame.select(0.5 ** (age_days / half_life_days)).to_series().to_numpy()
    model = HistGradientBoostingRegressor(max_iter=200, min_samples_leaf=40, random_state=0)
    return model.fit(data.X, data.y, sample_weight=weights)


@fb.step
def evaluate(model: HistGradientBoostingRegressor, data: fb.TrainingSet) -> dict[str, float]:
    """How many bikes the forecast is off, per hour."""
    forecast = model.predict(data.X)
    return {
        "rmse": root_mean_squared_error(data.y, forecast),
        "mae": mean_absolute_error(data.y, forecast),
    }


@fb.pipeline
def training():
    # Casual and registered riders add up to the count: they would give the answer away.
    data = fb.training_set(rides, label=rides["cnt"], features=[calendar], drop=["casual", "registered"])
    fit, held_out = fb.split(data, test="last 14d")
    model = train(fit)
    return fb.candidate("bike-demand", model, metrics=evaluate(model, held_out), data=fit)


bikes = fb.Endpoint(
    model="bike-demand",
    gates=[fb.metric("rmse") <= 250, fb.not_worse_than_champion("rmse", by="5%"), fb.latency(p50="100ms")],
    rollout=[fb.shadow("1d"), fb.canary(0.5, "2d")],
    monitors=[
        fb.drift(["temp", "hum", "windspeed"], window="7d"),
        fb.performance("rmse", labels=rides["cnt"], at_most=90, window="14d"),
        fb.performance("mae", labels=rides["cnt"], at_most=65, window="14d"),
    ],
    retrain=training,
    retrain_on=[fb.degraded(cooldown="14d"), fb.every("30d")],
)
