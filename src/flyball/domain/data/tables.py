"""What a project declares about its data: entities, tables, and references to columns."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from flyball.core.errors import InvalidInputError
from flyball.domain.data.expectations import ColumnRules, flatten, require_expectations
from flyball.domain.data.rules import Rule
from flyball.domain.data.schemas import DTYPES, DType
from flyball.storage.tables.urls import is_database, is_url, sqlite_path

if TYPE_CHECKING:
    import polars as pl

    Prepare = Callable[[pl.LazyFrame], pl.LazyFrame]

_NAME = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*")  # files and folders are named after tables


class Entity:
    """Whom or what rows are about, identified by one or more columns.

    Args:
        keys: The columns' names.

    Attributes:
        name: The variable it is assigned to in the project file; None before the project is gathered.

    Raises:
        InvalidInputError: No column is named, or one twice.
    """

    def __init__(self, *keys: str) -> None:
        self.keys = _names(keys, "Entity")
        if not self.keys:
            raise InvalidInputError(
                "an Entity needs at least one key column", hint='Write it as fb.Entity("customer_id").'
            )
        self.name: str | None = None

    def __repr__(self) -> str:
        return f"Entity({', '.join(map(repr, self.keys))})"


class Table:
    """A table where it lies: a CSV or Parquet file, a glob or folder of them, a Delta table, a database, or files.

    Nothing is read when a table is declared.

    Args:
        source: A path (a relative one starts at the project's folder), or the URL of a database:
            ``sqlite:///data/shop.db``, ``postgresql://user:${PGPASSWORD}@host/shop``, ``snowflake://...``, or
            ``adbc+DRIVER://...`` for any ADBC driver; or a topic: ``kafka://host:9092/payments``. ``${NAME}`` stands
            for an environment variable.
        entity: Whom or what the rows are about.
        time: The column that says when a row held. Text is read as ISO 8601 or by ``time_format``; without a
            zone it is UTC.
        known: The column that says when a row became known, where that is later than ``time``.
        key: The column or columns that identify a row.
        time_format: How text of ``time`` and ``known`` is written, such as ``"%m/%d/%y"``.
        time_zone: The zone of times that name none, such as ``Europe/Berlin``; UTC without it.
        nulls: Texts of a CSV file that mean that a value is missing.
        types: Types of columns of a CSV file, where their values would tell otherwise: ``{"sku": "string"}``; of a
            topic the fields of its messages that are columns.
        version: Of a Delta table: the number of the version to read, or an instant at which it was the newest.
        sql: Of a database: a table's name, or a query.
        files: Of a folder: which of its files are rows, such as ``"**/*.jpg"``.
        sensitive: Columns of which predictions may log only a keyed digest; see ``Endpoint``.
        prepare: Runs once after reading; its code belongs to the snapshot's identity.
        name: The table's name; by default the variable it is assigned to.

    Raises:
        InvalidInputError: An argument is not what it should be.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        entity: Entity | None = None,
        time: str | None = None,
        known: str | None = None,
        key: str | Sequence[str] | None = None,
        time_format: str | None = None,
        time_zone: str | None = None,
        nulls: Sequence[str] = (),
        types: Mapping[str, DType] | None = None,
        version: int | str | None = None,
        sql: str = "",
        files: str = "",
        sensitive: Sequence[str] = (),
        prepare: "Prepare | None" = None,
        name: str | None = None,
    ) -> None:
        self.source = str(source)
        self.name = name
        if not self.source:
            raise InvalidInputError("a Table needs a source", hint='Write it as fb.Table("data/sales.parquet").')
        if name and (not isinstance(name, str) or not _NAME.fullmatch(name)):
            raise InvalidInputError(
                f"{name!r} cannot name a table", hint="Use letters, digits, _ and -, beginning with a letter."
            )
        if entity is not None and not isinstance(entity, Entity):
            raise InvalidInputError(
                f"the entity of {self.label} is {entity!r}, not an Entity",
                hint='Declare one: customer = fb.Entity("customer_id").',
            )
        if prepare is not None and not callable(prepare):
            raise InvalidInputError(f"prepare of {self.label} is {prepare!r}, not a function")
        self.entity = entity
        self.time = time
        self.known = known
        self.key = _names(key, f"the key of {self.label}")
        self.time_format = time_format
        self.time_zone = time_zone
        self.nulls = _names(nulls, f"nulls of {self.label}")
        self.types = dict(types or {})
        self.sensitive = _names(sensitive, f"sensitive of {self.label}")
        self.prepare = prepare
        self.version = version
        self.sql = sql
        self.files = files
        self._check_reading()
        self._expected: tuple[Rule | ColumnRules, ...] = ()

    def _check_reading(self) -> None:
        """Refuse what says how the source is read where it cannot be meant."""
        if self.time_zone is not None and not _is_zone(self.time_zone):
            raise InvalidInputError(
                f"{self.time_zone!r}, the time_zone of {self.label}, is no time zone",
                hint="Write it as Europe/Berlin or UTC.",
            )
        for column, dtype in self.types.items():
            if dtype not in DTYPES:
                raise InvalidInputError(
                    f"{dtype!r}, the type of {column!r} in {self.label}, is none of {', '.join(DTYPES)}"
                )
        if is_database(self.source) != bool(self.sql):
            raise InvalidInputError(
                f"{self.label} needs both the URL of a database and sql=",
                hint='Write it as fb.Table("postgresql://host/shop", sql="orders"), or with a query.',
            )

    def place(self, root: Path) -> str:
        """Return the path of what the table is read from; the URL of a database that is no file."""
        if is_url(self.source):
            return str(sqlite_path(self.source, root) or self.source)
        return str(root / Path(self.source).expanduser())

    @property
    def label(self) -> str:
        """What to call the table in a sentence: its name, or its source where it has none yet."""
        return f"table {self.name!r}" if self.name else f"table at {self.source!r}"

    @property
    def required_name(self) -> str:
        """The table's name.

        Raises:
            InvalidInputError: It has none, because it is not a variable of the project file.
        """
        if not self.name:
            raise InvalidInputError(
                f"the {self.label} has no name",
                hint="Assign it to a variable of the project file, or give it name=.",
            )
        return self.name

    @property
    def required_columns(self) -> dict[str, str]:
        """The columns that the declaration relies on, each with its part: key, time or known."""
        parts = dict.fromkeys(self.entity.keys if self.entity else (), "key")
        parts.update(dict.fromkeys(self.key, "key"))
        if self.time:
            parts[self.time] = "time"
        if self.known:
            parts[self.known] = "known"
        return parts

    @property
    def expectations(self) -> tuple[Rule, ...]:
        """The single rules of what was expected, in order.

        Raises:
            InvalidInputError: A foreign key's table has no name yet.
        """
        return flatten(self._expected, of=self.label)

    @property
    def referenced(self) -> "dict[str, Table]":
        """The tables in which values of this one must occur, by their names."""
        chains = [chain for chain in self._expected if isinstance(chain, ColumnRules)]
        return {table.required_name: table for chain in chains for table in chain.referenced}

    def expect(self, *expectations: Rule | ColumnRules) -> None:
        """Add what must hold of the table's rows.

        Args:
            expectations: Made with ``fb.column(...)``, ``fb.expression(...)``, ``fb.unique_together(...)``,
                ``fb.rows_at_least(...)`` or ``fb.rows_at_most(...)``.

        Raises:
            InvalidInputError: An argument is something else, or a column without any rule.
        """
        require_expectations(expectations, of=self.label)
        self._expected += expectations

    def __getitem__(self, column: str) -> "ColumnRef":
        if not isinstance(column, str) or not column:
            raise InvalidInputError(f"{column!r} is not a column's name", hint='Write it as outcomes["defaulted"].')
        return ColumnRef(self, column)

    def __repr__(self) -> str:
        return f"Table({self.source!r}, name={self.name!r})"


class ColumnRef(msgspec.Struct, frozen=True):
    """One column of a table, as in ``outcomes["defaulted"]``."""

    table: Table
    column: str

    def __str__(self) -> str:
        return f"{self.table.name or self.table.source}.{self.column}"


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        return False
    return True


def _names(given: str | Sequence[object] | None, what: str) -> tuple[str, ...]:
    values = (given,) if isinstance(given, str) else tuple(given or ())
    for value in values:
        if not isinstance(value, str):
            raise InvalidInputError(f"{what} holds {value!r}, which is not text")
    if len(set(values)) < len(values):
        raise InvalidInputError(f"{what} names one of them twice: {', '.join(map(str, values))}")
    return tuple(str(value) for value in values)
