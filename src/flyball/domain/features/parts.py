"""Joins views whose tables do not fit into memory, part by part; all rows of an entity are in one part."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import polars as pl

from flyball.core.errors import BackendError
from flyball.domain.data.schemas import Schema
from flyball.domain.features.comparing import differing
from flyball.domain.features.histories import FeatureFunctionError, ViewHistory, compute_history
from flyball.domain.features.lateness import rows_of
from flyball.domain.features.views import FeatureView

_SAMPLED = 2_000  # rows whose entities show which columns a view has
_PART, _NUMBER = "__part", "__number"

Scratch = Callable[[], AbstractContextManager[Path]]


class EngineFailedError(BackendError):
    """A job of an engine elsewhere, such as Spark, ended with an error that is not a feature function's."""

    code = "features/engine-failed"

    def __init__(self, view: str, engine: str, reason: str) -> None:
        super().__init__(
            f"the features of view {view!r} could not be computed on {engine}: {reason}",
            hint="The engine's own log tells more; the setting engine = 'local' computes them here.",
        )


class JoinableHistory(Protocol):
    """A view's history as training sets need it; `ViewHistory` or `PartedHistory`."""

    @property
    def columns(self) -> Schema:
        """The features."""
        ...

    @property
    def key_types(self) -> pl.Schema:
        """The types of the entity's keys."""
        ...

    def join(self, spine: pl.DataFrame, *, time: str, as_of: datetime, ttl: timedelta | None = None) -> pl.DataFrame:
        """See `ViewHistory.join`."""
        ...


class Histories(Protocol):
    """Opens the histories of views somewhere else than in this process, such as on Spark."""

    def open(self, view: FeatureView, rows: pl.LazyFrame, scratch: Scratch) -> JoinableHistory:
        """Return the history of a view over all rows of its table."""
        ...


class PartedHistory:
    """The history of a view over a table of any size.

    The rows are written once into parts by the hash of their keys; then each part's history is computed, joined and
    forgotten, so that memory holds one part and the result.

    Args:
        view: The view; its function makes an entity's features from that entity's rows alone.
        rows: All rows of its table.
        parts: Into how many parts they go.
        scratch: Gives a folder for a while; it needs room for the table, uncompressed.

    Raises:
        FeatureFunctionError: The function fails, or an entity's features depend on rows of others.
        LooksAheadError: It uses later rows.
    """

    def __init__(self, view: FeatureView, rows: pl.LazyFrame, parts: int, scratch: Scratch) -> None:
        self._view = view
        self._rows = rows
        self._parts = parts
        self._scratch = scratch
        keys = list(view.keys)
        some = rows_of(rows.select(keys).drop_nulls().head(_SAMPLED).collect(), rows)
        sample = compute_history(view, some)
        half = rows_of(sample.order.select(keys).unique(maintain_order=True).gather_every(2), some)
        _require_independent(view, sample, compute_history(view, half))
        self.columns = sample.columns
        self.key_types = sample.key_types

    def join(self, spine: pl.DataFrame, *, time: str, as_of: datetime, ttl: timedelta | None = None) -> pl.DataFrame:
        """See `ViewHistory.join`."""
        keys = [pl.col(name).cast(dtype) for name, dtype in self.key_types.items()]
        part = (pl.struct(keys).hash(0) % self._parts).alias(_PART)
        asked = spine.with_row_index(_NUMBER).with_columns(part)
        found: list[pl.DataFrame] = []
        with self._scratch() as folder:
            entities = asked.lazy().select(self._view.keys).unique()
            needed = self._rows.join(entities, on=list(self._view.keys), how="semi", maintain_order="left")
            target = pl.PartitionBy(folder, key=part, include_key=False, approximate_bytes_per_file=1 << 50)
            needed.sink_parquet(target, compression="lz4", statistics=False, mkdir=True, engine="streaming")
            for (number,), questions in asked.group_by(_PART):
                files = sorted((folder / f"{_PART}={number}").glob("*.parquet"))
                if files:
                    rows = pl.scan_parquet(files, hive_partitioning=False)
                    answers = answer_part(
                        self._view, rows, questions.drop(_PART, _NUMBER), self.columns, time=time, as_of=as_of, ttl=ttl
                    )
                    found.append(answers.hstack([questions.get_column(_NUMBER)]))
                for file in files:
                    file.unlink()
        if not found:
            return pl.DataFrame(schema=self.columns.to_polars()).clear(spine.height)
        answered = asked.lazy().select(_NUMBER).join(pl.concat(found).lazy(), on=_NUMBER, how="left").sort(_NUMBER)
        return answered.select(self.columns.names).collect()


def answer_part(
    view: FeatureView,
    rows: pl.LazyFrame,
    questions: pl.DataFrame,
    columns: Schema,
    *,
    time: str,
    as_of: datetime,
    ttl: timedelta | None,
) -> pl.DataFrame:
    """Return the features that some entities' rows give to questions about these entities. See `ViewHistory.join`."""
    return compute_history(view, rows).join(questions, time=time, as_of=as_of, ttl=ttl).cast(columns.to_polars())


def _require_independent(view: FeatureView, all_: ViewHistory, some: ViewHistory) -> None:
    at = [*view.keys, view.time]
    one, other = some.until(), all_.until()
    features = some.columns.names
    if (
        not set(features) <= set(other.columns)
        or differing(one, other, at=at, features=features).head(1).collect().height
    ):
        raise FeatureFunctionError(
            view.name,
            f"makes an entity's features from rows of other entities, but {view.table.label} is too large to be taken "
            "as a whole",
            hint="Compute each entity's features from its own rows, with .over(...) or group_by the keys.",
        )
