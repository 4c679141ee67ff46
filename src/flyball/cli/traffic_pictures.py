"""How a replay of real traffic looks to a person in a terminal."""

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from flyball.cli.pictures import render

if TYPE_CHECKING:
    from flyball.domain.loop.traffic import Comparison, TrafficReplay


def draw_traffic(result: "TrafficReplay") -> str:
    """Draw what a candidate would have done, the verdict first."""
    who = ", ".join(f"{count:,} by {version}" for version, count in result.answered_by.items())
    lines = [
        f"{result.candidate} before the traffic of {result.endpoint}, "
        f"{result.since:%Y-%m-%d} to {result.until:%Y-%m-%d}",
        f"{result.replayed:,} of {result.requests:,} answered requests replayed ({who})",
        *(f"left out: {count:,} answered by {who}" for who, count in result.left_out.items()),
        "",
        result.verdict,
    ]
    if result.reproduction.examples and not result.reproduction.is_proven:
        lines += ["", f"for example: {', '.join(result.reproduction.examples)}"]
    if result.comparison is not None and result.comparison.rows:
        lines += ["", render(_draw_figures(result, result.comparison)).rstrip()]
        if result.comparison.slices:
            lines += ["", render(_draw_slices(result.comparison)).rstrip()]
        lines += [f"{count:,} requests refused: {reason}" for reason, count in result.comparison.reasons.items()]
        lines += [
            f"{view}: {count:,} requests with features from its history, since they were not served then"
            for view, count in result.comparison.looked_back.items()
        ]
    return "\n".join(lines)


def _draw_figures(result: "TrafficReplay", comparison: "Comparison") -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    table.add_column(result.live, justify="right")
    table.add_column(result.candidate, justify="right")
    table.add_row("mean answer", figure(comparison.mean_live), figure(comparison.mean_candidate))
    table.add_row("decided otherwise", "", f"{comparison.flips:,} ({comparison.flip_share:.1%})")
    if comparison.metric is not None:
        pair = comparison.metric
        table.add_row(f"{pair.name} ({pair.labels:,} labels)", figure(pair.live), figure(pair.candidate))
    if comparison.latency is not None:
        latency = comparison.latency
        table.add_row("one request, p50", f"{latency.live_p50_ms:.3g} ms", f"{latency.candidate_p50_ms:.3g} ms")
        table.add_row("one request, p99", f"{latency.live_p99_ms:.3g} ms", f"{latency.candidate_p99_ms:.3g} ms")
    return table


def _draw_slices(comparison: "Comparison") -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=f"where decisions differ ({comparison.decides})", title_justify="left")
    for name in ("field", "value", "requests", "otherwise", "mean live", "mean candidate"):
        table.add_column(name, justify="left" if name in ("field", "value") else "right")
    metric = comparison.metric.name if comparison.metric is not None else None
    if metric is not None:
        table.add_column(f"{metric} live", justify="right")
        table.add_column(f"{metric} candidate", justify="right")
    for one in comparison.slices:
        cells = [one.field, one.value, f"{one.rows:,}", f"{one.flips:.1%}"]
        cells += [figure(one.mean_live), figure(one.mean_candidate)]
        cells += [figure(one.metric_live), figure(one.metric_candidate)] if metric is not None else []
        table.add_row(*cells)
    return table


def figure(value: float | None) -> str:
    """Write a figure with four digits."""
    return "-" if value is None else f"{value:.4g}"
