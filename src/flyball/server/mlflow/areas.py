"""Every area of the protocol, in one list."""

from flyball.server.mlflow import versions
from flyball.server.mlflow.routing import Route

ROUTES: tuple[Route, ...] = (*versions.ROUTES,)
