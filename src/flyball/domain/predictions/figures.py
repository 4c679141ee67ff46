"""The few columns of sealed predictions that monitors ask for again and again, kept in memory by file."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from flyball.domain.predictions.frames import FRAME_SCHEMA
from flyball.domain.predictions.store import Segment

WHO = "who"
"""The column that tells the entities that predictions are about apart: a number for each, null for none."""
_STORED = (
    "id",
    "at",
    "time",
    "variant",
    "version",
    "status",
    "prediction",
    "scores",
    "latency_us",
    "stage",
    "rollout",
    "shadow_of",
)
COLUMNS = (*_STORED, WHO)
EMPTY = pl.DataFrame(schema={**{name: FRAME_SCHEMA[name] for name in _STORED}, WHO: pl.UInt64()})
# The text itself would take most of the memory.
_FIGURES = (*_STORED, pl.when(pl.col("entity") != "{}").then(pl.col("entity").hash()).alias(WHO))
# About 200 bytes each.
_MOST_ROWS = 500_000


class FigureCache:
    """Reads `COLUMNS` of sealed files; files never change, so what was read once stays true.

    Args:
        root: The folder of all endpoints' predictions.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._frames: OrderedDict[str, pl.DataFrame] = OrderedDict()
        self._rows = 0
        self._lock = threading.Lock()

    def put(self, path: str, frame: pl.DataFrame) -> None:
        """Keep a file's columns; the files not asked for longest leave when there are too many rows."""
        with self._lock:
            if path not in self._frames:
                self._frames[path] = frame.select(_FIGURES)
                self._rows += frame.height
            self._frames.move_to_end(path)
            while self._rows > _MOST_ROWS and len(self._frames) > 1:
                self._rows -= self._frames.popitem(last=False)[1].height

    def forget(self, paths: Sequence[str]) -> None:
        """Drop files that are no longer named."""
        with self._lock:
            for path in paths:
                frame = self._frames.pop(path, None)
                self._rows -= 0 if frame is None else frame.height

    def read(self, segments: Sequence[Segment]) -> pl.DataFrame:
        """Return the columns of files, one file after the other."""
        frames = [self._read_one(segment.path) for segment in segments]
        return pl.concat(frames) if frames else EMPTY

    def _read_one(self, path: str) -> pl.DataFrame:
        with self._lock:
            found = self._frames.get(path)
            if found is not None:
                self._frames.move_to_end(path)
                return found
        frame = pl.read_parquet(self._root / path, columns=[*_STORED, "entity"], hive_partitioning=False)
        self.put(path, frame)
        return frame.select(_FIGURES)
