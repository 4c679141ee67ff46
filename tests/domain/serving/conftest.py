"""A data plane with everything real but the registry and the models."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from inspect import isgeneratorfunction
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from flyball.core.clock import Clock, SimulatedClock
from flyball.core.errors import BackendError, NotFoundError
from flyball.core.ids import IdSource
from flyball.domain.data.expectations import ColumnRules, column, flatten
from flyball.domain.data.requests import RequestSchema
from flyball.domain.data.row_checks import compile_row
from flyball.domain.data.schemas import Field, Schema
from flyball.domain.data.tables import Table
from flyball.domain.features.online import Completed, OnlineFeatures
from flyball.domain.features.training_sets import ViewRef
from flyball.domain.features.views import RequestFeatures
from flyball.domain.journal.service import Journal
from flyball.domain.predictions.service import PredictionService
from flyball.domain.registry.explaining import SampledExplainer
from flyball.domain.registry.signatures import Signature
from flyball.domain.registry.versions import ModelVersion, Status, parse_ref
from flyball.domain.serving.data_plane import DataPlane
from flyball.domain.serving.fleet import Fleet, ServedEndpoint
from flyball.domain.serving.loaded import LoadedVersion
from flyball.domain.serving.service import RolloutService
from flyball.storage.db import Database

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
FEATURE_TIME = START - timedelta(hours=1)
REQUEST = {"customer_id": 1, "income": 1000.0, "term": 12, "applied_at": None}
_APPLICATIONS = Table("applications.csv", name="applications")


class FakePredictor:
    def __init__(self, output: Callable[[pl.DataFrame], Any]) -> None:
        self._output = output

        self.predict_each = self._predict_each if isgeneratorfunction(output) else None

    def predict(self, frame: pl.DataFrame) -> Any:
        raw = self._output(frame)
        return np.asarray(list(raw) if self.predict_each else raw)

    def _predict_each(self, frame: pl.DataFrame) -> Iterator[Any]:
        for value in self._output(frame):
            yield np.asarray([value])


class FakeLookup:
    """Knows customers 1 to 9, for one day after the first of March."""

    def read_rows(self, view: ViewRef, keys: Sequence[Any], at: Any) -> list[OnlineFeatures | None]:
        return [
            OnlineFeatures(view=view.name, version=view.version, event_time=FEATURE_TIME, values={"late": float(key)})
            if key is not None and key < 10 and at - START < timedelta(days=1)
            else None
            for (key,) in keys
        ]

    def complete(self, requests: Sequence[Any], views: Sequence[ViewRef], at: Any) -> Completed:
        times = [at] * len(requests) if isinstance(at, datetime) else at
        known = [
            request["customer_id"] < 10 and time - START < timedelta(days=1)
            for request, time in zip(requests, times, strict=True)
        ]
        late = [float(row["customer_id"]) if found else None for row, found in zip(requests, known, strict=True)]
        return Completed(
            frame=pl.DataFrame({"late": pl.Series(late, dtype=pl.Float64)}),
            event_times=[{view.name: FEATURE_TIME for view in views} if found else {} for found in known],
            missing={},
        )


def burden(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(burden=pl.col("income") / pl.col("term"))


def fixed(value: float) -> Callable[[pl.DataFrame], Any]:
    return lambda frame: np.full(frame.height, value)


def make_version(
    ref: str,
    output: Callable[[pl.DataFrame], Any],
    *expectations: ColumnRules,
    classes: tuple[Any, ...] = (False, True),
) -> LoadedVersion:
    fields = [
        Field(name="customer_id", dtype="int", nullable=False),
        Field(name="income", dtype="float", nullable=False),
        Field(name="term", dtype="int", nullable=False),
        Field(name="applied_at", dtype="datetime"),
    ]
    names = ("income", "term", "late", "burden")
    predictor = FakePredictor(output)
    signature = Signature(
        features=Schema(tuple(Field(name=n, dtype="int" if n == "term" else "float") for n in names)),
        task="binary" if len(classes) == 2 else "multiclass",
        label="defaulted",
        label_dtype="bool",
        classes=classes,
    )
    reference = pl.DataFrame({"income": [0.0], "term": [1], "late": [0.0], "burden": [0.0]})
    rules = flatten(expectations or (column("income").between(0, 1e6),), of="applications")
    return LoadedVersion(
        ref=ref,
        predictor=predictor,
        signature=signature,
        request=RequestSchema(Schema(tuple(fields)), optional=["applied_at"]),
        check_row=compile_row(rules),
        rules=tuple(rules),
        example={"income": 1234.5, "term": 24},
        find_explainer=lambda: SampledExplainer(signature, reference, predictor, budget=100),
        entity=("customer_id",),
        time="applied_at",
        views=(ViewRef("payments", "v1", timedelta(days=1), ("customer_id",)),),
        request_features=(RequestFeatures("burden", _APPLICATIONS, burden),),
    )


class House:
    """Everything that a data plane needs, wired to folders of a test."""

    def __init__(
        self,
        root: Path,
        clock: Clock | None = None,
        check_every_s: float | None = 0,
        further: Sequence[ServedEndpoint] = (),
        **endpoint: Any,
    ) -> None:
        self.clock = clock or SimulatedClock(START)
        self.db = Database(f"sqlite:///{root / 'flyball.db'}")
        self.journal = Journal(self.db, self.clock)
        self.predictions = PredictionService(self.db, self.journal, self.clock, root / "predictions")
        self.rollouts = RolloutService(self.db, self.journal, self.clock)
        self.versions: dict[str, LoadedVersion] = {}
        self.loads: list[str] = []
        self.others: dict[str, str] = {}
        self._live = root / "live"
        served = ServedEndpoint(**({"name": "credit", "model": "m"} | endpoint))
        self.fleet = Fleet(
            [served, *further],
            champions=self,
            rollouts=self.rollouts,
            loader=self,
            db=self.db,
            journal=self.journal,
            check_every_s=check_every_s,
        )
        self.plane = DataPlane(self.fleet, FakeLookup(), self.predictions.log, self.clock, IdSource(self.clock))

    @property
    def live(self) -> str | None:
        return self._live.read_text() if self._live.exists() else None

    def add(self, number: int, output: Callable[[pl.DataFrame], Any], *rules: ColumnRules, **changes: Any) -> str:
        ref = f"m/{number}"
        self.versions[ref] = make_version(ref, output, *rules, **changes)
        return ref

    def go_live(self, ref: str) -> None:
        self._live.write_text(ref)
        with self.db.begin() as tx:
            self.journal.append(tx, "registry.alias.moved", "model/m", {"to": ref})

    def add_other(self, ref: str, output: Callable[[pl.DataFrame], Any], **changes: Any) -> None:
        """Let a version of another model be live."""
        self.versions[ref] = make_version(ref, output, **changes)
        self.others[ref.partition("/")[0]] = ref
        with self.db.begin() as tx:
            self.journal.append(tx, "registry.alias.moved", f"model/{ref}", {"to": ref})

    def champion(self, model: str) -> ModelVersion | None:
        if model != "m":
            return self._describe(self.others[model]) if model in self.others else None
        if self.live is None:
            return None
        return self._describe(self.live)

    def get(self, ref: str) -> ModelVersion:
        if ref not in self.versions:
            raise NotFoundError(f"no version {ref}")
        return self._describe(ref)

    def _describe(self, ref: str) -> ModelVersion:
        name, number = parse_ref(ref)
        return ModelVersion(
            model=name, number=number, status=Status.APPROVED, package_digest="", metrics={}, created_at=START
        )

    def list_versions(self, model: str | None = None) -> list[ModelVersion]:
        return [self.get(ref) for ref in sorted(self.versions)]

    def load(self, ref: str) -> LoadedVersion:
        self.loads.append(ref)
        if ref not in self.versions:
            raise NotFoundError(f"no version {ref}")
        return self.versions[ref]

    def start(self, candidate: str, *stages: Any) -> None:
        self.rollouts.start("credit", model="m", candidate=candidate, champion=self.live, stages=stages)

    def sealed(self) -> pl.DataFrame:
        self.predictions.log.rotate()
        self.predictions.seal()
        return self.predictions.scan("credit").collect()


def breaks(message: str) -> Callable[[pl.DataFrame], Any]:
    def output(_frame: pl.DataFrame) -> Any:
        raise ValueError(message)

    return output


class DamagedError(BackendError):
    code = "test/damaged"


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)
