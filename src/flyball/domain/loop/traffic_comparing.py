"""Compares two versions' answers to the same requests: flips, slices, metrics, and what it all comes to in words."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from flyball.domain.loop.traffic import Comparison, MetricPair, Reproduction, Slice
from flyball.domain.monitoring.distributions import Baseline, read_labelled
from flyball.domain.monitoring.metrics import find_metric
from flyball.domain.monitoring.performance import compute_metric
from flyball.domain.registry.signatures import Signature
from flyball.domain.serving.table_requests import Verdict

Array = np.ndarray[Any, Any]
SAME_WITHIN = 1e-6
"""Answers that differ by less are the same: a sum in single precision depends on the rows that are computed with it."""
_NOTICEABLE = 0.1
_MOST_VALUES = 12
_MOST_SLICES = 10
_FEWEST_ROWS = 30
_FEWEST_LABELS = 30
_EXAMPLES = 5
_CLEAR = 2.0
"""Standard errors beyond which a difference is more than chance (about 95%)."""


class Decisions(NamedTuple):
    """What counts as a decision: the words for it, and each row's as a number."""

    words: str
    live: Array
    candidate: Array
    is_ordered: bool


def compare_logged(logged: pl.DataFrame, answers: Array) -> tuple[Array, float]:
    """Return which answers are those that were logged, and the largest difference."""
    if answers.ndim == 2:
        width = answers.shape[1]
        told = np.array([scores or [np.nan] * width for scores in logged["scores"].to_list()], dtype=np.float64)
        told = told.reshape(-1, width)
        gap = np.abs(told - answers).max(axis=1, initial=0.0) if len(told) else np.zeros(0)
        size = np.ones(len(told))
    else:
        told = logged["prediction"].to_numpy()
        gap, size = np.abs(told - answers), np.maximum(np.abs(told), 1.0)
    is_same = gap <= SAME_WITHIN * size
    return is_same, float(np.nanmax(gap, initial=0.0))


def judge_reproduction(
    logged: pl.DataFrame,
    answers: Array,
    from_inputs: Array,
    rejected: Sequence[Verdict],
    masked: Sequence[str],
    needed: Sequence[str] = (),
) -> Reproduction:
    """Tell whether the live version reproduces the log, and if not, where the difference comes from.

    Args:
        logged: What it answered.
        answers: What it answers now, by the whole path.
        from_inputs: What its model says to the inputs that were logged.
        rejected: What it would not answer now.
        masked: Fields that the log does not hold as they came.
        needed: Those of them that the model itself is given.
    """
    is_same, largest = compare_logged(logged, answers)
    model_same, _ = compare_logged(logged, from_inputs)
    reasons = []
    refused = {verdict.row for verdict in rejected}
    if refused:
        told = rejected[0].violations[0].message
        reasons.append(f"{len(refused):,} requests that were answered would be refused now: {told}")
    others = [row for row in np.flatnonzero(~is_same) if row not in refused]
    by_path = sum(bool(model_same[row]) for row in others)
    if by_path:
        reasons.append(
            f"for {by_path:,} requests the model says the same to the inputs that were logged, but other inputs come "
            "out of the request now"
            + (f": the log holds {', '.join(masked)} only masked" if masked else ": a request feature has changed")
        )
    if len(others) > by_path:
        count = f"for {len(others) - by_path:,} requests the model"
        reasons.append(
            f"{count} needs {', '.join(needed)}, which the log holds only masked, since the project calls it sensitive"
            if needed
            else f"{count} itself says something else to the same inputs: it runs in another form or with other "
            "libraries than it did then"
        )
    examples = logged["id"].gather(np.flatnonzero(~is_same)[:_EXAMPLES]).to_list()
    return Reproduction(
        rows=logged.height,
        same=int(is_same.sum()),
        largest_difference=largest,
        reasons=tuple(reasons),
        examples=tuple(examples),
    )


def decide(signature: Signature, live: Array, candidate: Array, threshold: float) -> Decisions:
    """Turn answers into decisions: the likeliest class, a chance above the threshold, or a value as it is."""
    if signature.task == "multiclass":
        return Decisions("another class is the likeliest", live.argmax(axis=1), candidate.argmax(axis=1), False)
    if signature.task == "binary":
        words = f"the chance of {signature.classes[1]!r} crosses {threshold:g}"
        return Decisions(words, live >= threshold, candidate >= threshold, True)
    spread = float(np.nanstd(live)) if len(live) else 0.0
    limit = _NOTICEABLE * spread
    moved = np.where(np.abs(candidate - live) > limit, np.sign(candidate - live), 0.0)
    words = f"the answer moves by more than {limit:.3g}, a tenth of the answers' spread"
    return Decisions(words, np.zeros(len(live)), moved, True)


def compare_versions(
    rows: pl.DataFrame,
    signature: Signature,
    live: Array,
    candidate: Array,
    *,
    rejected: Sequence[Verdict],
    labelled: pl.DataFrame,
    metric: str | None,
    threshold: float,
    fields: pl.DataFrame,
    looked_back: Mapping[str, int],
) -> Comparison:
    """Compare answers to the same requests.

    Args:
        rows: The requests as they were logged.
        signature: The live version's.
        live: The live version's answers, NaN where it has none.
        candidate: The candidate's.
        rejected: What the candidate does not answer.
        labelled: ``id`` and ``label`` of the requests that have turned out.
        metric: What to judge by; None where nothing fits.
        threshold: From which chance on a decision is yes.
        fields: Columns to look for slices in, one row a request.
        looked_back: For the report.
    """
    both = ~(_missing(live) | _missing(candidate))
    live, candidate, rows, fields = live[both], candidate[both], rows.filter(both), fields.filter(both)
    decisions = decide(signature, live, candidate, threshold)
    flips = decisions.live != decisions.candidate
    change = np.abs(candidate - live) if live.ndim == 1 else np.abs(candidate - live).max(axis=1)
    labels = rows.select("id").join(labelled, on="id", how="left", maintain_order="left")["label"]
    judge = _Judge(signature, metric, live, candidate, labels)
    reasons: dict[str, int] = {}
    for verdict in rejected:
        for found in verdict.violations[:1]:
            key = f"{found.column}: {found.rule}".lstrip(": ")
            reasons[key] = reasons.get(key, 0) + 1
    return Comparison(
        rows=rows.height,
        refused=len(rejected),
        reasons=reasons,
        decides=decisions.words,
        flips=int(flips.sum()),
        to_higher=int((decisions.candidate > decisions.live).sum()) if decisions.is_ordered else None,
        mean_live=_mean(live),
        mean_candidate=_mean(candidate),
        mean_change=float(change.mean()) if len(change) else None,
        largest_change=float(change.max()) if len(change) else None,
        slices=tuple(_find_slices(fields, flips, live, candidate, judge)),
        metric=judge.judge(),
        latency=None,
        looked_back=dict(looked_back),
    )


class _Judge:
    """Judges both versions by labels, on all rows or on some."""

    def __init__(self, signature: Signature, metric: str | None, live: Array, candidate: Array, labels: pl.Series):
        self._metric = metric
        self._baseline = Baseline(version="", profile=None, signature=signature)  # type: ignore[arg-type]
        self._live, self._candidate, self._labels = live, candidate, labels
        self._has_label = labels.is_not_null().to_numpy()

    def judge(self, chosen: Array | None = None) -> MetricPair | None:
        is_used = self._has_label if chosen is None else self._has_label & chosen
        if self._metric is None or not is_used.any():
            return None
        found = [self._estimate(answers, is_used) for answers in (self._live, self._candidate)]
        return MetricPair(
            name=self._metric,
            better=find_metric(self._metric).better,
            labels=int(is_used.sum()),
            live=found[0].value,
            candidate=found[1].value,
            stderr=found[1].stderr,
        )

    def _estimate(self, answers: Array, is_used: Array) -> Any:
        values = answers[is_used]
        frame = pl.DataFrame({"label": self._labels.filter(pl.Series(is_used))})
        if values.ndim == 2:
            frame = frame.with_columns(
                pl.Series("prediction", values.argmax(axis=1).astype(np.float64)), pl.Series("scores", values.tolist())
            )
        else:
            frame = frame.with_columns(pl.Series("prediction", values))
        return compute_metric(self._metric or "", *read_labelled(self._baseline, frame))


def _find_slices(fields: pl.DataFrame, flips: Array, live: Array, candidate: Array, judge: _Judge) -> list[Slice]:
    """Return the groups of requests whose decisions differ most, of those that are not tiny."""
    found = []
    for name in fields.columns:
        for value, chosen in _cut(fields[name]):
            rows = int(chosen.sum())
            if rows < _FEWEST_ROWS or rows == len(flips):
                continue
            pair = judge.judge(chosen)
            is_judged = pair is not None and pair.labels >= _FEWEST_LABELS
            found.append(
                Slice(
                    field=name,
                    value=value,
                    rows=rows,
                    flips=float(flips[chosen].mean()),
                    mean_live=_mean(live[chosen]) or 0.0,
                    mean_candidate=_mean(candidate[chosen]) or 0.0,
                    labels=pair.labels if pair is not None else 0,
                    metric_live=pair.live if pair is not None and is_judged else None,
                    metric_candidate=pair.candidate if pair is not None and is_judged else None,
                )
            )
    overall = float(flips.mean()) if len(flips) else 0.0
    above = [one for one in found if one.flips > overall]
    return sorted(above, key=lambda one: (overall - one.flips) * one.rows**0.5)[:_MOST_SLICES]


def _cut(values: pl.Series) -> list[tuple[str, Array]]:
    """Cut a column into its values where they are few, a numeric one into quarters."""
    distinct = values.n_unique()
    if distinct <= 1:
        return []
    if distinct <= _MOST_VALUES:
        return [(_name(value), values.eq_missing(value).to_numpy()) for value in values.unique(maintain_order=True)]
    if not values.dtype.is_numeric():
        return []
    numbers = values.cast(pl.Float64).to_numpy()
    edges = np.unique(np.nanquantile(numbers, [0.0, 0.25, 0.5, 0.75, 1.0]))
    pieces: list[tuple[str, Array]] = []
    for low, high in itertools.pairwise(edges):
        below = numbers <= high if high == edges[-1] else numbers < high
        pieces.append((f"{low:.4g} to {high:.4g}", np.logical_and(numbers >= low, below)))
    return pieces


def _name(value: Any) -> str:
    if value is None:
        return "missing"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _missing(answers: Array) -> Array:
    return np.asarray(np.isnan(answers.reshape(len(answers), -1)).any(axis=1))


def _mean(answers: Array) -> float | None:
    if not len(answers):
        return None
    return float(answers.mean()) if answers.ndim == 1 else float(answers.max(axis=1).mean())


def tell_verdict(live: str, candidate: str, reproduction: Reproduction, comparison: Comparison | None) -> str:
    """Say in a few sentences what a replay came to."""
    if not reproduction.rows:
        proof = f"Nothing that {live} answered itself is in this time, so the replay could not be tried on it first."
    elif reproduction.is_proven:
        proof = f"Asked again, {live} gave all {reproduction.rows:,} of its logged answers alike."
    else:
        proof = (
            f"Asked again, {live} gave only {reproduction.same:,} of its {reproduction.rows:,} logged answers alike: "
            f"{'; '.join(reproduction.reasons)}."
        )
    if comparison is None:
        return f"{proof} So nothing can be said of {candidate}."
    if not comparison.rows:
        return f"{proof} {candidate} answers none of the requests."
    share = f"{comparison.flips:,} of {comparison.rows:,} ({comparison.flip_share:.1%})"
    told = [proof, f"{candidate} decides {share} otherwise."]
    if comparison.refused:
        reason = max(comparison.reasons, key=lambda key: comparison.reasons[key], default="")
        told.append(f"It would refuse {comparison.refused:,} requests that were answered ({reason}).")
    told.append(_tell_metric(comparison))
    latency = comparison.latency
    if latency is not None and latency.candidate_p50_ms > 1.5 * latency.live_p50_ms:
        told.append(f"A request takes {latency.candidate_p50_ms:.3g} ms instead of {latency.live_p50_ms:.3g} ms.")
    return " ".join(told)


def _tell_metric(comparison: Comparison) -> str:
    pair = comparison.metric
    if pair is None or pair.gain is None:
        return "None of these requests has turned out yet, so which is right cannot be told."
    figures = f"{pair.candidate:.4g} against {pair.live:.4g}"
    told = f"By the {pair.labels:,} labels that have come, its {pair.name} is {figures}"
    if pair.gain == 0:
        return f"{told}."
    if pair.labels < _FEWEST_LABELS:
        return f"{told}, which are too few to tell."
    if pair.stderr is not None and abs(pair.gain) < _CLEAR * pair.stderr:
        return f"{told}, which may be chance."
    return f"{told}: {'better' if pair.gain > 0 else 'worse'}."
