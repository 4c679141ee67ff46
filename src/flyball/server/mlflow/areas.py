"""Every area of the protocol, in one list."""

from flyball.server.mlflow import (
    artifacts,
    experiments,
    inputs,
    logged_models,
    metrics,
    model_versions,
    multipart,
    packages,
    registered_models,
    runs,
    traces,
    versions,
    webhooks,
)
from flyball.server.mlflow.routing import Route

ROUTES: tuple[Route, ...] = (
    *versions.ROUTES,
    *experiments.ROUTES,
    *runs.ROUTES,
    *metrics.ROUTES,
    *inputs.ROUTES,
    *traces.ROUTES,
    *registered_models.ROUTES,
    *model_versions.ROUTES,
    *packages.ROUTES,
    *logged_models.ROUTES,
    *webhooks.ROUTES,
    *artifacts.ROUTES,
    *multipart.ROUTES,
)
