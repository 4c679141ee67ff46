"""What an operation may use while a run executes it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from flyball.core.errors import PluginError
from flyball.domain.pipelines.store import Note

S = TypeVar("S")


class ServiceMissingError(PluginError):
    """An operation needs a service that nobody wired."""

    code = "pipelines/service-missing"

    def __init__(self, wanted: type) -> None:
        super().__init__(
            f"an operation needs {wanted.__qualname__}, which this run does not have",
            hint="Run the pipeline through a workspace, with: flyball run NAME",
        )


class RunContext:
    """Implements `OperationContext`.

    Args:
        run_id: The run.
        as_of: Nothing that became known later may be used.
        actor: Who or what asked for the run.
        services: Wired services by type.

    Attributes:
        notes: What was noted so far.
    """

    def __init__(self, run_id: str, as_of: datetime, actor: str, services: Mapping[type, Any]) -> None:
        self._run_id = run_id
        self._as_of = as_of
        self._actor = actor
        self._services = services
        self.notes: list[Note] = []

    @property
    def run_id(self) -> str:
        """See `OperationContext.run_id`."""
        return self._run_id

    @property
    def as_of(self) -> datetime:
        """See `OperationContext.as_of`."""
        return self._as_of

    @property
    def actor(self) -> str:
        """See `OperationContext.actor`."""
        return self._actor

    def service(self, type_: type[S]) -> S:
        """See `OperationContext.service`.

        Raises:
            ServiceMissingError: No such service is wired.
        """
        if type_ in self._services:
            exact: S = self._services[type_]
            return exact
        for service in self._services.values():
            if isinstance(service, type_):
                return service
        raise ServiceMissingError(type_)

    def note(self, kind: str, value: Any) -> None:
        """See `OperationContext.note`.

        Raises:
            TypeError: The value is not JSON.
        """
        self.notes.append(Note(kind, msgspec.to_builtins(value)))
