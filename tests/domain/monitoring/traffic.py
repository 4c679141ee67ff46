"""Predictions as the log seals them, made up."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import polars as pl

from flyball.core.durations import to_us
from flyball.domain.data.profiles import Profile
from flyball.domain.data.schemas import Schema
from flyball.domain.monitoring.distributions import Baseline
from flyball.domain.predictions.frames import to_frame
from flyball.domain.predictions.records import PredictionRecord, PredictionStatus
from flyball.domain.registry.reference import ReferenceProfile
from flyball.domain.registry.signatures import Signature


def draw_features(random: np.random.Generator, rows: int, *, shift: float = 0.0) -> pl.DataFrame:
    """Return rows of two numbers and a category; ``shift`` moves income."""
    return pl.DataFrame(
        {
            "income": random.lognormal(10 + shift, 0.5, rows),
            "age": random.integers(18, 80, rows).astype(float),
            "purpose": random.choice(["car", "home", "study"], rows, p=[0.5, 0.3, 0.2]),
        }
    )


def predict(features: pl.DataFrame) -> np.ndarray:
    score = 10 - np.log(features["income"].fill_null(20_000.0).to_numpy()) + 0.01 * features["age"].to_numpy()
    return 1 / (1 + np.exp(-score))


def make_baseline(version: str = "credit-risk/1", *, seed: int = 0, shift: float = 0.0) -> Baseline:
    features = draw_features(np.random.default_rng(seed), 5_000, shift=shift)
    predictions = pl.DataFrame({"prediction": predict(features)})
    return Baseline(
        version=version,
        profile=ReferenceProfile(
            features=Profile.of(features, features.columns),
            predictions=Profile.of(predictions, ["prediction"]),
            label=Profile.of(predictions, ["prediction"]),
        ),
        signature=Signature(
            features=Schema.of(features, nullable=dict.fromkeys(features.columns, True)),
            task="binary",
            label="defaulted",
            label_dtype="int",
            classes=(0, 1),
        ),
    )


def make_records(
    features: pl.DataFrame,
    times: Sequence[datetime],
    *,
    version: str = "credit-risk/1",
    variant: str = "live",
    status: PredictionStatus = PredictionStatus.OK,
    latency_us: int | Sequence[int] = 2_000,
    first: int = 0,
    endpoint: str = "credit",
) -> list[PredictionRecord]:
    predictions = predict(features).tolist()
    latencies = [latency_us] * len(times) if isinstance(latency_us, int) else latency_us
    is_ok = status is PredictionStatus.OK
    return [
        PredictionRecord(
            id=f"{first + number:026d}",
            endpoint=endpoint,
            at_us=to_us(time),
            variant=variant,
            version=version,
            status=status,
            features=_raw(row) if status is not PredictionStatus.REFUSED else _raw({}),
            prediction=prediction if is_ok else None,
            latency_us=latency,
        )
        for number, (row, time, prediction, latency) in enumerate(
            zip(features.iter_rows(named=True), times, predictions, latencies, strict=True)
        )
    ]


def spread(start: datetime, duration: timedelta, rows: int) -> list[datetime]:
    return [start + duration * number / rows for number in range(rows)]


def _raw(values: Mapping[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(values))


__all__ = ["draw_features", "make_baseline", "make_records", "predict", "spread", "to_frame"]
