"""Flyball: from raw data to a model that keeps itself right, described in one file.

The names a project file uses; each is loaded on first use, so importing the package costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flyball.version import __version__

if TYPE_CHECKING:
    from flyball.domain.data.expectations import column as column
    from flyball.domain.data.expectations import expression as expression
    from flyball.domain.data.expectations import rows_at_least as rows_at_least
    from flyball.domain.data.expectations import rows_at_most as rows_at_most
    from flyball.domain.data.expectations import unique_together as unique_together
    from flyball.domain.data.tables import Entity as Entity
    from flyball.domain.data.tables import Table as Table
    from flyball.domain.features.aggregates import aggregate as aggregate
    from flyball.domain.features.training_sets import TrainingSet as TrainingSet
    from flyball.domain.features.training_sets import split as split
    from flyball.domain.features.training_sets import training_set as training_set
    from flyball.domain.features.views import features as features
    from flyball.domain.features.views import request_features as request_features
    from flyball.domain.loop.endpoints import Endpoint as Endpoint
    from flyball.domain.loop.triggers import degraded as degraded
    from flyball.domain.loop.triggers import drifted as drifted
    from flyball.domain.loop.triggers import every as every
    from flyball.domain.loop.triggers import new_data as new_data
    from flyball.domain.loop.triggers import schedule as schedule
    from flyball.domain.monitoring.attributions import attribution_drift as attribution_drift
    from flyball.domain.monitoring.consistency import consistency as consistency
    from flyball.domain.monitoring.monitors import drift as drift
    from flyball.domain.monitoring.monitors import performance as performance
    from flyball.domain.monitoring.monitors import prediction_drift as prediction_drift
    from flyball.domain.monitoring.monitors import prediction_mean as prediction_mean
    from flyball.domain.monitoring.monitors import quality as quality
    from flyball.domain.monitoring.monitors import service as service
    from flyball.domain.pipelines.steps import pipeline as pipeline
    from flyball.domain.pipelines.steps import step as step
    from flyball.domain.registry.candidates import candidate as candidate
    from flyball.domain.registry.gates import latency as latency
    from flyball.domain.registry.gates import metric as metric
    from flyball.domain.registry.gates import no_leaks as no_leaks
    from flyball.domain.registry.gates import not_worse_than_champion as not_worse_than_champion
    from flyball.domain.registry.gates import service_test as service_test
    from flyball.domain.serving.ab_tests import ab_test as ab_test
    from flyball.domain.serving.bandits import bandit as bandit
    from flyball.domain.serving.graphs import constant as constant
    from flyball.domain.serving.graphs import ensemble as ensemble
    from flyball.domain.serving.graphs import fallback as fallback
    from flyball.domain.serving.graphs import model as model
    from flyball.domain.serving.graphs import route as route
    from flyball.domain.serving.rollouts import canary as canary
    from flyball.domain.serving.rollouts import shadow as shadow
    from flyball.domain.tracking.logging import log_artifact as log_artifact
    from flyball.domain.tracking.logging import log_metric as log_metric
    from flyball.domain.tracking.logging import set_tag as set_tag
    from flyball.workspace.feature_store import FeatureStore as FeatureStore
    from flyball.workspace.live_runs import run as run

_HOMES = {
    "Endpoint": "domain.loop.endpoints",
    "Entity": "domain.data.tables",
    "FeatureStore": "workspace.feature_store",
    "Table": "domain.data.tables",
    "TrainingSet": "domain.features.training_sets",
    "ab_test": "domain.serving.ab_tests",
    "attribution_drift": "domain.monitoring.attributions",
    "bandit": "domain.serving.bandits",
    "canary": "domain.serving.rollouts",
    "aggregate": "domain.features.aggregates",
    "candidate": "domain.registry.candidates",
    "column": "domain.data.expectations",
    "constant": "domain.serving.graphs",
    "consistency": "domain.monitoring.consistency",
    "degraded": "domain.loop.triggers",
    "drift": "domain.monitoring.monitors",
    "drifted": "domain.loop.triggers",
    "ensemble": "domain.serving.graphs",
    "every": "domain.loop.triggers",
    "expression": "domain.data.expectations",
    "fallback": "domain.serving.graphs",
    "features": "domain.features.views",
    "latency": "domain.registry.gates",
    "log_artifact": "domain.tracking.logging",
    "log_metric": "domain.tracking.logging",
    "metric": "domain.registry.gates",
    "model": "domain.serving.graphs",
    "new_data": "domain.loop.triggers",
    "no_leaks": "domain.registry.gates",
    "not_worse_than_champion": "domain.registry.gates",
    "performance": "domain.monitoring.monitors",
    "pipeline": "domain.pipelines.steps",
    "prediction_drift": "domain.monitoring.monitors",
    "prediction_mean": "domain.monitoring.monitors",
    "quality": "domain.monitoring.monitors",
    "request_features": "domain.features.views",
    "route": "domain.serving.graphs",
    "rows_at_least": "domain.data.expectations",
    "rows_at_most": "domain.data.expectations",
    "run": "workspace.live_runs",
    "schedule": "domain.loop.triggers",
    "service": "domain.monitoring.monitors",
    "service_test": "domain.registry.gates",
    "set_tag": "domain.tracking.logging",
    "shadow": "domain.serving.rollouts",
    "split": "domain.features.training_sets",
    "step": "domain.pipelines.steps",
    "training_set": "domain.features.training_sets",
    "unique_together": "domain.data.expectations",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'flyball' has no attribute {name!r}; it has: {', '.join(sorted(_HOMES))}")
    value = getattr(import_module(f"flyball.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
