"""Every area of the protocol, in one list."""

from flyball.server.mlflow import experiments, inputs, metrics, runs, traces, versions
from flyball.server.mlflow.routing import Route

ROUTES: tuple[Route, ...] = (
    *versions.ROUTES,
    *experiments.ROUTES,
    *runs.ROUTES,
    *metrics.ROUTES,
    *inputs.ROUTES,
    *traces.ROUTES,
)
