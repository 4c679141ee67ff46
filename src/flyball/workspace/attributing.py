"""Computes what features added to predictions that were served, for the monitors that watch it."""

from collections.abc import Callable
from datetime import datetime

import polars as pl

from flyball.domain.data.profiles import Profile
from flyball.domain.monitoring.attributions import Attributed, AttributionSource
from flyball.domain.predictions.records import PredictionStatus
from flyball.domain.predictions.service import PredictionService
from flyball.domain.registry.explaining import Explainer, attribute_rows
from flyball.domain.registry.packages import Package
from flyball.domain.registry.reference import SAMPLE_ROWS, sample_rows
from flyball.domain.registry.runtimes import Runtimes
from flyball.domain.serving.explaining import read_features

_ASIDE = ("shadow", "pinned")


class AttributionReader:
    """Explains predictions of the log by the version that gave them; keeps the one used last in memory.

    Args:
        predictions: The log.
        open_package: Opens a version's package.
        runtimes: Run its model.
    """

    def __init__(
        self, predictions: PredictionService, open_package: Callable[[str], Package], runtimes: Runtimes
    ) -> None:
        self._predictions = predictions
        self._open = open_package
        self._runtimes = runtimes
        self._version = ""
        self._known: tuple[Explainer, Profile] | None = None

    def of(self, endpoint: str) -> AttributionSource:
        """Return the source of one endpoint's attributions."""

        def read(*, version: str, since: datetime, until: datetime) -> Attributed | None:
            return self._read(endpoint, version, since, until)

        return read

    def _read(self, endpoint: str, version: str, since: datetime, until: datetime) -> Attributed:
        package = self._open(version)
        explainer, reference = self._find(version, package)
        served = self._predictions.scan(endpoint, since, until).filter(
            pl.col("version") == version,
            pl.col("status") == PredictionStatus.OK.value,
            ~pl.col("variant").is_in(_ASIDE),
            # What several models answered together cannot be explained by one of them.
            ~pl.col("node").str.contains("ensemble[", literal=True).fill_null(False),
        )
        features = sample_rows(served.select("id", "features").sort("id").collect(), SAMPLE_ROWS)["features"]
        names = package.signature.features.names
        types = package.signature.features.to_polars()
        frame = read_features(types, [text.encode() for text in features])
        rows = (
            attribute_rows(explainer, frame, names)
            if len(frame)
            else pl.DataFrame(schema=dict.fromkeys(names, pl.Float64))
        )
        return Attributed(reference=reference, rows=rows)

    def _find(self, version: str, package: Package) -> tuple[Explainer, Profile]:
        if self._known is None or self._version != version:
            explainer = package.load_explainer(self._runtimes, package.load_predictor(self._runtimes))
            self._known = (explainer, package.profile_attributions(explainer))
            self._version = version
        return self._known
