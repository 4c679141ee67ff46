"""Puts a training set together from its parts; pure functions on frames."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from flyball.core.durations import format_instant, parse_duration
from flyball.core.errors import InvalidInputError, UnknownNameError
from flyball.domain.data.schemas import Schema
from flyball.domain.features.labels import LabelRule
from flyball.domain.features.matching import label_rows
from flyball.domain.features.parts import JoinableHistory
from flyball.domain.features.plans import TrainingSetPlan, check_drop
from flyball.domain.features.requests import (
    ColumnClashError,
    added_columns,
    check_rows_are_independent,
    claim_columns,
)
from flyball.domain.features.training_sets import TrainingLineage, TrainingSet, TrainingSetFacts
from flyball.domain.features.views import FeatureView


class EmptyTrainingSetError(InvalidInputError):
    """No row has a label, so there is nothing to learn from."""

    code = "features/empty-training-set"

    def __init__(self, plan: TrainingSetPlan, rows: int, as_of: datetime) -> None:
        since = f" in the last {plan.since}" if plan.since else ""
        super().__init__(
            f"no row of {plan.spine.label} has a label in {plan.label} that was known at "
            f"{format_instant(as_of)}{since}; the table has {rows:,} rows then",
            hint="Compare the keys and times of the two tables, or wait until labels arrive.",
        )


def assemble(
    plan: TrainingSetPlan,
    *,
    spine: pl.LazyFrame,
    labels: pl.LazyFrame,
    histories: Mapping[str, JoinableHistory],
    lineage: TrainingLineage,
) -> TrainingSet:
    """Build a training set.

    Args:
        plan: What was asked for.
        spine: The spine's rows that were known at ``lineage.as_of``.
        labels: The label table's rows that were known then.
        histories: The history of each view of the plan.
        lineage: Where all of it comes from; it becomes the training set's.

    Raises:
        UnknownNameError: ``label`` or ``drop`` names no column.
        EmptyTrainingSetError: No row has a label.
        ColumnClashError: Two sources give a column of one name.
        FeatureFunctionError: A request feature function does not keep to its contract.
    """
    rule = plan.rule
    names = spine.collect_schema().names()
    _check_columns(plan, rule, names, labels.collect_schema().names())
    carried = _carried(plan, rule, names)
    rows = _labelled(plan, rule, spine, labels, carried, lineage.as_of)
    base = rows.select(carried)
    keys = _keys(plan, carried)
    origins = dict.fromkeys(keys, "the keys") | {rule.column: f"the label {plan.label}"}
    if plan.spine.time:
        origins[plan.spine.time] = "the time"
    reserved = set(origins)
    claim_columns(origins, [name for name in carried if name not in reserved], plan.spine.label)
    parts = [base]
    for view in plan.views:
        history = histories[view.name]
        claim_columns(origins, history.columns.names, f"feature view {view.name!r}")
        parts.append(_joined(view, history, base, plan, lineage.as_of))
    for request in plan.requests:
        parts.append(added_columns(request, base))
        claim_columns(origins, parts[-1].columns, f"request features {request.name!r}")
    check_rows_are_independent(plan.requests, base)
    features = {column: origin for column, origin in origins.items() if column not in reserved}
    if not features:
        raise InvalidInputError(
            f"the training set of {plan.spine.label} has no features: it has only keys, times and the label",
            hint="Give it features=[...], or drop less.",
        )
    facts = TrainingSetFacts(
        feature_names=tuple(features),
        label_name=rule.column,
        keys=tuple(keys),
        time_name=plan.spine.time,
        origins=features,
        request_schema=_request_schema(base, keys, plan.spine.time),
        lineage=lineage,
    )
    return TrainingSet(pl.concat([*parts, rows.select(rule.column)], how="horizontal"), facts)


def _carried(plan: TrainingSetPlan, rule: LabelRule, names: Sequence[str]) -> list[str]:
    """Return the spine's columns that the training set has: not its label, nor when a row became known."""
    left_out = {*plan.drop, *([rule.column] if rule.match == "row" else [])}
    if plan.spine.known not in (None, plan.spine.time):
        left_out.add(str(plan.spine.known))
    return [name for name in names if name not in left_out]


def _check_columns(plan: TrainingSetPlan, rule: LabelRule, spine: Sequence[str], labels: Sequence[str]) -> None:
    if rule.column not in labels:
        raise UnknownNameError(f"column of {plan.label.table.label}", rule.column, labels)
    needed = dict.fromkeys((*(plan.spine.entity.keys if plan.spine.entity else ()), *plan.spine.key), "key")
    if plan.spine.time:
        needed[plan.spine.time] = "time"
    if rule.match == "row":
        needed[rule.column] = "label"
    for view in plan.views:
        for key in view.keys:
            if key not in spine:
                raise InvalidInputError(
                    f"feature view {view.name!r} cannot be joined to {plan.spine.label}, which has no column {key!r}",
                    hint=f"Add it to the table, or leave {view.name} out of the training set.",
                )
            needed.setdefault(key, f"key of feature view {view.name!r}")
    check_drop(plan.drop, spine, needed)
    if rule.match != "row" and rule.column in spine and rule.column not in plan.drop:
        raise ColumnClashError(rule.column, plan.spine.label, f"the label {plan.label}")


def _labelled(
    plan: TrainingSetPlan,
    rule: LabelRule,
    spine: pl.LazyFrame,
    labels: pl.LazyFrame,
    carried: Sequence[str],
    as_of: datetime,
) -> pl.DataFrame:
    kept = list(dict.fromkeys([*carried, *([rule.known] if rule.match == "row" and rule.known else [])]))
    own = [rule.column] if rule.match == "row" else []
    rows = label_rows(spine.select(*kept, *own), labels, rule, as_of=as_of)
    time = plan.spine.time
    if time is not None:
        if plan.since is not None:
            newest = spine.select(pl.col(time).max()).collect().item()
            if newest is not None:
                rows = rows.filter(pl.col(time) > newest - parse_duration(plan.since))
        rows = rows.sort(time, maintain_order=True)
    elif plan.since is not None:
        raise InvalidInputError(
            f"since={plan.since!r} needs times, but {plan.spine.label} has none",
            hint=f"Declare time=... in fb.Table({plan.spine.source!r}, ...), or leave since out.",
        )
    rows = rows.select(*carried, rule.column)
    found = rows.cast(Schema.of(rows).to_polars()).collect()
    if not found.height:
        raise EmptyTrainingSetError(plan, spine.select(pl.len()).collect().item(), as_of)
    return found


def _keys(plan: TrainingSetPlan, carried: Sequence[str]) -> list[str]:
    named = {*(plan.spine.entity.keys if plan.spine.entity else ()), *plan.spine.key}
    named.update(key for view in plan.views for key in view.keys)
    return [name for name in carried if name in named and name != plan.spine.time]


def _joined(
    view: FeatureView, history: JoinableHistory, base: pl.DataFrame, plan: TrainingSetPlan, as_of: datetime
) -> pl.DataFrame:
    for key in view.keys:
        if history.key_types[key] != base.schema[key]:
            raise InvalidInputError(
                f"feature view {view.name!r} cannot be joined to {plan.spine.label}: {key!r} is "
                f"{history.key_types[key]} in the one and {base.schema[key]} in the other",
                hint=f"Convert it in the prepare= function of one of the tables, such as "
                f'rows.with_columns(pl.col("{key}").cast(pl.String)).',
            )
    assert plan.spine.time is not None
    spine = base.select(*dict.fromkeys((*view.keys, plan.spine.time)))
    return history.join(spine, time=plan.spine.time, as_of=as_of, ttl=view.ttl)


def _request_schema(base: pl.DataFrame, keys: Sequence[str], time: str | None) -> Schema:
    nulls = base.null_count().row(0, named=True)
    nullable = {name: name == time or (name not in keys and count > 0) for name, count in nulls.items()}
    return Schema.of(base, nullable=nullable)
