"""Finds the predictions that a label's row belongs to, by the rule that training sets are made with.

`features.matching` joins two frames; here one side is a million predictions in an index and the other a few new
labels, so each label is looked up.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import polars as pl

from flyball.core.durations import to_us
from flyball.core.errors import InvalidInputError
from flyball.domain.features.labels import LabelRule
from flyball.domain.predictions import store
from flyball.domain.predictions.labels import key_value, match_hash
from flyball.domain.predictions.masking import Mask
from flyball.domain.predictions.records import PredictionRecord, PredictionStatus
from flyball.storage.db import Transaction

Matches = Mapping[int, Sequence[tuple[int, str]]]
"""For each digest of keys, the row times (microseconds) and ids of predictions."""


class LabelRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a label table.

    Attributes:
        keys: The rule's key columns.
        value: The label as the table has it.
        at: When it held.
        known_at: When it became known.
        plain_keys: The key columns as they are, where ``keys`` are masked; earlier predictions may be indexed by them.
    """

    keys: dict[str, Any]
    value: Any
    at: datetime | None
    known_at: datetime | None
    plain_keys: dict[str, Any] | None = None

    def __str__(self) -> str:
        parts = [f"{name}={value!r}" for name, value in self.keys.items()]
        return ", ".join([*parts, *([f"at {self.at}"] if self.at is not None else [])])


def matches_of(record: PredictionRecord) -> Iterator[tuple[int, int, str]]:
    """Yield what labels may find a prediction by: digest of its keys, its row's time, its id.

    Only answered ones are found; a shadow shares the label of the prediction that was answered.
    """
    if record.status is not PredictionStatus.OK or record.shadow_of is not None:
        return
    time_us = record.at_us if record.time_us is None else record.time_us
    if record.entity or not record.key:
        yield match_hash(record.endpoint, record.entity), time_us, record.id
    if record.key and record.key != record.entity:
        yield match_hash(record.endpoint, record.key), time_us, record.id


def index_matches(records: Iterable[PredictionRecord]) -> Matches:
    """Return `matches_of` many records, by digest."""
    found: dict[int, list[tuple[int, str]]] = {}
    for record in records:
        for digest, time_us, prediction_id in matches_of(record):
            found.setdefault(digest, []).append((time_us, prediction_id))
    return found


def find_matches(tx: Transaction, unsealed: Matches, endpoint: str, rule: LabelRule, row: LabelRow) -> Sequence[str]:
    """Return the ids of the predictions that a label belongs to; one found in both places counts once.

    Args:
        tx: Where sealed predictions are indexed.
        unsealed: Those that are only in open segments; some of them may have been sealed meanwhile.
        endpoint: Whose predictions.
        rule: How labels and predictions belong together.
        row: The label.
    """
    found = _find(tx, unsealed, endpoint, rule, row, row.keys)
    if found or row.plain_keys is None:
        return found
    return _find(tx, unsealed, endpoint, rule, row, row.plain_keys)


def _find(
    tx: Transaction, unsealed: Matches, endpoint: str, rule: LabelRule, row: LabelRow, row_keys: Mapping[str, Any]
) -> Sequence[str]:
    digest = match_hash(endpoint, row_keys)
    fresh = unsealed.get(digest, ())
    if rule.match == "key" or (rule.match == "row" and rule.spine_time is None):
        return list(dict.fromkeys([*store.list_matches(tx, digest), *(found for _, found in fresh)]))
    if row.at is None:
        return []
    time_us: int | None = to_us(row.at)
    if rule.match == "entity":
        sealed = store.find_latest_match_time(tx, digest, to_us(row.at))
        times = [time for time, _ in fresh if time <= to_us(row.at)]
        time_us = max([*times, *([sealed] if sealed is not None else [])], default=None)
    if time_us is None:
        return []
    at_that_time = [found for time, found in fresh if time == time_us]
    return list(dict.fromkeys([*store.list_matches_at(tx, digest, time_us), *at_that_time]))


def read_label_rows(rule: LabelRule, rows: pl.DataFrame, mask: Mask | None = None) -> list[LabelRow]:
    """Return the rows of a label table as values, with keys as the log has them.

    Raises:
        InvalidInputError: Nothing connects the rule's tables, or a column is missing.
    """
    if not rule.can_match_predictions:
        raise InvalidInputError(
            f"the labels in {rule.table!r} cannot be matched: the table has no key, no entity and no time",
            hint="Declare key=... or entity=... and time=... for it, or give labels by prediction id.",
        )
    needed = [*rule.keys, rule.column, *(name for name in (rule.label_time, rule.known) if name)]
    missing = [name for name in needed if name not in rows.columns]
    if missing:
        raise InvalidInputError(f"rows of {rule.table!r} lack the columns {', '.join(map(repr, missing))}")
    nothing = [None] * rows.height
    at = rows[rule.label_time].to_list() if rule.label_time else nothing
    known = rows[rule.known].to_list() if rule.known else nothing
    keys = [[key_value(value) for value in rows[name].to_list()] for name in rule.keys]
    found = [
        LabelRow(keys=dict(zip(rule.keys, values, strict=True)), value=value, at=then, known_at=since)
        for value, then, since, *values in zip(rows[rule.column].to_list(), at, known, *keys, strict=True)
    ]
    if mask is None or not set(mask.names).intersection(rule.keys):
        return found
    return [msgspec.structs.replace(row, keys=mask.keys(row.keys), plain_keys=row.keys) for row in found]
