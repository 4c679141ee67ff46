"""Writes a replay of real traffic as one HTML file that needs nothing else: no network, no other file."""

from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path

from flyball.core.files import write_bytes
from flyball.domain.loop.traffic import Comparison, TrafficReplay


def write_traffic_report(path: Path, result: TrafficReplay) -> None:
    """Write the page; it appears whole or not at all.

    Args:
        path: The file; folders on the way are made.
        result: What the replay found.

    Raises:
        DiskFullError: No space is left.
    """
    page = (resources.files("flyball.workspace") / "report_page.html").read_text(encoding="utf-8")
    head, _, _ = page.partition("<body>")
    title = f"{result.endpoint}: {result.candidate} before real traffic"
    body = [
        f"<header><h1>{escape(title)}</h1>",
        f'<p class="soft">{result.since:%-d %B %Y} to {result.until:%-d %B %Y}, '
        f"{result.replayed:,} of {result.requests:,} answered requests"
        + "".join(f"; left out: {count:,} answered by {escape(who)}" for who, count in result.left_out.items())
        + "</p>",
        f'<p class="verdict">{escape(result.verdict)}</p></header>',
        _draw_proof(result),
    ]
    if result.comparison is not None and result.comparison.rows:
        body += [_draw_figures(result, result.comparison), _draw_slices(result.comparison)]
        body += [_draw_notes(result.comparison)]
    footer = "Written by flyball replay. This file holds everything it shows and loads nothing."
    body.append(f'<footer class="soft small">{footer}</footer>')
    html = f"{head.replace('@@title@@', escape(title))}<body>\n<main>\n{''.join(body)}\n</main>\n</body>\n</html>\n"
    write_bytes(path, html.encode(), durable=False)


def _draw_proof(result: TrafficReplay) -> str:
    proof = result.reproduction
    told = [
        f"{proof.same:,} of {proof.rows:,} answers that {escape(result.live)} had given came out alike; the largest "
        f"difference is {proof.largest_difference:.3g}."
    ]
    told += [f"{escape(reason)}." for reason in proof.reasons]
    if proof.examples and not proof.is_proven:
        told.append(f"For example: {escape(', '.join(proof.examples))}.")
    return _section("The live version on itself", "".join(f"<p>{text}</p>" for text in told))


def _draw_figures(result: TrafficReplay, comparison: Comparison) -> str:
    rows = [("mean answer", _figure(comparison.mean_live), _figure(comparison.mean_candidate))]
    rows.append(("decided otherwise", "", f"{comparison.flips:,} ({comparison.flip_share:.1%})"))
    if comparison.metric is not None:
        pair = comparison.metric
        rows.append((f"{pair.name} ({pair.labels:,} labels)", _figure(pair.live), _figure(pair.candidate)))
    if comparison.latency is not None:
        one = comparison.latency
        rows.append(("one request, median", f"{one.live_p50_ms:.3g} ms", f"{one.candidate_p50_ms:.3g} ms"))
        rows.append(("one request, 99th percentile", f"{one.live_p99_ms:.3g} ms", f"{one.candidate_p99_ms:.3g} ms"))
    return _section("Both on the same requests", _table(("", result.live, result.candidate), rows))


def _draw_slices(comparison: Comparison) -> str:
    if not comparison.slices:
        return ""
    metric = comparison.metric.name if comparison.metric is not None else None
    heads = ["field", "value", "requests", "otherwise", "mean live", "mean candidate"]
    heads += [f"{metric} live", f"{metric} candidate"] if metric else []
    rows = []
    for one in comparison.slices:
        cells = [one.field, one.value, f"{one.rows:,}", f"{one.flips:.1%}"]
        cells += [_figure(one.mean_live), _figure(one.mean_candidate)]
        cells += [_figure(one.metric_live), _figure(one.metric_candidate)] if metric else []
        rows.append(cells)
    return _section("Where decisions differ", _table(heads, rows), f"A decision differs when {comparison.decides}.")


def _draw_notes(comparison: Comparison) -> str:
    told = [f"{count:,} requests would be refused: {escape(reason)}." for reason, count in comparison.reasons.items()]
    told += [
        f"{escape(view)}: for {count:,} requests features come from its history, since they were not served then."
        for view, count in comparison.looked_back.items()
    ]
    return _section("Mind", "".join(f"<p>{text}</p>" for text in told)) if told else ""


def _section(title: str, content: str, note: str = "") -> str:
    told = f'<p class="soft small">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{told}{content}</section>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    header = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>'


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
