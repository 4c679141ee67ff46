"""Models in memory within a budget: the least recently used leave, and come back when somebody asks them."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from flyball.core.clock import monotonic_s
from flyball.domain.registry.runtimes import ArrayForm, EachForm, Predictor, array_form, each_form
from flyball.domain.serving.loads import LoadRecord

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    Array = np.ndarray[Any, Any]

_MOST_KEPT = 1_000


class ShelvedPredictor:
    """Implements `Predictor` with a model that may leave the memory between two calls; made by `Shelf.keep`.

    Attributes:
        ref: The version.
        size_bytes: What it counts in the budget.
        used_s: When it was last asked, by `monotonic_s`.
        inner: The model; None while it is not in memory.
        predict_array: See `array_form`; None where the model has none.
        predict_each: See `each_form`; None where the model has none.
    """

    def __init__(self, shelf: "Shelf", ref: str, size_bytes: int, load: Callable[[], Predictor]) -> None:
        self.ref = ref
        self.size_bytes = size_bytes
        self.load = load
        self.used_s = monotonic_s()
        self.inner: Predictor | None = load()
        self._shelf = shelf
        self.predict_array: ArrayForm | None = self._predict_array if array_form(self.inner) else None
        self.predict_each: EachForm | None = self._predict_each if each_form(self.inner) else None

    @property
    def is_away(self) -> bool:
        """Whether the next call must bring the model into memory first."""
        return self.inner is None

    def predict(self, frame: "pl.DataFrame") -> "Array":
        """See `Predictor.predict`."""
        return self._take().predict(frame)

    def _predict_array(self, rows: "Array") -> "Array":
        form = array_form(self._take())
        assert form is not None  # it had one when it was first loaded, and its package never changes
        return form(rows)

    def _predict_each(self, frame: "pl.DataFrame") -> Iterator["Array"]:
        form = each_form(self._take())
        assert form is not None  # as above
        return form(frame)

    def _take(self) -> Predictor:
        self.used_s = monotonic_s()
        return self.inner or self._shelf.bring(self)


class Shelf:
    """Keeps the models of one process within a budget. Safe to call from several threads.

    The model that is asked is always there: one that is larger than the budget is alone on the shelf.

    Args:
        budget_bytes: So large may the files of all models in memory be.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._kept: list[ShelvedPredictor] = []
        self._lock = threading.RLock()
        self._records: deque[LoadRecord] = deque(maxlen=_MOST_KEPT)
        self._tell: Callable[[], object] = lambda: None

    def when_one_leaves(self, tell: Callable[[], object]) -> None:
        """Let somebody be told, in the thread that makes room, that a model left."""
        self._tell = tell

    def keep(self, ref: str, size_bytes: int, load: Callable[[], Predictor]) -> Predictor:
        """Load a model and return it, such that it may leave and come back.

        Args:
            ref: The version.
            size_bytes: How large its files are.
            load: Brings it into memory.
        """
        made = ShelvedPredictor(self, ref, size_bytes, load)
        with self._lock:
            self._kept.append(made)
            self._make_room(made)
        return made

    def bring(self, predictor: ShelvedPredictor) -> Predictor:
        """Return a model that had left; raises what loading it raises."""
        with self._lock:
            if predictor.inner is not None:
                return predictor.inner
            begun_s = monotonic_s()
            has_failed = True
            try:
                found = predictor.inner = predictor.load()
                has_failed = False
            finally:
                took_s = monotonic_s() - begun_s
                self._records.append(LoadRecord(version=predictor.ref, duration_s=took_s, has_failed=has_failed))
            if predictor not in self._kept:
                self._kept.append(predictor)
            self._make_room(predictor)
            return found

    def take_records(self) -> list[LoadRecord]:
        """Return which models came back since the last call."""
        found = []
        while self._records:
            found.append(self._records.popleft())
        return found

    def _make_room(self, newest: ShelvedPredictor) -> None:
        used = sum(kept.size_bytes for kept in self._kept)
        for oldest in sorted(self._kept, key=lambda kept: kept.used_s):
            if used <= self._budget_bytes:
                break
            if oldest is not newest:
                self._kept.remove(oldest)
                oldest.inner = None
                used -= oldest.size_bytes
                self._tell()
