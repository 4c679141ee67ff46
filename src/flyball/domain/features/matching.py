"""Finds the label of each row, by a `LabelRule`."""

from datetime import datetime

import polars as pl

from flyball.core.errors import InvalidInputError
from flyball.domain.features.labels import LabelRule

VALUE, EVENT_TIME, KNOWN = "label", "label_time", "label_known"
"""What `match_labels` adds: the label, when it was true and from when on it was known (null where nobody says)."""
_ORDER = "__label_order"
_ROW = "__row"


def match_labels(rows: pl.LazyFrame, labels: pl.LazyFrame, rule: LabelRule, *, time: str | None = None) -> pl.LazyFrame:
    """Return each label beside each row that it belongs to.

    Corrections are kept, so that what was known at any time can be told: of several labels of a row, the last of
    those known by then counts.

    Args:
        rows: The rule's keys, the time column, and what identifies a row, such as a prediction's id; no column is
            named ``label``, ``label_time`` or ``label_known``.
        labels: Rows of the label table.
        rule: How they belong together.
        time: The time column of ``rows``; by default the one of the rule's spine.

    Returns:
        The columns of ``rows`` with ``label``, ``label_time`` and ``label_known``, one row per match, in the order in
        which labels became known. A label may be null: then it takes back what was said before.

    Raises:
        InvalidInputError: The rule has neither keys nor a time to match by.
    """
    if not rule.can_match_predictions:
        raise InvalidInputError(
            f"the labels in {rule.table!r} cannot be matched: the table has no key, no entity and no time",
            hint="Declare key=... or entity=... and time=... for it, or give labels by prediction id.",
        )
    keys, time = list(rule.keys), time or rule.spine_time
    answers = _answers(labels, rule)
    if rule.match == "entity":
        assert time is not None
        asked = rows.filter(pl.col(time).is_not_null()).sort(time, maintain_order=True)
        matched = (
            answers.filter(pl.col(EVENT_TIME).is_not_null())
            .sort(EVENT_TIME, maintain_order=True)
            .join_asof(
                asked.with_columns(pl.lit(True).alias(_ROW)),
                left_on=EVENT_TIME,
                right_on=time,
                by=keys,
                strategy="backward",
                coalesce=False,
                check_sortedness=False,
            )
            .filter(pl.col(_ROW))
        )
    else:
        own_time = time if rule.match == "row" and rule.spine_time is not None else None
        same = [key for key in keys if own_time is None or key != rule.spine_time]  # a key may hold the time
        matched = rows.join(
            answers.with_columns(pl.col(EVENT_TIME).alias(_ROW)),
            left_on=[*same, *([own_time] if own_time else [])],
            right_on=[*same, *([_ROW] if own_time else [])],
            how="inner",
        )
    ordered = matched.sort(KNOWN, EVENT_TIME, _ORDER, nulls_last=False)
    return ordered.select(*rows.collect_schema().names(), VALUE, EVENT_TIME, KNOWN)


def _answers(labels: pl.LazyFrame, rule: LabelRule) -> pl.LazyFrame:
    """Return each label with its keys, times and place in the table."""
    no_time = pl.lit(None, dtype=pl.Datetime("us", "UTC"))
    return labels.select(
        *rule.keys,
        pl.col(rule.column).alias(VALUE),
        (pl.col(rule.label_time) if rule.label_time else no_time).alias(EVENT_TIME),
        (pl.col(rule.known) if rule.known else no_time).alias(KNOWN),
    ).with_row_index(_ORDER)


def label_rows(
    spine: pl.LazyFrame, labels: pl.LazyFrame, rule: LabelRule, *, as_of: datetime | None = None
) -> pl.LazyFrame:
    """Return the spine's rows that have a label, with that label as their last column.

    Of several labels of a row the newest known counts; a row whose newest label is null or NaN has none. Where one
    table holds rows and labels and says when they became known, a corrected row keeps its first known features and
    gets its last known label: a live request would have carried the former.

    Args:
        spine: The rows; their order is kept.
        labels: Rows of the label table.
        rule: How they belong together.
        as_of: Labels that became known later are not used.

    Returns:
        The spine's columns, and the label under the rule's column name.
    """
    if as_of is not None and rule.known is not None:
        labels = labels.filter(pl.col(rule.known) <= as_of)
        if rule.match == "row":
            spine = spine.filter(pl.col(rule.known) <= as_of)
    numbered = spine.with_row_index(_ROW)
    names = [name for name in spine.collect_schema().names() if name != rule.column or rule.match != "row"]
    if rule.match == "row":
        found = _labels_of_own_rows(numbered, rule)
    else:
        row = "__spine_row"
        time = [rule.spine_time] if rule.spine_time else []
        asked = numbered.select(pl.col(_ROW).alias(row), *rule.keys, *(name for name in time if name not in rule.keys))
        found = (
            match_labels(asked, labels, rule)
            .group_by(row, maintain_order=True)
            .agg(pl.col(VALUE).last())
            .select(pl.col(row).alias(_ROW), VALUE)
        )
    has_label = pl.col(VALUE).is_not_null()
    if found.collect_schema()[VALUE].is_float():
        has_label &= pl.col(VALUE).is_not_nan()
    return (
        numbered.join(found.filter(has_label), on=_ROW, how="inner")
        .sort(_ROW)
        .select(*names, pl.col(VALUE).alias(rule.column))
    )


def _labels_of_own_rows(numbered: pl.LazyFrame, rule: LabelRule) -> pl.LazyFrame:
    own = pl.col(rule.column).alias(VALUE)
    if rule.label_known is None or not rule.keys:
        return numbered.select(_ROW, own)
    same = list(dict.fromkeys([*rule.keys, *([rule.spine_time] if rule.spine_time else [])]))
    is_matched = pl.all_horizontal(pl.col(same).is_not_null())
    corrected = (
        numbered.filter(is_matched)
        .sort(rule.label_known, _ROW)
        .group_by(same, maintain_order=True)
        .agg(pl.col(_ROW).first(), own.last())
        .select(_ROW, VALUE)
    )
    return pl.concat([corrected, numbered.filter(~is_matched).select(_ROW, own)])
