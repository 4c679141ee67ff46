"""Training sets: how a pipeline asks for one, and what its steps get. Loads no dataframe library by itself."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from flyball.core.encoding import from_json, to_json
from flyball.core.files import write_bytes, writing
from flyball.domain.data.recording import OperationContext, record
from flyball.domain.data.schemas import Schema
from flyball.domain.data.tables import ColumnRef, Table
from flyball.domain.features.labels import LabelRule
from flyball.domain.features.leaks import Leak, find_leaks_of
from flyball.domain.features.plans import TrainingSetPlan, checked_drop, checked_since, plan_training_set
from flyball.domain.features.splits import parse_test, split_rows
from flyball.domain.features.views import FeatureView, RequestFeatures

if TYPE_CHECKING:
    import polars as pl

_FRAME, _FACTS = "frame.arrow", "facts.json"


class ViewRef(NamedTuple):
    """A feature view as a model uses it: what an online read needs to know.

    Attributes:
        name: The view's name.
        version: The version of its code and declaration.
        ttl: For how long a row counts after its time; None for ever.
        keys: The entity's key columns, in the order of the view.
    """

    name: str
    version: str
    ttl: timedelta | None
    keys: tuple[str, ...]


class TrainingLineage(msgspec.Struct, frozen=True, kw_only=True):
    """Where a training set comes from.

    Attributes:
        spine: The table whose rows it has.
        snapshots: The snapshot of each table that went into it.
        views: The version of each feature view.
        ttls: For how long rows of each view count; None for ever.
        view_keys: The entity's keys of each view.
        request_features: The code digest of each function over request fields.
        label_rule: How labels were matched.
        as_of: Nothing that became known later is in it.
        since: Only this last part of the history was asked for.
        quarantined: How many rows of each table were left out by its expectations.
    """

    spine: str
    snapshots: dict[str, str]
    views: dict[str, str]
    ttls: dict[str, timedelta | None]
    view_keys: dict[str, tuple[str, ...]]
    request_features: dict[str, str]
    label_rule: LabelRule
    as_of: datetime
    since: str | None = None
    quarantined: dict[str, int] = {}

    @property
    def view_refs(self) -> list[ViewRef]:
        """The feature views as `FeatureService.complete` takes them."""
        return [ViewRef(name, version, self.ttls[name], self.view_keys[name]) for name, version in self.views.items()]


class TrainingSetFacts(msgspec.Struct, frozen=True, kw_only=True):
    """All of a training set but its rows.

    Attributes:
        feature_names: The columns that a model learns from, in the order in which it takes them.
        label_name: The column that it learns to predict.
        keys: Entity and key columns: they identify a row and are no features.
        time_name: The column that says when a row was asked about.
        origins: Which table, feature view or function each feature comes from.
        request_schema: The fields that a live request carries; keys and the spine's own features. The time is among
            them, may be null and then means now.
        lineage: Where it comes from.
        part: Which part of a split it is, in words; empty for the whole.
        leaks: What was found that a model should not learn from.
    """

    feature_names: tuple[str, ...]
    label_name: str
    keys: tuple[str, ...]
    time_name: str | None
    origins: dict[str, str]
    request_schema: Schema
    lineage: TrainingLineage
    part: str = ""
    leaks: tuple[Leak, ...] = ()


class TrainingSet:
    """Labelled rows with their features as they were known, oldest first.

    Attributes:
        frame: The rows: keys, time, features and label.
        facts: What the columns are and where they come from.
    """

    def __init__(self, frame: "pl.DataFrame", facts: TrainingSetFacts) -> None:
        self.frame = frame
        self.facts = facts

    @property
    def X(self) -> "pl.DataFrame":  # noqa: N802 - the name that every reader of scikit-learn knows
        """The features, ``(n_rows, n_features)``."""
        return self.frame.select(self.facts.feature_names)

    @property
    def y(self) -> "pl.Series":
        """The labels, ``(n_rows,)``."""
        return self.frame.get_column(self.facts.label_name)

    @property
    def feature_names(self) -> list[str]:
        """See `TrainingSetFacts.feature_names`."""
        return list(self.facts.feature_names)

    @property
    def label_name(self) -> str:
        """See `TrainingSetFacts.label_name`."""
        return self.facts.label_name

    @property
    def keys(self) -> list[str]:
        """See `TrainingSetFacts.keys`."""
        return list(self.facts.keys)

    @property
    def time_name(self) -> str | None:
        """See `TrainingSetFacts.time_name`."""
        return self.facts.time_name

    @property
    def lineage(self) -> TrainingLineage:
        """See `TrainingSetFacts.lineage`."""
        return self.facts.lineage

    @property
    def request_schema(self) -> Schema:
        """See `TrainingSetFacts.request_schema`."""
        return self.facts.request_schema

    def filter(self, *predicates: Any) -> "TrainingSet":
        """Return the rows for which Polars predicates hold."""
        return self.with_rows(self.frame.filter(*predicates), part=self.facts.part)

    def with_rows(self, frame: "pl.DataFrame", *, part: str) -> "TrainingSet":
        """Return a training set with other rows of the same columns."""
        return TrainingSet(frame, msgspec.structs.replace(self.facts, part=part))

    def with_leaks(self, leaks: tuple[Leak, ...]) -> "TrainingSet":
        """Return the same rows with what was found in them."""
        return TrainingSet(self.frame, msgspec.structs.replace(self.facts, leaks=leaks))

    def __len__(self) -> int:
        return int(self.frame.height)

    def __repr__(self) -> str:
        part = f" ({self.facts.part})" if self.facts.part else ""
        return (
            f"<training set of {self.lineage.spine}{part}: {len(self):,} rows, "
            f"{len(self.facts.feature_names)} features, label {self.label_name}>"
        )

    def save(self, folder: Path) -> None:
        """Write ``frame.arrow`` (Arrow IPC, for memory mapping) and ``facts.json`` into a folder."""
        with writing(folder / _FRAME, durable=False) as file:
            self.frame.write_ipc(file, compression="uncompressed")
        write_bytes(folder / _FACTS, to_json(self.facts, indent=2), durable=False)

    @classmethod
    def load(cls, folder: Path) -> "TrainingSet":
        """Open what `save` wrote; the rows stay in the file until they are used.

        Raises:
            InvalidInputError: The facts are not such a file.
        """
        import polars as pl

        facts = from_json((folder / _FACTS).read_bytes(), TrainingSetFacts, what="training set's facts")
        return cls(pl.read_ipc(folder / _FRAME), facts)


class TrainingSetOperation:
    """Builds a training set when a run reaches it."""

    name = "training_set"
    outputs = 1

    def __init__(self, plan: TrainingSetPlan) -> None:
        self.plan = plan

    def identity(self, context: OperationContext) -> str:
        """See `Operation.identity`: snapshots, versions of views and functions, expectations and the label rule."""
        from flyball.domain.features.service import FeatureService  # it loads Polars

        return context.service(FeatureService).identify(self.plan, as_of=context.as_of, actor=context.actor)

    def run(self, context: OperationContext, inputs: Mapping[str, Any]) -> TrainingSet:
        """See `Operation.run`; notes each snapshot and view to the run."""
        from flyball.domain.features.service import FeatureService

        plan = msgspec.structs.replace(
            self.plan,
            since=checked_since(inputs.get("since", self.plan.since)),
            drop=checked_drop(inputs.get("drop", self.plan.drop)),
        )
        data = context.service(FeatureService).build_training_set(plan, as_of=context.as_of, actor=context.actor)
        for table, snapshot in data.lineage.snapshots.items():
            context.note("snapshot", {"table": table, "snapshot": snapshot})
        for view, version in data.lineage.views.items():
            context.note("view", {"view": view, "version": version})
        for leak in data.facts.leaks:
            context.note("leak", leak)
        context.note("training_set", {"rows": len(data), "quarantined": data.lineage.quarantined})
        return data


class SplitOperation:
    """Divides a training set when a run reaches it."""

    name = "split"
    outputs = 2

    def identity(self, context: OperationContext) -> str:
        """See `Operation.identity`: the inputs say everything."""
        return "split/2"

    def run(self, context: OperationContext, inputs: Mapping[str, Any]) -> tuple[TrainingSet, TrainingSet]:
        """See `Operation.run`; notes each leak to the run."""
        parts = split_rows(inputs["data"], inputs["test"], seed=inputs["seed"])
        found = find_leaks_of(*parts, is_by_time=not parse_test(inputs["test"]).is_random)
        for leak in found:
            context.note("leak", leak)
        known = {(leak.kind, leak.columns): leak for leak in (*inputs["data"].facts.leaks, *found)}
        fit, held_out = (part.with_leaks(tuple(known.values())) for part in parts)
        return fit, held_out


def training_set(
    spine: Table,
    *,
    label: ColumnRef,
    features: Sequence[FeatureView | RequestFeatures | Sequence[FeatureView | RequestFeatures]] = (),
    drop: Sequence[str] = (),
    since: str | None = None,
) -> Any:
    """Ask, in a pipeline's body, for labelled rows with their features as they were known at each row's time.

    Its features are the spine's own columns (without keys, times, label and ``drop``), the columns of the feature
    views, and what the request features add.

    Args:
        spine: The table whose rows are learned from; live requests carry its columns.
        label: The column to predict, such as ``outcomes["defaulted"]``; of the spine or another table.
        features: What ``@fb.features``, ``fb.aggregate`` and ``@fb.request_features`` declared, and lists of these:
            ``[behaviour, risk_features]``, where several models share ``risk_features = [spending, region]``.
        drop: Columns of the spine that are neither features nor fields of a request.
        since: Only the last part of the history, such as ``"365d"``, counted back from the spine's newest row.

    Returns:
        The node of a `TrainingSet`.

    Raises:
        InvalidInputError: An argument is not what it should be, or it is called outside a pipeline.
    """
    plan = plan_training_set(spine, label=label, features=features, drop=drop, since=since)
    return record(TrainingSetOperation(plan), {"since": plan.since, "drop": list(plan.drop)})


def split(data: Any, *, test: str = "last 20%", seed: int = 0) -> Any:
    """Divide a training set, in a pipeline's body, into rows to learn from and rows to test with.

    Args:
        data: The node of a `TrainingSet`.
        test: Which rows are held out: ``"last 20%"`` or ``"last 30d"`` by time, so that nothing leaks from the future
            (rows of one instant stay together), or ``"random 20%"``.
        seed: Decides which rows are the random ones.

    Returns:
        Two nodes: the rows to fit, and the rows held out.

    Raises:
        InvalidInputError: ``test`` cannot be read, or it is called outside a pipeline.
    """
    parse_test(test)
    return record(SplitOperation(), {"data": data, "test": test, "seed": seed})
