"""Will this parcel be late? The smallest project that has everything: two tables, two features, one endpoint."""

import polars as pl
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline

import flyball as fb

shop = fb.Entity("shop_id")
parcels = fb.Table("data/parcels.csv", entity=shop, time="sent_at", key="parcel_id")
arrivals = fb.Table("data/arrivals.csv", entity=shop, time="arrived_at", key="parcel_id")

parcels.expect(
    fb.column("weight_kg").not_null().between(0, 50),
    fb.column("rush").not_null().is_in([0, 1]),
)
arrivals.expect(fb.column("late").not_null().is_in([0, 1]))


@fb.features(arrivals)
def shop_record(rows: pl.LazyFrame) -> pl.LazyFrame:
    """How often the shop's parcels were late lately."""
    return rows.rolling("arrived_at", period="30d", group_by="shop_id").agg(pl.col("late").mean().alias("late_share"))


@fb.request_features(parcels)
def haste(rows: pl.LazyFrame) -> pl.LazyFrame:
    """A heavy parcel in a hurry."""
    return rows.with_columns((pl.col("weight_kg") * pl.col("rush")).alias("heavy_rush"))


@fb.step
def train(data: fb.TrainingSet, strength: float = 1.0) -> Pipeline:
    return make_pipeline(SimpleImputer(), LogisticRegression(C=strength, max_iter=200)).fit(data.X, data.y)


@fb.step
def evaluate(model: Pipeline, data: fb.TrainingSet) -> dict[str, float]:
    chance = model.predict_proba(data.X)[:, 1]
    return {"auc": roc_auc_score(data.y, chance), "logloss": log_loss(data.y, chance)}


@fb.pipeline
def training():
    data = fb.training_set(parcels, label=arrivals["late"], features=[shop_record, haste])
    fit, held_out = fb.split(data, test="last 25%")
    model = train(fit)
    return fb.candidate("lateness", model, metrics=evaluate(model, held_out), data=fit)


parcel = fb.Endpoint(
    model="lateness",
    gates=[fb.metric("auc") >= 0.55],
    rollout=[fb.shadow("1s"), fb.canary(0.5, "1s")],
    retrain=training,
)
