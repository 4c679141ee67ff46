"""Derives features that were served once more from the offline tables, for the monitor that compares them."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import polars as pl

from flyball.domain.features.service import FeatureService
from flyball.domain.features.views import FeatureView
from flyball.domain.monitoring.consistency import ConsistencySource, Rederived
from flyball.domain.predictions.frames import expand_json
from flyball.domain.predictions.records import PredictionStatus
from flyball.domain.predictions.service import PredictionService
from flyball.domain.registry.reference import sample_rows

_ASIDE = ("shadow", "pinned")
_TIME = pl.Datetime("us", "UTC")
_AT = "__asked_at"
_TOLERANCE = 1e-9


class FeatureRederiver:
    """Compares served features with what the views say now about then.

    What was online may be some turns of the loop behind: a served value is right if the tables said it at the instant
    of the request or at any time in the ``grace`` before.

    Args:
        predictions: The log.
        features: Joins views as they were known.
        views: Gives the views of a version, with the functions that it was trained with.
        grace: How far the online store may be behind.
    """

    def __init__(
        self,
        predictions: PredictionService,
        features: FeatureService,
        views: Callable[[str], Sequence[FeatureView]],
        *,
        grace: timedelta = timedelta(minutes=5),
    ) -> None:
        self._predictions = predictions
        self._features = features
        self._views = views
        self._grace = grace

    def of(self, endpoint: str) -> ConsistencySource:
        """Return the source of one endpoint."""

        def read(*, version: str, since: datetime, until: datetime, rows: int) -> Rederived | None:
            return self._read(endpoint, version, since, until, rows)

        return read

    def _read(self, endpoint: str, version: str, since: datetime, until: datetime, rows: int) -> Rederived | None:
        views = self._views(version)
        if not views:
            return None
        served = self._predictions.scan(endpoint, since, until).filter(
            pl.col("version") == version,
            pl.col("status") == PredictionStatus.OK.value,
            ~pl.col("variant").is_in(_ASIDE),
            pl.col("node").is_null(),
            pl.col("views") != "{}",
        )
        columns = ("id", "at", "time", "request", "features", "views")
        sample = sample_rows(served.select(columns).sort("id").collect(), rows)
        mismatches: dict[str, int] = {}
        examples: list[str] = []
        for view in views if sample.height else []:
            differing, example = self._compare(view, sample)
            mismatches.update(differing)
            examples += [example] if example else []
        return Rederived(rows=sample.height, mismatches=mismatches, example=next(iter(examples), ""))

    def _compare(self, view: FeatureView, sample: pl.DataFrame) -> tuple[dict[str, int], str]:
        """Return how many rows differ in each feature of a view, and one of them in words."""
        columns = self._features.columns(view)
        types = self._features.key_types(view)
        keys = expand_json(sample, "request", types)
        asked = keys.with_columns(pl.coalesce(sample["time"], sample["at"]).cast(_TIME).alias(_AT))
        present = asked.select(pl.all_horizontal(pl.all().is_not_null())).to_series()
        if not present.any():
            return {}, ""
        asked, sample = asked.filter(present), sample.filter(present)
        served = expand_json(sample, "features", columns.to_polars())
        then = self._features.join(view, asked, time=_AT, ttl=view.ttl)
        earlier = asked.with_columns(pl.col(_AT) - self._grace)
        before = self._features.join(view, earlier, time=_AT, ttl=view.ttl)
        held = pl.Series([_held(text, view.name) for text in sample["views"]], dtype=pl.Int64).cast(_TIME)
        at_its_time = self._features.join(view, asked.with_columns(held.alias(_AT)), time=_AT, ttl=view.ttl)
        is_recent = (asked[_AT] - held <= self._grace).fill_null(False)
        found: dict[str, int] = {}
        example = ""
        for name in columns.names:
            differs = _differ(served[name], then[name]) & _differ(served[name], before[name])
            differs &= ~is_recent | _differ(served[name], at_its_time[name])
            if differs.any():
                found[name] = int(differs.sum())
                row = int(differs.arg_true()[0])
                entity = ", ".join(f"{key} {value}" for key, value in asked.drop(_AT).row(row, named=True).items())
                example = example or (
                    f"{name} of {entity} was served as {served[name][row]} in prediction {sample['id'][row]}, "
                    f"the tables say {then[name][row]}"
                )
        return found, example


def _held(views: str, name: str) -> int | None:
    import msgspec

    used = msgspec.json.decode(views).get(name)
    return None if used is None else used.get("event_time_us")


def _differ(one: pl.Series, other: pl.Series) -> pl.Series:
    differs = one.ne_missing(other)
    if one.dtype.is_float():
        limit = _TOLERANCE * one.abs()
        differs &= ~((one - other).abs() <= limit).fill_null(False)
        differs &= ~(one.is_null() & other.is_nan().fill_null(False))  # JSON has no NaN
    return differs
