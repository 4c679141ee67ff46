"""What every tool runs: plain functions, each parameter named after the step whose result it takes."""

import json
import os
from pathlib import Path

import polars as pl
from helpers import ratio


def note(name: str) -> None:
    """Write down that a step ran, where no tool looks."""
    with Path(os.environ["RAN_LOG"]).open("a") as log:
        log.write(f"{name} ")


def load(path: str) -> pl.DataFrame:
    note("load")
    return pl.read_csv(path)


def validate(load: pl.DataFrame) -> pl.DataFrame:
    note("validate")
    if load["x0"].is_null().any():
        raise ValueError("x0 is missing somewhere")
    return load.filter(pl.col("x1") < 4)


def split(validate: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    note("split")
    cut = int(validate.height * 0.8)
    return validate[:cut], validate[cut:]


def train(split: tuple[pl.DataFrame, pl.DataFrame]) -> object:
    note("train")
    from sklearn.linear_model import LogisticRegression

    rows = split[0]
    return LogisticRegression(max_iter=50).fit(rows.drop("y").to_numpy(), rows["y"].to_numpy())


def evaluate(train: object, split: tuple[pl.DataFrame, pl.DataFrame]) -> dict[str, float]:
    note("evaluate")
    rows = split[1]
    right = (train.predict(rows.drop("y").to_numpy()) == rows["y"].to_numpy()).sum()
    return {"accuracy": float(ratio(right, rows.height))}


def save(train: object, evaluate: dict[str, float]) -> float:
    note("save")
    Path("metrics.json").write_text(json.dumps(evaluate))
    return evaluate["accuracy"]


def make() -> pl.DataFrame:
    """500 MB: 12.5 million rows of 5 numbers."""
    return pl.select(pl.int_range(12_500_000).cast(pl.Float64).alias("a")).with_columns(
        b=pl.col("a") * 2, c=pl.col("a") * 3, d=pl.col("a") * 5, e=pl.col("a") * 7
    )


def change(make: pl.DataFrame) -> pl.DataFrame:
    return make.with_columns(a=pl.col("a") + 1)


def total(change: pl.DataFrame) -> float:
    return float(change["a"].sum())
