"""A small project to package models of: rows, training sets and a context to run operations in."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

import flyball.domain.data.expectations as fe
from flyball.core.clock import SimulatedClock
from flyball.domain.access.service import AccessService
from flyball.domain.data.schemas import Field, Schema
from flyball.domain.data.tables import Table
from flyball.domain.features.labels import LabelRule
from flyball.domain.features.training_sets import TrainingLineage, TrainingSet, TrainingSetFacts
from flyball.domain.journal.service import Journal
from flyball.domain.pipelines.graph import build_graph, replace_nodes
from flyball.domain.registry.gates import GatePlan, ModelGates
from flyball.domain.registry.projects import ProjectSource
from flyball.domain.registry.runtimes import Runtimes
from flyball.domain.registry.service import RegistryService
from flyball.storage.db import Database

S = TypeVar("S")
START = datetime(2026, 3, 1, tzinfo=UTC)
NUMBERS = ("income", "age")
ALL = (*NUMBERS, "town")


def make_rows(rows: int = 600, seed: int = 3) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    income, age = random.normal(50, 20, rows), random.integers(18, 80, rows)
    risk = 0.1 * income - 0.05 * age + random.normal(size=rows)
    return pl.DataFrame(
        {
            "customer_id": [f"c{index}" for index in range(rows)],
            "applied_at": [START + timedelta(hours=index) for index in range(rows)],
            "income": income,
            "age": age,
            "town": random.choice(["Aix", "Bonn", "Cork"], rows),
            "defaulted": risk > 2.5,
            "price": 3 * income + age,
        }
    ).with_columns(pl.col("applied_at").cast(pl.Datetime("us", "UTC")))


def make_training_set(
    frame: pl.DataFrame | None = None, features: tuple[str, ...] = NUMBERS, label: str = "defaulted", part: str = ""
) -> TrainingSet:
    rows = make_rows() if frame is None else frame
    rule = LabelRule(spine="applications", table="outcomes", column=label, match="entity", keys=("customer_id",))
    lineage = TrainingLineage(
        spine="applications",
        snapshots={"applications": "a" * 64, "outcomes": "b" * 64},
        views={"payment_behaviour": "v1"},
        ttls={"payment_behaviour": timedelta(days=180)},
        view_keys={"payment_behaviour": ("customer_id",)},
        request_features={"affordability": "c" * 64},
        label_rule=rule,
        as_of=START + timedelta(days=30),
        quarantined={"applications": 2},
    )
    facts = TrainingSetFacts(
        feature_names=features,
        label_name=label,
        keys=("customer_id",),
        time_name="applied_at",
        origins=dict.fromkeys(features, "applications"),
        request_schema=Schema((Field(name="customer_id", dtype="string"), Field(name="income", dtype="float"))),
        lineage=lineage,
        part=part,
    )
    return TrainingSet(rows, facts)


def make_source(root: Path) -> ProjectSource:
    applications = Table("applications.csv", name="applications")
    applications.expect(fe.column("income").not_null().between(0, 1e7))
    files = {"project.py": b"THRESHOLD = 1\n", "parts/more.py": b"MORE = 2\n"}
    return ProjectSource(root=root, files=files, tables={"applications": applications})


class Context:
    """Implements `OperationContext` over a real registry."""

    run_id = "run-1"
    as_of = START
    actor = "run/run-1"

    def __init__(self, home: Path, gates: Mapping[str, ModelGates] | None = None) -> None:
        self.clock = SimulatedClock(START)
        self.db = Database(f"sqlite:///{home / 'flyball.db'}")
        self.journal = Journal(self.db, self.clock)
        access = AccessService({"ana": ["risk-officer"]})
        self.registry = RegistryService(self.db, self.journal, self.clock, access, home / "packages")
        self.runtimes = Runtimes()
        self.notes: list[tuple[str, Any]] = []
        self.services: dict[type, Any] = {
            RegistryService: self.registry,
            Runtimes: self.runtimes,
            ProjectSource: make_source(home),
        }
        self.set_gates(gates or {})

    def set_gates(self, gates: Mapping[str, ModelGates]) -> None:
        self.services[GatePlan] = GatePlan(models=dict(gates))

    def service(self, type_: type[S]) -> S:
        found: S = self.services[type_]
        return found

    def note(self, kind: str, value: Any) -> None:
        self.notes.append((kind, value))

    def run(self, pipeline: Any) -> Any:
        """Carry a pipeline out here, and return the values of its last call."""
        graph = build_graph(pipeline)
        values: dict[int, Any] = {}
        for call in graph.calls:
            inputs = {
                name: replace_nodes(value, lambda node: _pick(values[node.call.position], node.output))
                for name, value in call.inputs.items()
            }
            values[call.position] = call.operation.run(self, inputs)
        return values[len(graph.calls) - 1]


def _pick(value: Any, output: int | None) -> Any:
    return value if output is None else value[output]
