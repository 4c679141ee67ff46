"""Keeps the online rows of a project's views up to date, whether or not a model uses them."""

import logging
from collections.abc import Iterable
from contextlib import suppress

from flyball.core.clock import monotonic_s
from flyball.core.errors import BackendUnavailableError, FlyballError
from flyball.domain.features.materialising import MaterialisationRunningError
from flyball.domain.features.service import FeatureService
from flyball.domain.features.views import FeatureView

_PAUSE_S = 30.0
"""For how long a view that failed is left alone: it would fail again, after as much work."""
_UNAVAILABLE_PAUSE_S = 2.0
_RETIRE_EVERY_S = 3_600.0
_log = logging.getLogger("flyball.loop")


class Upkeep:
    """What the loop does for features besides those of its models.

    Args:
        features: Materialises.
        views: The project's.
    """

    def __init__(self, features: FeatureService, views: Iterable[FeatureView]) -> None:
        self._features = features
        self._views = list(views)
        self._paused: dict[str, float] = {}
        self._told: dict[str, str] = {}
        self._retired_s: float | None = None

    def turn(self) -> None:
        """Bring every view up to now; one that fails is told of once, and holds up no other."""
        for view in self._views:
            if monotonic_s() < self._paused.get(view.name, 0.0):
                continue
            try:
                self._features.materialise(view, actor="loop")
                self._told.pop(view.name, None)
            except MaterialisationRunningError:
                pass  # by another process, which does the same
            except BackendUnavailableError as error:
                self._paused[view.name] = monotonic_s() + _UNAVAILABLE_PAUSE_S
                self._tell(view.name, error)
            except FlyballError as error:
                self._paused[view.name] = monotonic_s() + _PAUSE_S
                self._tell(view.name, error)
        if self._retired_s is None or monotonic_s() - self._retired_s > _RETIRE_EVERY_S:
            self._retired_s = monotonic_s()
            with suppress(BackendUnavailableError):  # an hour later it is done
                self._features.retire(actor="loop")

    def _tell(self, view: str, error: FlyballError) -> None:
        # Messages of one kind may differ in how long ago something was.
        if self._told.get(view) != error.code:
            self._told[view] = error.code
            _log.warning("the feature view %r is not brought up to date: %s: %s", view, error.code, error.message)
