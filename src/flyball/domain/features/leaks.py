"""Leaks: what a model would learn from that it will not have, or must not have seen, when it is asked.

Each check looks at the rows alone, so that it also finds what a step of the user's own brought in. `single_features.py`
tells how much one column says about the label, `split_leaks.py` looks at what both parts of a split share.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    import polars as pl

    from flyball.domain.data.tables import Table
    from flyball.domain.features.labels import LabelRule
    from flyball.domain.features.training_sets import TrainingSet

_MOST_ROWS = 20_000
_LEAST_ROWS = 50
_RECORDED = re.compile(r"record|updat|ingest|load|creat|insert|known|arriv|receiv|written|sync", re.IGNORECASE)
_LATE_SHARE, _EARLY_SHARE = 0.5, 0.01


class Leak(msgspec.Struct, frozen=True, kw_only=True):
    """One suspicion, to be looked at by a person.

    Attributes:
        kind: Its short name, such as ``proxy``.
        columns: The columns concerned.
        message: What was found, with figures.
        hint: What to do.
    """

    kind: str
    columns: tuple[str, ...]
    message: str
    hint: str


class SplitData(NamedTuple):
    """The two parts of a split, as the checks take them.

    Attributes:
        fit: Rows to learn from.
        held_out: Rows to test with.
        features: What a model learns from.
        label: What it learns to predict.
        keys: Columns that identify the entity or the row, and are no features.
        time: When a row was asked about.
        is_by_time: Whether the later rows are held out; otherwise random ones are.
    """

    fit: "pl.DataFrame"
    held_out: "pl.DataFrame"
    features: Sequence[str]
    label: str
    keys: Sequence[str] = ()
    time: str | None = None
    is_by_time: bool = True

    @property
    def all_rows(self) -> "pl.DataFrame":
        """Both parts, in the order of time where there is one."""
        import polars as pl

        rows = pl.concat([self.fit, self.held_out], how="vertical_relaxed")
        return rows.sort(self.time, maintain_order=True) if self.time else rows


def find_leaks(data: SplitData) -> list[Leak]:
    """Look for leaks in a split training set.

    Costs some hundred milliseconds: of large sets, some 20,000 rows are looked at.

    Returns:
        Suspicions, each kind at most once for a column. Nothing for fewer than 50 labelled rows: they prove nothing.
    """
    from flyball.domain.features.single_features import find_telling_features
    from flyball.domain.features.split_leaks import find_split_leaks

    labelled = data._replace(fit=data.fit.drop_nulls(data.label), held_out=data.held_out.drop_nulls(data.label))
    if labelled.fit.height < _LEAST_ROWS or not labelled.held_out.height:
        return []
    thin = labelled._replace(fit=_thinned(labelled.fit), held_out=_thinned(labelled.held_out))
    found = [*find_split_leaks(labelled), *find_telling_features(thin)]
    seen: dict[tuple[str, ...], Leak] = {}
    for leak in found:
        # The first explanation is the more exact one: a target encoding is not told a second time as a proxy.
        seen.setdefault(leak.columns or (leak.kind,), leak)
    return list(seen.values())


def find_leaks_of(fit: "TrainingSet", held_out: "TrainingSet", *, is_by_time: bool) -> list[Leak]:
    """Look for leaks in both parts of a training set; see `find_leaks`."""
    facts = fit.facts
    return find_leaks(
        SplitData(
            fit=fit.frame,
            held_out=held_out.frame,
            features=facts.feature_names,
            label=facts.label_name,
            keys=facts.keys,
            time=facts.time_name,
            is_by_time=is_by_time,
        )
    )


def find_table_leaks(
    tables: "Sequence[Table]", rows: "Mapping[str, pl.LazyFrame]", rule: "LabelRule | None" = None
) -> list[Leak]:
    """Look for leaks in what tables declare: rows that became known later than they count, labels that came before.

    Args:
        tables: The tables of a training set.
        rows: Their rows, by the names of the tables.
        rule: How labels are matched.
    """
    found = [leak for table in tables if table.time and not table.known for leak in _undeclared(table, rows)]
    if rule is not None and rule.table != rule.spine and rule.match == "key" and rule.spine_time and rule.label_time:
        found.extend(_early_labels(rule, rows))
    return found


def _undeclared(table: "Table", rows: "Mapping[str, pl.LazyFrame]") -> list[Leak]:
    import polars as pl

    frame, time = rows[table.required_name], str(table.time)
    found = []
    for name, dtype in frame.collect_schema().items():
        if name == time or not _RECORDED.search(name):
            continue
        if isinstance(dtype, pl.Datetime):
            instant = pl.col(name) if dtype.time_zone else pl.col(name).dt.replace_time_zone("UTC")
        elif dtype == pl.String:
            instant = pl.col(name).str.to_datetime(strict=False, time_zone="UTC", time_unit="us")
        else:
            continue
        try:
            late = frame.select(
                share=(instant > pl.col(time)).mean(),
                early=(instant < pl.col(time)).mean(),
                by=(instant - pl.col(time)).max(),
            ).collect()
        except pl.exceptions.PolarsError:  # text that holds no instants
            continue
        share, early, by = late.row(0)
        if share is not None and share >= _LATE_SHARE and early <= _EARLY_SHARE:
            found.append(
                Leak(
                    kind="known-later",
                    columns=(f"{table.required_name}.{name}",),
                    message=f"{share:.0%} of the rows of {table.required_name!r} have a {name} after their {time}, by "
                    f"up to {by}: they are used as if they had been known at {time}",
                    hint=f"Say when rows became known: fb.Table(..., time={time!r}, known={name!r}).",
                )
            )
    return found


def _early_labels(rule: "LabelRule", rows: "Mapping[str, pl.LazyFrame]") -> list[Leak]:
    import polars as pl

    asked = rows[rule.spine].select(*rule.keys, pl.col(str(rule.spine_time)).alias("asked_at"))
    told = rows[rule.table].select(*rule.keys, pl.col(str(rule.label_time)).alias("told_at"))
    both = asked.join(told, on=list(rule.keys))
    early, total = both.select((pl.col("told_at") < pl.col("asked_at")).sum(), pl.len()).collect().row(0)
    if not total or early / total <= _EARLY_SHARE:
        return []
    return [
        Leak(
            kind="label-before",
            columns=(f"{rule.table}.{rule.column}",),
            message=f"{early:,} of {total:,} labels of {rule.table!r} are older than the row that they belong to: what "
            "is to be predicted had already happened",
            hint="Correct the times, or leave out rows whose outcome was known when they were asked about.",
        )
    ]


def _thinned(frame: "pl.DataFrame") -> "pl.DataFrame":
    return frame if frame.height <= _MOST_ROWS else frame.gather_every(-(-frame.height // _MOST_ROWS))


def describe_leaks(leaks: Sequence[Leak]) -> list[dict[str, Any]]:
    """Return leaks as a run keeps them."""
    return [msgspec.to_builtins(leak) for leak in leaks]
