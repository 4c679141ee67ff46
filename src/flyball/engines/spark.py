"""Spark: the features of training sets, computed where a cluster has the room.

A view's function stays as it is, written for Polars: Spark brings all rows of an entity, and what is asked of it, to
one place, and there the same code runs that runs on a laptop. So both say the same by construction.
"""

import os
import sys
import warnings
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import polars as pl
import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema

from flyball.core.pickling import project_by_value
from flyball.domain.data.schemas import Schema
from flyball.domain.features.parts import EngineFailedError, PartedHistory, Scratch, answer_part
from flyball.domain.features.views import FeatureView

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_PART, _ROW, _NUMBER = "__part", "__row", "__number"
# Spark knows no unsigned numbers, no categories and no nanoseconds; these hold every value of theirs.
_STAGED: dict[Any, Any] = {
    pl.UInt8: pl.Int16,
    pl.UInt16: pl.Int32,
    pl.UInt32: pl.Int64,
    pl.UInt64: pl.Decimal(20, 0),
    pl.Time: pl.Int64,
    pl.Duration: pl.Int64,
    pl.Categorical: pl.String,
    pl.Enum: pl.String,
}


class SparkHistories:
    """Opens histories that are joined on Spark.

    Args:
        conf: Spark's own settings, such as ``spark.master``; by default those of the environment, or all cores of this
            machine.
        parts: Into how many parts entities go; by default Spark's own number of shuffle partitions.
    """

    def __init__(self, conf: Mapping[str, str], parts: int | None = None) -> None:
        self._conf = dict(conf)
        self._parts = parts
        self._session: SparkSession | None = None

    def open(self, view: FeatureView, rows: pl.LazyFrame, scratch: Scratch) -> "SparkHistory":
        """Return the history of a view over the rows of its table. See `PartedHistory` for what is raised."""
        return SparkHistory(view, rows, self._parts or 0, scratch, self.session())

    def session(self) -> SparkSession:
        """Return the session; the first call starts it."""
        if self._session is None:
            # Workers on this machine run in the environment that this process runs in.
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
            builder = SparkSession.builder.appName("flyball")
            settings = {
                "spark.sql.session.timeZone": "UTC",
                "spark.ui.enabled": "false",
                "spark.ui.showConsoleProgress": "false",
                "spark.sql.execution.arrow.pyspark.enabled": "true",
            }
            elsewhere = {"SPARK_HOME", "SPARK_CONF_DIR", "SPARK_REMOTE"} & set(os.environ)
            if self._conf.get("spark.master", "" if elsewhere else "local[*]").startswith("local"):
                settings |= {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
            for name, value in (settings | self._conf).items():
                builder = builder.config(name, value)
            session: SparkSession = builder.getOrCreate()
            session.sparkContext.setLogLevel("ERROR")
            self._session = session
        return self._session


class SparkHistory(PartedHistory):
    """Implements `JoinableHistory` with a job of Spark: parts are joined side by side, wherever Spark has room.

    Args:
        view: The view; its function makes an entity's features from that entity's rows alone.
        rows: All rows of its table.
        parts: Into how many parts they go; 0 for Spark's number of shuffle partitions.
        scratch: Gives a folder for a while, which Spark's workers must be able to read.
        session: Spark.

    Raises:
        FeatureFunctionError: The function fails, or an entity's features depend on rows of others.
        LooksAheadError: It uses later rows.
    """

    def __init__(
        self, view: FeatureView, rows: pl.LazyFrame, parts: int, scratch: Scratch, session: SparkSession
    ) -> None:
        chosen = parts or int(session.conf.get("spark.sql.shuffle.partitions", "200") or 200)
        super().__init__(view, rows, chosen, scratch)
        self._session = session

    def join(self, spine: pl.DataFrame, *, time: str, as_of: datetime, ttl: timedelta | None = None) -> pl.DataFrame:
        """See `ViewHistory.join`."""
        asked = spine.cast(dict(self.key_types)).with_row_index(_NUMBER)  # type: ignore[arg-type]
        columns: dict[Any, Any] = dict(self.columns.to_polars())
        with self._scratch() as folder, project_by_value():
            row_types = stage(self._rows.with_row_index(_ROW), folder / "rows.parquet")
            asked_types = stage(asked.lazy(), folder / "asked.parquet")
            job = Part(cloudpickle.dumps(self._view), row_types, asked_types, self.columns, time, as_of, ttl)
            answer: Any = {_NUMBER: pl.Int64(), **{name: _staged(dtype) for name, dtype in columns.items()}}
            empty = _as_spark_writes(pl.DataFrame(schema=answer).to_arrow())
            rows = self._parted(str(folder / "rows.parquet"), drop_null_keys=True)
            questions = self._parted(str(folder / "asked.parquet"), drop_null_keys=True)
            found = self._collect(job, questions, rows, from_arrow_schema(empty.schema))
        answers = pl.DataFrame(pl.from_arrow(found)).cast({_NUMBER: pl.UInt32} | columns)
        numbered = asked.lazy().select(pl.col(_NUMBER).cast(pl.UInt32))
        return numbered.join(answers.lazy(), on=_NUMBER, how="left").sort(_NUMBER).select(self.columns.names).collect()

    def _collect(self, job: "Part", questions: "DataFrame", rows: "DataFrame", schema: Any) -> "pa.Table":
        try:
            with warnings.catch_warnings():
                # Spark asks for an old pandas wherever it calls Python; nothing here is ever made one of its frames.
                warnings.simplefilter("ignore", FutureWarning)
                pairs = questions.groupBy(_PART).cogroup(rows.groupBy(_PART))
                # Spark counts a function's parameters to tell what it wants, and takes an object's ``self`` for one.
                return pairs.applyInArrow(lambda asked, rows: job(asked, rows), schema).toArrow()
        except PySparkException as error:
            raise EngineFailedError(self._view.name, "Spark", _reason(error)) from error

    def _parted(self, path: str, *, drop_null_keys: bool) -> "DataFrame":
        keys = [sf.col(name) for name in self._view.keys]
        frame = self._session.read.parquet(path)
        if drop_null_keys:
            frame = frame.dropna(subset=list(self._view.keys))
        return frame.withColumn(_PART, sf.pmod(sf.hash(*keys), sf.lit(self._parts)))


class Part:
    """What a worker of Spark does: the questions about some entities and these entities' rows, to answers."""

    def __init__(
        self,
        view: bytes,
        rows: Mapping[str, pl.DataType],
        asked: Mapping[str, pl.DataType],
        columns: Schema,
        time: str,
        as_of: datetime,
        ttl: timedelta | None,
    ) -> None:
        self._view = view
        self._rows = rows
        self._asked = asked
        self._columns = columns
        self._time = time
        self._as_of = as_of
        self._ttl = ttl

    def __call__(self, asked: "pa.Table", rows: "pa.Table") -> "pa.Table":
        """Answer the questions of one part."""
        view: FeatureView = cloudpickle.loads(self._view)
        columns = self._columns.to_polars()
        questions = _unstage(asked, self._asked).sort(_NUMBER)
        numbers = questions.get_column(_NUMBER).cast(pl.Int64)
        if rows.num_rows and questions.height:
            own = _unstage(rows, self._rows).sort(_ROW).drop(_ROW).lazy()
            asking = questions.drop(_NUMBER)
            answers = answer_part(view, own, asking, self._columns, time=self._time, as_of=self._as_of, ttl=self._ttl)
        else:
            answers = pl.DataFrame(schema=columns).clear(questions.height)
        staged = answers.cast({name: _staged(dtype) for name, dtype in columns.items()})
        return _as_spark_writes(staged.select(numbers.alias(_NUMBER), pl.all()).to_arrow())


def stage(rows: pl.LazyFrame, path: Path) -> dict[str, pl.DataType]:
    """Write rows as Parquet that Spark reads without changing a value, and return the types that they had."""
    types = dict(rows.collect_schema())
    rows.cast({name: _staged(dtype) for name, dtype in types.items()}).sink_parquet(path, compression="lz4")
    return types


def _staged(dtype: pl.DataType) -> Any:
    if isinstance(dtype, pl.Datetime):
        return pl.Datetime("us", "UTC" if dtype.time_zone else None)
    return _STAGED.get(dtype.base_type(), dtype)


def _unstage(table: "pa.Table", types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    frame = pl.DataFrame(pl.from_arrow(table)).select(list(types))
    return frame.with_columns(_restored(name, dtype) for name, dtype in types.items())


def _restored(name: str, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return pl.col(name).dt.convert_time_zone(dtype.time_zone).cast(dtype)
    return pl.col(name).cast(dtype)


def _as_spark_writes(table: "pa.Table") -> "pa.Table":
    """Return a table of Polars with text as Spark wants it: offsets of 32 bits."""
    fields = [field.with_type(pa.string()) if pa.types.is_large_string(field.type) else field for field in table.schema]
    return table.cast(pa.schema(fields))


def _reason(error: Exception) -> str:
    """Return the line of Spark's long report that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    own = [line for line in lines if line.startswith("flyball.") or "Error:" in line]
    return (own or lines or [type(error).__name__])[-1][:300]
