"""The one way into traces."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from flyball.core.clock import Clock
from flyball.core.durations import to_us
from flyball.core.ids import IdSource
from flyball.domain.journal.service import Journal
from flyball.domain.tracking import client_store, experiment_store
from flyball.domain.tracking import trace_store as store
from flyball.domain.tracking.experiments import Experiment, ExperimentNotFoundError, ExperimentStateError
from flyball.domain.tracking.filters import parse_filter, parse_orders
from flyball.domain.tracking.pages import read_token, write_token
from flyball.domain.tracking.runs import RunNotFoundError
from flyball.domain.tracking.traces import (
    INPUTS,
    NAME_TAG,
    OUTPUTS,
    PLACE_TAG,
    PREVIEW_LENGTH,
    PROMPTS_TAG,
    RUN_METADATA,
    SPANS_HERE,
    SPANS_TAG,
    TRACES,
    Assessment,
    AssessmentNotFoundError,
    Span,
    Trace,
    TraceNotFoundError,
    TraceTagNotFoundError,
    summarise,
)
from flyball.storage.db import Database, Transaction


class TraceService:
    """Keeps, changes and finds traces. Methods that write take the transaction that they are part of.

    Args:
        db: Where they are kept.
        journal: Told of deletions only: traces are rows, not events.
        clock: Tells when an assessment was made.
    """

    def __init__(self, db: Database, journal: Journal, clock: Clock) -> None:
        self._db = db
        self._journal = journal
        self._clock = clock
        self._ids = IdSource(clock)

    def put(self, tx: Transaction, trace: Trace) -> Trace:
        """Keep what a client tells of a whole trace; tags and metadata that its spans brought stay.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
            ExperimentStateError: The experiment is deleted.
        """
        experiment = _require_experiment(tx, trace.experiment_id)
        tags = {PLACE_TAG: _place(experiment, trace.id)} | trace.tags
        number = store.put_trace(tx, msgspec.structs.replace(trace, tags=tags))
        for assessment in trace.assessments:
            store.put_assessment(tx, number, assessment)
        return self._require(tx, trace.id)

    def put_spans(self, tx: Transaction, experiment_id: int, spans: Sequence[Span], *, run_id: str = "") -> None:
        """Keep spans; a trace that nobody told of yet is made from them.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
            ExperimentStateError: The experiment is deleted.
        """
        experiment = _require_experiment(tx, experiment_id)
        by_trace: dict[str, list[Span]] = {}
        for span in spans:
            by_trace.setdefault(span.trace_id, []).append(span)
        for trace_id, found in by_trace.items():
            number = self._derive(tx, experiment, trace_id, found)
            store.put_items(tx, number, "tag", {SPANS_TAG: SPANS_HERE})
            if run_id:
                store.put_items(tx, number, "metadata", {RUN_METADATA: run_id})
            store.put_spans(tx, number, found)

    def bring(self, tx: Transaction, trace: Trace, experiment_id: int, spans: Sequence[Span]) -> None:
        """Keep a trace of another store as it is; of one that is there only spans that are missing are added.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
        """
        experiment = experiment_store.find_experiment(tx, experiment_id)
        if experiment is None:
            raise ExperimentNotFoundError(experiment_id)
        number = store.find_number(tx, trace.id)
        if number is None:
            where = {PLACE_TAG: _place(experiment, trace.id)} | ({SPANS_TAG: SPANS_HERE} if spans else {})
            tags = {name: value for name, value in trace.tags.items() if name != SPANS_TAG} | where
            number = store.put_trace(tx, msgspec.structs.replace(trace, experiment_id=experiment_id, tags=tags))
            for assessment in trace.assessments:
                store.put_assessment(tx, number, assessment)
        store.put_spans(tx, number, spans)

    def set_tag(self, tx: Transaction, trace_id: str, name: str, value: str) -> None:
        """Keep a tag.

        Raises:
            TraceNotFoundError: There is no such trace.
        """
        store.put_items(tx, self._number(tx, trace_id), "tag", {name: value})

    def delete_tag(self, tx: Transaction, trace_id: str, name: str) -> None:
        """Remove a tag.

        Raises:
            TraceNotFoundError: There is no such trace.
            TraceTagNotFoundError: It has no such tag.
        """
        if not store.delete_tag(tx, self._number(tx, trace_id), name):
            raise TraceTagNotFoundError(trace_id, name)

    def link_run(self, tx: Transaction, trace_ids: Sequence[str], run_id: str) -> None:
        """Let traces belong to a run as well.

        Raises:
            RunNotFoundError: There is no such run.
            TraceNotFoundError: There is no such trace.
        """
        if client_store.find_run(tx, run_id) is None:
            raise RunNotFoundError(run_id)
        for trace_id in trace_ids:
            store.put_items(tx, self._number(tx, trace_id), "run", {run_id: ""})

    def link_prompts(self, tx: Transaction, trace_id: str, prompts: Sequence[Mapping[str, str]]) -> None:
        """Keep which versions of prompts a trace used.

        Raises:
            TraceNotFoundError: There is no such trace.
        """
        trace = self._require(tx, trace_id)
        before = json.loads(trace.tags.get(PROMPTS_TAG, "[]"))
        new = [dict(prompt) for prompt in prompts if dict(prompt) not in before]
        self.set_tag(tx, trace_id, PROMPTS_TAG, json.dumps([*before, *new]))

    def delete(
        self,
        tx: Transaction,
        experiment_id: int,
        *,
        trace_ids: Sequence[str] | None = None,
        until_us: int | None = None,
        limit: int | None = None,
    ) -> int:
        """Remove traces of an experiment, some by id or the oldest until an instant; return how many.

        Raises:
            ExperimentNotFoundError: There is no such experiment.
        """
        if experiment_store.find_experiment(tx, experiment_id) is None:
            raise ExperimentNotFoundError(experiment_id)
        numbers = store.find_to_delete(tx, experiment_id, trace_ids=trace_ids, until_us=until_us, limit=limit)
        store.delete_traces(tx, numbers)
        if numbers:
            data = {"traces": len(numbers)}
            self._journal.append(tx, "tracking.traces.deleted", f"experiment/{experiment_id}", data, actor="mlflow")
        return len(numbers)

    def assess(self, tx: Transaction, assessment: Assessment) -> Assessment:
        """Keep what was judged of a trace; what it takes the place of is no longer valid.

        Raises:
            TraceNotFoundError: There is no such trace.
            AssessmentNotFoundError: It takes the place of one that is not there.
        """
        number = self._number(tx, assessment.trace_id)
        replaced = assessment.content.get("overrides")
        if replaced:
            old = store.find_assessment(tx, number, replaced)
            if old is None:
                raise AssessmentNotFoundError(assessment.trace_id, replaced)
            invalid = msgspec.structs.replace(old, is_valid=False, content=old.content | {"valid": False})
            store.put_assessment(tx, number, invalid)
        store.put_assessment(tx, number, assessment)
        return assessment

    def delete_assessment(self, tx: Transaction, trace_id: str, assessment_id: str) -> None:
        """Remove an assessment; one whose place it took is valid again.

        Raises:
            TraceNotFoundError: There is no such trace.
            AssessmentNotFoundError: It has no such assessment.
        """
        number = self._number(tx, trace_id)
        found = store.find_assessment(tx, number, assessment_id)
        if found is None:
            raise AssessmentNotFoundError(trace_id, assessment_id)
        store.delete_assessment(tx, number, assessment_id)
        before = store.find_assessment(tx, number, str(found.content.get("overrides", "")))
        if before is not None:
            valid = msgspec.structs.replace(before, is_valid=True, content=before.content | {"valid": True})
            store.put_assessment(tx, number, valid)

    def get_assessment(self, trace_id: str, assessment_id: str, *, tx: Transaction | None = None) -> Assessment:
        """Return an assessment.

        Raises:
            TraceNotFoundError: There is no such trace.
            AssessmentNotFoundError: It has no such assessment.
        """
        if tx is None:
            with self._db.read() as tx:
                return self.get_assessment(trace_id, assessment_id, tx=tx)
        found = store.find_assessment(tx, self._number(tx, trace_id), assessment_id)
        if found is None:
            raise AssessmentNotFoundError(trace_id, assessment_id)
        return found

    def get(self, trace_id: str) -> Trace:
        """Return a trace without its spans.

        Raises:
            TraceNotFoundError: There is none.
        """
        with self._db.read() as tx:
            return self._require(tx, trace_id)

    def list_with_spans(self, trace_ids: Sequence[str]) -> list[tuple[Trace, list[msgspec.Raw]]]:
        """Return those of some traces that are there, each with its spans as JSON, the earliest first."""
        with self._db.read() as tx:
            traces = store.read_traces(tx, trace_ids)
            spans = store.read_spans(tx, [trace.id for trace in traces])
        return [(trace, spans[trace.id]) for trace in traces]

    def list_traces(self, trace_ids: Sequence[str]) -> list[Trace]:
        """Return those of some traces that are there, without their spans."""
        with self._db.read() as tx:
            return store.read_traces(tx, trace_ids)

    def search(
        self,
        experiment_ids: Sequence[int],
        *,
        filter_text: str = "",
        orders: Sequence[str] = (),
        limit: int = 100,
        token: str = "",
    ) -> tuple[list[Trace], str]:
        """Return a page of traces, the newest first by default, and the token of the next page.

        Raises:
            FilterError: The filter or the order cannot be read.
            PageTokenError: The token is of another search.
        """
        conditions, order = parse_filter(filter_text, TRACES), parse_orders(orders, TRACES)
        wanted = sorted(set(experiment_ids))
        query = ["traces", wanted, filter_text, list(orders)]
        after = read_token(query, token, [kind for _, _, kind in store.sort_keys(order)]) if token else None
        if not wanted:
            return [], ""
        with self._db.read() as tx:
            found = store.search(tx, wanted, conditions, order, after=after, limit=limit + 1)
        shown = found[:limit]
        return [trace for trace, _ in shown], write_token(query, shown[-1][1]) if len(found) > limit else ""

    def new_assessment_id(self) -> str:
        """Return an id for an assessment."""
        return f"a-{self._ids.new()}"

    def now_us(self) -> int:
        """Return the time."""
        return to_us(self._clock.now())

    def _derive(self, tx: Transaction, experiment: Experiment, trace_id: str, spans: Sequence[Span]) -> int:
        """Make or complete a trace from spans, unless its client told of it; return its number."""
        before = next(iter(store.read_traces(tx, [trace_id])), None)
        if before is not None and before.is_told:
            return self._number(tx, trace_id)
        started, duration, state = summarise(spans)
        root = next((span for span in spans if not span.parent), None)
        trace = Trace(
            id=trace_id,
            experiment_id=experiment.id if before is None else before.experiment_id,
            started_at_us=started if before is None else min(started, before.started_at_us),
            duration_us=duration,
            state=state,
            is_told=False,
            tags={PLACE_TAG: _place(experiment, trace_id)},
        )
        if root is None and before is not None:
            trace = msgspec.structs.replace(before, started_at_us=trace.started_at_us)
        elif root is not None:
            trace = msgspec.structs.replace(
                trace,
                request_preview=_preview(root, INPUTS),
                response_preview=_preview(root, OUTPUTS),
                tags=trace.tags | {NAME_TAG: root.name},
            )
        return store.put_trace(tx, trace)

    def _number(self, tx: Transaction, trace_id: str) -> int:
        number = store.find_number(tx, trace_id)
        if number is None:
            raise TraceNotFoundError(trace_id)
        return number

    def _require(self, tx: Transaction, trace_id: str) -> Trace:
        found = store.read_traces(tx, [trace_id])
        if not found:
            raise TraceNotFoundError(trace_id)
        return found[0]


def _preview(span: Span, name: str) -> str | None:
    text: Any = span.attributes.get(name)
    return None if text is None else text[:PREVIEW_LENGTH]


def _place(experiment: Experiment, trace_id: str) -> str:
    """Return the address below which the files of a trace are."""
    return f"{experiment.root.rstrip('/')}/traces/{trace_id}/artifacts"


def _require_experiment(tx: Transaction, experiment_id: int) -> Experiment:
    experiment = experiment_store.find_experiment(tx, experiment_id)
    if experiment is None:
        raise ExperimentNotFoundError(experiment_id)
    if experiment.is_deleted:
        raise ExperimentStateError(experiment_id, is_deleted=True)
    return experiment
