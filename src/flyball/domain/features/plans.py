"""What a pipeline asks for with `training_set`, checked before anything is read."""

from collections.abc import Mapping, Sequence

import msgspec

from flyball.core.durations import parse_duration
from flyball.core.errors import InvalidInputError, UnknownNameError
from flyball.domain.data.tables import ColumnRef, Table
from flyball.domain.features.labels import LabelRule, label_rule
from flyball.domain.features.views import FeatureView, RequestFeatures


class TrainingSetPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for with `training_set`."""

    spine: Table
    label: ColumnRef
    views: tuple[FeatureView, ...]
    requests: tuple[RequestFeatures, ...]
    drop: tuple[str, ...] = ()
    since: str | None = None

    @property
    def rule(self) -> LabelRule:
        """How labels are matched."""
        return label_rule(self.spine, self.label)

    @property
    def tables(self) -> list[Table]:
        """The tables that it reads, the spine first, each once."""
        tables = [self.spine, self.label.table, *(view.table for view in self.views)]
        return list({table.required_name: table for table in tables}.values())


def plan_training_set(
    spine: Table,
    *,
    label: ColumnRef,
    features: Sequence[FeatureView | RequestFeatures | Sequence[FeatureView | RequestFeatures]] = (),
    drop: Sequence[str] = (),
    since: str | None = None,
) -> TrainingSetPlan:
    """Check what was asked for; see `training_set`."""
    features = [one for given in features for one in (given if isinstance(given, list | tuple) else [given])]
    if not isinstance(spine, Table):
        raise InvalidInputError(
            f"training_set was given {spine!r} as its spine, which is no table",
            hint='Write fb.training_set(applications, label=outcomes["defaulted"]).',
        )
    if not isinstance(label, ColumnRef):
        raise InvalidInputError(
            f"training_set was given label={label!r}, which is no column of a table",
            hint=f'Write label=outcomes["{label if isinstance(label, str) else "defaulted"}"].',
        )
    for feature in features:
        if not isinstance(feature, FeatureView | RequestFeatures):
            raise InvalidInputError(
                f"training_set was given {feature!r} among its features",
                hint="Mark the function with @fb.features(table) or @fb.request_features(table).",
            )
    plan = TrainingSetPlan(
        spine=spine,
        label=label,
        views=tuple(view for view in features if isinstance(view, FeatureView)),
        requests=tuple(request for request in features if isinstance(request, RequestFeatures)),
        drop=checked_drop(drop),
        since=checked_since(since),
    )
    _require_joinable(plan)
    return plan


def _require_joinable(plan: TrainingSetPlan) -> None:
    spine = plan.spine
    features: list[FeatureView | RequestFeatures] = [*plan.views, *plan.requests]
    names = [feature.name for feature in features]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInputError(f"training_set was given {name!r} twice", hint="Give each once.")
    if plan.views and spine.time is None:
        raise InvalidInputError(
            f"feature view {plan.views[0].name!r} cannot be joined to {spine.label}, which has no time",
            hint=f"Declare time=... in fb.Table({spine.source!r}, ...).",
        )
    for request in plan.requests:
        if request.table is not spine and request.table.name != spine.name:
            raise InvalidInputError(
                f"{request.name!r} computes request features of {request.table.label}, "
                f"but the training set's rows come from {spine.label}",
                hint="Declare it with @fb.request_features(...) of that table.",
            )


def checked_since(since: str | None) -> str | None:
    """Return ``since`` if it is a duration or None; an InvalidInputError otherwise."""
    if since is not None:
        parse_duration(since, what="since of training_set")
    return since


def checked_drop(drop: Sequence[str]) -> tuple[str, ...]:
    """Return ``drop`` if it is a list of names; an InvalidInputError otherwise."""
    if isinstance(drop, str) or not all(isinstance(name, str) for name in drop):
        raise InvalidInputError(f"drop={drop!r} is not a list of columns", hint=f'Write drop=["{drop}"].')
    return tuple(drop)


def check_drop(drop: Sequence[str], columns: Sequence[str], needed: Mapping[str, str]) -> None:
    """Refuse to drop what is not there or is needed.

    Args:
        drop: The columns to drop.
        columns: The spine's columns.
        needed: Columns that cannot go, each with what it is.

    Raises:
        UnknownNameError: The spine has no such column.
        InvalidInputError: It is a key, the time or the label.
    """
    for name in drop:
        if name not in columns:
            raise UnknownNameError("column to drop", name, columns)
        if name in needed:
            raise InvalidInputError(
                f"column {name!r} cannot be dropped: it is the {needed[name]}",
                hint="Keys, times and labels are never features; just leave it out of drop.",
            )
