"""The one way into what was asked, answered and turned out."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec
import polars as pl

from flyball.core.clock import Clock
from flyball.core.durations import to_us
from flyball.core.ids import IdSource
from flyball.domain.features.labels import LabelRule
from flyball.domain.journal.service import Journal
from flyball.domain.predictions import store
from flyball.domain.predictions.figures import FigureCache
from flyball.domain.predictions.finding import PredictionFinder
from flyball.domain.predictions.frames import FRAME_SCHEMA, scan_sealed
from flyball.domain.predictions.label_book import LabelBook
from flyball.domain.predictions.labels import (
    GivenLabel,
    LabelProblem,
    LabelReport,
    LabelValue,
    LabelValueError,
    LabelVersion,
    PredictionNotFoundError,
    check_same_kind,
    check_value,
)
from flyball.domain.predictions.log import (
    MaskOf,
    PredictionLog,
    SegmentLimits,
    list_endpoints,
    list_open_segments,
)
from flyball.domain.predictions.matching import find_matches, index_matches, read_label_rows
from flyball.domain.predictions.reading import FigureReader, Span
from flyball.domain.predictions.records import PredictionRecord
from flyball.domain.predictions.sealing import OnSealed, Sealer, SealResult
from flyball.storage.db import Database, Transaction

_NUMBERS = ("int", "float", "bool")


class PredictionService:
    """Keeps predictions and labels of one home.

    Args:
        db: Where sealed files, matches and labels are named.
        journal: Is told of damaged files.
        clock: The present.
        root: The home's folder of predictions.
        ids: Names segments of the log; one seeded alike makes a replay repeatable.
        limits: When this process closes a segment of its log.
        mask_of: See `PredictionLog`.
        is_log_synced: Whether what is logged survives a power cut, too.
        label_type_of: Tells of what type the label was that a version was trained on; None where that is not known.
    """

    def __init__(
        self,
        db: Database,
        journal: Journal,
        clock: Clock,
        root: Path,
        *,
        ids: IdSource | None = None,
        limits: SegmentLimits | None = None,
        mask_of: MaskOf | None = None,
        is_log_synced: bool = False,
        label_type_of: Callable[[str], str | None] = lambda version: None,
    ) -> None:
        self._db = db
        self._label_type_of = label_type_of
        self._clock = clock
        self._root = root
        self.log = PredictionLog(root, clock, ids or IdSource(clock), limits, mask_of, is_synced=is_log_synced)
        self._figures = FigureCache(root)
        self._reader = FigureReader(db, self._figures)
        self._finder = PredictionFinder(db, root, self._figures)
        self._labels = LabelBook(db)
        self._sealer = Sealer(db, journal, root, self._figures)

    def seal(self, endpoint: str | None = None, *, on_sealed: OnSealed | None = None) -> list[SealResult]:
        """Turn finished segments into Parquet, each exactly once, however often and wherever this is called.

        A segment is finished when its writer has closed it or has died; call ``log.rotate()`` first to include what
        this very process has logged.

        Args:
            endpoint: Only this one's; by default all.
            on_sealed: Called in the transaction that seals, with its rows (columns: `records.FRAME_SCHEMA`), sorted
                by id: what it writes is kept exactly once for each prediction.
        """
        names = [endpoint] if endpoint is not None else list_endpoints(self._root)
        return [self._sealer.seal(name, self._clock.now(), on_sealed) for name in names]

    def find(self, prediction_id: str) -> PredictionRecord | None:
        """Return a prediction, sealed or just answered, or None."""
        return self._finder.find(prediction_id)

    def get(self, prediction_id: str) -> PredictionRecord:
        """Return a prediction.

        Raises:
            PredictionNotFoundError: There is none of that id.
        """
        record = self.find(prediction_id)
        if record is None:
            raise PredictionNotFoundError(prediction_id)
        return record

    def count(self, endpoint: str) -> int:
        """Return how many predictions of an endpoint are sealed, shadows left out."""
        with self._db.read() as tx:
            return store.count_predictions(tx, endpoint)

    def has_open(self, endpoint: str) -> bool:
        """Tell whether some predictions are logged that are not sealed yet."""
        for path in list_open_segments(self._root, endpoint):
            with suppress(FileNotFoundError):
                if path.stat().st_size:
                    return True
        return False

    def count_sealed(self, endpoint: str) -> int:
        """Return how many are sealed, with shadows; a cheap way to see that there are new ones."""
        with self._db.read() as tx:
            return store.count_sealed(tx, endpoint)

    def scan(self, endpoint: str, since: datetime | None = None, until: datetime | None = None) -> pl.LazyFrame:
        """Return the sealed predictions answered in [since, until), with all columns (`records.FRAME_SCHEMA`)."""
        span = Span(since, until)
        with self._db.read() as tx:
            segments = span.segments(tx, endpoint)
        if not segments:
            return pl.LazyFrame(schema=FRAME_SCHEMA)
        return scan_sealed([self._root / segment.path for segment in segments]).filter(*span.filters())

    def figures(
        self,
        endpoint: str,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        version: str | None = None,
        variant: str | None = None,
    ) -> pl.DataFrame:
        """Return sealed predictions answered in [since, until) without their fields (`figures.COLUMNS`), by id.

        Shadows are left out unless a version or the variant ``shadow`` is asked for.
        """
        return self._reader.read(endpoint, Span(since, until), version=version, variant=variant)

    def sample_figures(
        self, endpoint: str, since: datetime, *, most: int, version: str | None = None, variant: str | None = None
    ) -> pl.DataFrame:
        """Return what `figures` does, but of no more than about ``most`` predictions of all variants: of some files,
        evenly spread over the time."""
        return self._reader.read(endpoint, Span(since), version=version, variant=variant, most=most)

    def count_answered(self, endpoint: str, since: datetime, until: datetime | None, *, version: str) -> int:
        """Return how many predictions `figures` would tell of."""
        return self._reader.count(endpoint, Span(since, until), version=version)

    def latest(
        self, endpoint: str, count: int, *, version: str | None = None, variant: str | None = None
    ) -> pl.DataFrame:
        """Return the last ``count`` sealed ok predictions without their fields (`figures.COLUMNS`), oldest first."""
        return self._reader.latest(endpoint, count, version=version, variant=variant)

    # labels

    def add_label(
        self,
        prediction_id: str,
        value: LabelValue,
        *,
        at: datetime | None = None,
        known_at: datetime | None = None,
        source: str = "api",
    ) -> LabelVersion:
        """Keep how a prediction turned out; an earlier version stays beside it. A shadow's is its original's.

        Args:
            prediction_id: As the answer carried it.
            value: None takes back what was said before.
            at: When it held in the world; now by default.
            known_at: When it became known; now by default.
            source: Where it comes from.

        Raises:
            PredictionNotFoundError: There is no such prediction.
            LabelValueError: The value is NaN, or of another kind than the endpoint's other labels.
        """
        checked = check_value(value)
        record = self.get(prediction_id)
        now = self._clock.now()
        label = LabelVersion(
            endpoint=record.endpoint,
            prediction_id=record.shadow_of or record.id,
            value=checked,
            at=at or now,
            known_at=known_at or now,
            source=source,
        )
        [kind] = self._kinds([label]).values()
        with self._db.begin() as tx:
            check_same_kind(checked, kind, record.endpoint)
            store.insert_label(tx, label, to_us(now))
        return label

    def add_labels(self, labels: Sequence[GivenLabel], *, source: str = "api") -> LabelReport:
        """Keep many labels given by prediction id: the bad ones are reported, the good ones kept."""
        places = self._finder.locate([label.prediction_id for label in labels])
        now = self._clock.now()
        good: list[LabelVersion] = []
        refused: list[LabelProblem] = []
        for label in labels:
            try:
                value = check_value(label.value)
                if label.prediction_id not in places:
                    raise PredictionNotFoundError(label.prediction_id)
            except (LabelValueError, PredictionNotFoundError) as error:
                refused.append(LabelProblem(label=label.prediction_id, message=error.message))
                continue
            endpoint, answered = places[label.prediction_id]
            good.append(
                LabelVersion(
                    endpoint=endpoint,
                    prediction_id=answered,
                    value=value,
                    at=label.at or now,
                    known_at=label.known_at or label.at or now,
                    source=source,
                )
            )
        return self._keep(good, now, unmatched=0, refused=refused)

    def ingest_labels(self, endpoint: str, rule: LabelRule, rows: pl.DataFrame) -> LabelReport:
        """Keep the labels of a table's rows for the predictions they belong to, by the rule of training sets.

        Taking the same rows again changes nothing, so overlapping reads do no harm. Rows whose prediction was
        answered but not sealed yet are matched too.

        Args:
            endpoint: Whose predictions.
            rule: How they belong together (`features.labels.label_rule`).
            rows: New rows of the label table, with the rule's keys, column and times.

        Raises:
            InvalidInputError: Nothing connects the rule's tables, or a column is missing.
        """
        label_rows = read_label_rows(rule, rows, self.log.mask_of(endpoint))
        now = self._clock.now()
        unsealed = index_matches(self._finder.open_records(endpoint))
        good: list[LabelVersion] = []
        refused: list[LabelProblem] = []
        unmatched = 0
        with self._db.read() as tx:
            for row in label_rows:
                try:
                    value = check_value(row.value)
                except LabelValueError as error:
                    refused.append(LabelProblem(label=str(row), message=error.message))
                    continue
                found = find_matches(tx, unsealed, endpoint, rule, row)
                unmatched += not found
                good.extend(
                    LabelVersion(
                        endpoint=endpoint,
                        prediction_id=prediction_id,
                        value=value,
                        at=row.at or row.known_at or now,
                        known_at=row.known_at or row.at or now,
                        source=rule.table,
                    )
                    for prediction_id in found
                )
        return self._keep(good, now, unmatched=unmatched, refused=refused)

    def list_label_versions(self, prediction_id: str) -> list[LabelVersion]:
        """Return all that was ever said about how a prediction turned out, what was known first first.

        Raises:
            PredictionNotFoundError: There is no such prediction.
        """
        record = self.get(prediction_id)
        with self._db.read() as tx:
            return store.list_label_versions(tx, record.endpoint, record.shadow_of or record.id)

    def last_label_seq(self) -> int:
        """Return a number that grows with every label version; a cheap way to see that there are new ones."""
        with self._db.read() as tx:
            return store.last_label_seq(tx)

    def labelled(
        self,
        endpoint: str,
        since: datetime | None = None,
        until: datetime | None = None,
        as_of: datetime | None = None,
        *,
        known_after: datetime | None = None,
        version: str | None = None,
        variant: str | None = None,
    ) -> pl.DataFrame:
        """Return sealed ok predictions answered in [since, until) that have a label, by id.

        Args:
            endpoint: Whose predictions.
            since: From when; from the beginning by default.
            until: Until when; to the end by default.
            as_of: With the labels as they were known then; as they are known now by default.
            known_after: Only those whose label became known later than this.
            version: Only this model version's, its shadow predictions included.
            variant: Only ``live``, ``canary`` or ``shadow``. Shadows are left out unless asked for by version or
                variant; they share the label of the prediction that was answered.

        Returns:
            `figures.COLUMNS` and ``label`` (Float64, or String for text labels), ``label_at``, ``label_known_at``,
            ``label_source``.
        """
        labels = self._labels.known_at(endpoint, as_of or self._clock.now())
        if known_after is not None:
            labels = labels.filter(pl.col("label_known_at") > known_after)
        return self._reader.labelled(endpoint, labels, Span(since, until), version=version, variant=variant)

    def _kinds(self, labels: Sequence[LabelVersion]) -> dict[str, LabelValue]:
        """Return a label of the kind that each endpoint has; where it has none, of what its model was trained on."""
        kinds: dict[str, LabelValue] = {}
        for label in labels:
            if label.endpoint in kinds:
                continue
            with self._db.read() as tx:
                kinds[label.endpoint] = _any_label(tx, label.endpoint)
            if kinds[label.endpoint] is None and (record := self.find(label.prediction_id)) is not None:
                is_number = self._label_type_of(record.version) in _NUMBERS
                kinds[label.endpoint] = 0.0 if is_number else None
        return kinds

    def _keep(
        self, labels: Sequence[LabelVersion], now: datetime, *, unmatched: int, refused: list[LabelProblem]
    ) -> LabelReport:
        added = known_already = 0
        kinds = self._kinds(labels)
        if labels:
            with self._db.begin() as tx:
                for label in labels:
                    if kinds.get(label.endpoint) is None:
                        kinds[label.endpoint] = _any_label(tx, label.endpoint)
                    try:
                        check_same_kind(label.value, kinds[label.endpoint], label.endpoint)
                    except LabelValueError as error:
                        refused.append(LabelProblem(label=label.prediction_id, message=error.message))
                        continue
                    # An outcome still open is no news; one that is taken back is.
                    if label.value is None and not store.has_label(tx, label.endpoint, label.prediction_id):
                        continue
                    is_new = store.insert_label(tx, label, to_us(now))
                    added, known_already = added + is_new, known_already + (not is_new)
        return LabelReport(added=added, known_already=known_already, unmatched=unmatched, refused=tuple(refused))


def _any_label(tx: Transaction, endpoint: str) -> LabelValue:
    found = store.find_any_label(tx, endpoint)
    value: LabelValue = None if found is None else msgspec.json.decode(found)
    return value
