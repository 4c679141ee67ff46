"""Which label belongs to which row: one rule for training rows and for logged predictions."""

from typing import Literal

import msgspec

from flyball.core.errors import InvalidInputError
from flyball.domain.data.tables import ColumnRef, Table


class LabelRule(msgspec.Struct, frozen=True, kw_only=True):
    """How the rows of a label table are matched to the rows of a spine.

    Attributes:
        spine: The table whose rows get labels.
        table: The table that holds the labels.
        column: Its label column.
        match: ``row``: one table holds both, so a label belongs to the row with its keys and its time.
            ``key``: a label belongs to the rows with its key.
            ``entity``: a label belongs to the newest row of its entity at or before the label's time.
        keys: The columns that must be equal, named alike in both tables; may be empty for ``row``.
        spine_time: The spine's time column.
        label_time: The label table's time column.
        label_known: Its column that says when a label became known; without one that is ``label_time``.
    """

    spine: str
    table: str
    column: str
    match: Literal["row", "key", "entity"]
    keys: tuple[str, ...]
    spine_time: str | None = None
    label_time: str | None = None
    label_known: str | None = None

    @property
    def known(self) -> str | None:
        """The column of the label table that says from when on a label may be used."""
        return self.label_known or self.label_time

    @property
    def can_match_predictions(self) -> bool:
        """Tell whether keys or a time connect a logged prediction with its label."""
        return bool(self.keys) or self.spine_time is not None


class LabelRuleError(InvalidInputError):
    """Nothing connects the label's table with the spine."""

    code = "features/label-rule"


def label_rule(spine: Table, label: ColumnRef) -> LabelRule:
    """Derive how labels are matched from what the two tables declare.

    In this order: the same table; the same ``key``; the same entity, where both have a time.

    Raises:
        LabelRuleError: The tables share neither a key nor an entity with times.
    """
    table = label.table
    names = {"spine": spine.required_name, "table": table.required_name, "column": label.column}
    if table is spine or table.required_name == spine.required_name:
        return LabelRule(
            **names,
            match="row",
            keys=tuple(spine.key) or _entity_keys(spine),
            spine_time=spine.time,
            label_time=spine.time,
            label_known=spine.known,
        )
    if spine.key and tuple(spine.key) == tuple(table.key):
        return LabelRule(
            **names,
            match="key",
            keys=tuple(spine.key),
            spine_time=spine.time,
            label_time=table.time,
            label_known=table.known,
        )
    shared = _entity_keys(spine)
    if shared and shared == _entity_keys(table) and spine.time and table.time:
        return LabelRule(
            **names,
            match="entity",
            keys=shared,
            spine_time=spine.time,
            label_time=table.time,
            label_known=table.known,
        )
    raise LabelRuleError(
        f"nothing connects the label {table.required_name}[{label.column!r}] with the rows of {spine.required_name!r}: "
        "the tables share no key, and no entity with a time on both sides",
        hint=f"Give both tables the same key=..., or the same entity=... and each a time=..., "
        f"in their fb.Table({str(table.source)!r}, ...).",
    )


def _entity_keys(table: Table) -> tuple[str, ...]:
    return tuple(table.entity.keys) if table.entity else ()
