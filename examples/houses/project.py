"""House prices: what will this house sell for?

The data is a real year of sales in King County, May 2014 to May 2015. Say where `kc_house_sales.csv` lies with
FLYBALL_EXAMPLES_DATA; without it, the folder `data` beside this file is meant.
"""

import os
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import mean_absolute_percentage_error, root_mean_squared_error

import flyball as fb

DATA = Path(os.environ.get("FLYBALL_EXAMPLES_DATA", "data"))

# A house can be sold twice, so a sale is known by its house and its date.
house = fb.Entity("ID")
sales = fb.Table(
    DATA / "kc_house_sales.csv", entity=house, time="Date", time_format="%Y%m%dT%H%M%S", key=["ID", "Date"]
)

# A negative number of rooms cannot be: training stops, and a request is refused in the same words. Thirty-three
# bedrooms on 1,620 square feet can be, though nobody should learn from them unseen: such rows are set aside.
sales.expect(
    fb.column("Bedrooms").not_null().at_least(0),
    fb.column("Bedrooms").at_most(20).or_quarantine(),
    fb.column("Bathrooms").between(0, 20),
    fb.column("Living Sqft").between(100, 20_000),
    fb.column("Grade").between(1, 13),
    fb.column("Latitude").between(47, 48),
    fb.column("Price").not_null().at_least(1),
    fb.column("ZIPCode").between(98_000, 98_300).or_warn(),
)


@fb.request_features(sales)
def proportions(rows: pl.LazyFrame) -> pl.LazyFrame:
    """How the house compares with its plot and its neighbours, and how old it is at the sale."""
    living = pl.col("Living Sqft")
    return rows.with_columns(
        (living / pl.col("Lot Sqft")).alias("built_share"),
        (living / pl.col("Living Sqft15")).alias("against_neighbours"),
        (pl.col("Date").dt.year() - pl.col("Year built")).alias("age_years"),
        (pl.col("Year renovated") > 0).cast(pl.Int64).alias("renovated"),
    )


@fb.step
def train(data: fb.TrainingSet, learning_rate: float = 0.08) -> TransformedTargetRegressor:
    """Boosted trees on the logarithm of the price: being off by a tenth is as bad for a hut as for a palace."""
    trees = HistGradientBoostingRegressor(learning_rate=learning_rate, max_iter=250, random_state=0)
    # Named functions of NumPy, so that the model can be stored and opened anywhere.
    model = TransformedTargetRegressor(trees, func=np.log, inverse_func=np.exp)
    return model.fit(data.X, data.y)


@fb.step
def evaluate(model: TransformedTargetRegressor, data: fb.TrainingSet) -> dict[str, float]:
    """How far off the estimates are, in dollars and as a share of the price."""
    price = model.predict(data.X)
    return {
        "rmse": root_mean_squared_error(data.y, price),
        "mape": mean_absolute_percentage_error(data.y, price),
    }


@fb.pipeline
def training():
    data = fb.training_set(sales, label=sales["Price"], features=[proportions])
    fit, held_out = fb.split(data, test="last 30d")
    model = train(fit)
    return fb.candidate("house-price", model, metrics=evaluate(model, held_out), data=fit)


houses = fb.Endpoint(
    model="house-price",
    gates=[fb.metric("mape") <= 0.20, fb.not_worse_than_champion("mape", by="5%"), fb.latency(p50="100ms")],
    approval="auto",  # "valuer" would make every new version wait for a person with that role
    rollout=[fb.shadow("2d"), fb.canary(0.5, "3d")],
    monitors=[
        fb.prediction_mean(last=100, off_by=0.20),
        fb.performance("mape", labels=sales["Price"], at_most=0.16, window="30d"),
        fb.drift(window="7d"),
    ],
    retrain=training,
    retrain_on=[fb.degraded(cooldown="14d"), fb.every("60d")],
    on_violation="refuse",
)
