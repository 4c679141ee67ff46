"""Writes a replay's comparison as one HTML file that needs nothing else: no network, no other file."""

import json
import re
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from flyball.core.encoding import to_plain
from flyball.core.files import write_bytes
from flyball.domain.loop.reports import MarkKind, PolicyResult, ReplayReport

# Okabe and Ito's colours, which the colour-blind can tell apart (jfly.uni-koeln.de/color, 2008), without the yellow.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7d8a84")
_KINDS: dict[MarkKind, dict[str, str]] = {
    MarkKind.ALERT: {"label": "Alert", "color": "#e69f00", "symbol": "triangle-up"},
    MarkKind.RETRAINING: {"label": "Retraining", "color": "#0072b2", "symbol": "circle"},
    MarkKind.REJECTED: {"label": "Rejected", "color": "#7d8a84", "symbol": "x"},
    MarkKind.ROLLOUT: {"label": "Rollout", "color": "#56b4e9", "symbol": "triangle-right"},
    MarkKind.PROMOTED: {"label": "Promoted", "color": "#009e73", "symbol": "star"},
    MarkKind.ROLLBACK: {"label": "Rollback", "color": "#d1495b", "symbol": "diamond"},
}


def write_report(path: Path, result: ReplayReport) -> None:
    """Write the page; it appears whole or not at all.

    Args:
        path: The file; folders on the way are made.
        result: What the replay found.

    Raises:
        DiskFullError: No space is left.
    """
    parts = {
        "title": escape(f"{result.project}: replay"),
        "heading": escape(_tell_heading(result)),
        "period": f"{result.start:%-d %B %Y} to {result.end:%-d %B %Y}",
        "verdict": escape(_tell_verdict(result)),
        "policies_note": escape(_tell_table(result)),
        "table": _draw_table(result),
        "performance_note": escape(_tell_performance(result)),
        "threshold": f"{result.drift_threshold:g}",
        "footer": "Written by flyball replay. This file holds everything it shows and loads nothing.",
        "data": _embed(_page_data(result)),
        "script": _read("report_page.js"),
        "plotly": _read_plotly(),
    }
    page = re.sub(r"@@(\w+)@@", lambda place: parts[place[1]], _read("report_page.html"))
    write_bytes(path, page.encode(), durable=False)


def _tell_heading(result: ReplayReport) -> str:
    replay = f"Replay of {result.endpoint}"
    return replay if result.project == result.endpoint else f"{result.project}: {replay[0].lower()}{replay[1:]}"


def _page_data(result: ReplayReport) -> dict[str, Any]:
    best = result.find_best()
    liveliest = max(result.policies, key=lambda policy: (_liveliness(policy), policy is best), default=None)
    return {
        "start": result.start.isoformat(),
        "end": result.end.isoformat(),
        "metric": _metric(result),
        "better": result.better,
        "limit": result.limit,
        "drift_threshold": result.drift_threshold,
        "best": best.name if best else None,
        "shown": next((i for i, policy in enumerate(result.policies) if policy is liveliest), 0),
        "kinds": {kind.value: style for kind, style in _KINDS.items()},
        "policies": [
            {
                "name": policy.name,
                "color": _COLORS[place % len(_COLORS)],
                "performance": to_plain(policy.performance),
                "marks": [{**to_plain(mark), "day": f"{mark.at:%-d %b %Y}"} for mark in policy.marks],
                "drift": to_plain(policy.drift),
            }
            for place, policy in enumerate(result.policies)
        ],
    }


def _liveliness(policy: PolicyResult) -> tuple[bool, bool]:
    """Prefer a policy whose story shows a rollback, then one with promotions."""
    return policy.rollbacks > 0, policy.promotions > 0


def _metric(result: ReplayReport) -> str:
    """Write short names as the field does: AUC, RMSE."""
    return result.metric.upper() if len(result.metric) <= 5 else result.metric.replace("_", " ")


def _tell_verdict(result: ReplayReport) -> str:
    best = result.find_best()
    if best is None or best.mean_performance is None:
        return "No labels became known in this time, so the policies cannot be compared by performance."
    mean = f"a mean {_metric(result)} of {_figure(best.mean_performance)}"
    if len(result.policies) == 1:
        return f"The policy “{best.name}” reached {mean}."
    told = f"The policy “{best.name}” did best, with {mean}"
    never = next((policy for policy in result.policies if policy.name == "never"), None)
    if never is None or never is best or never.mean_performance is None:
        return f"{told}."
    gap = abs(best.mean_performance - never.mean_performance)
    return f"{told}, {_figure(gap)} better than never retraining; it took {_count(best.retrainings, 'retraining')}."


def _tell_table(result: ReplayReport) -> str:
    if not result.metric:
        return "Each row is one life of the same endpoint under another policy of retraining."
    return (
        f"Each row is one life of the same endpoint under another policy of retraining; {result.better} "
        f"{_metric(result)} is better."
    )


def _tell_performance(result: ReplayReport) -> str:
    return (
        f"{_metric(result) or 'Performance'} by the time of the prediction, with all labels known at the end. "
        "Stars mark a new version going live, diamonds a rollback."
    )


def _draw_table(result: ReplayReport) -> str:
    has_cost = any(policy.error_cost is not None for policy in result.policies)
    metric = escape(_metric(result) or "performance")
    heads = ["Policy", f"Mean {metric}", "Worst month", "Retrained", "Went live", "Rolled back", "Alerts"]
    heads += ["Predictions", "Labels", "Set aside", "Training"] + (["Cost of errors"] if has_cost else [])
    best = result.find_best()
    rows = [
        _draw_row(result, policy, _COLORS[place % len(_COLORS)], is_best=policy is best, has_cost=has_cost)
        for place, policy in enumerate(result.policies)
    ]
    header = "".join(f"<th>{head}</th>" for head in heads)
    return f"<table><thead><tr>{header}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _draw_row(result: ReplayReport, policy: PolicyResult, color: str, *, is_best: bool, has_cost: bool) -> str:
    worst = result.find_worst_period(policy)
    cells = [
        f'<span class="dot" style="background:{color}"></span>{escape(policy.name)}',
        _figure(policy.mean_performance),
        "–" if worst is None else f"{_figure(worst.value)} ({worst.at:%b %Y})",
        *(f"{count:,}" for count in (policy.retrainings, policy.promotions, policy.rollbacks, policy.alerts)),
        *(f"{count:,}" for count in (policy.predictions, policy.labels, policy.refused)),
        f"{policy.training_s:,.1f} s",
    ]
    if has_cost:
        cells.append("–" if policy.error_cost is None else f"{policy.error_cost:,.0f}")
    return f"<tr{' class=best' if is_best else ''}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _embed(data: dict[str, Any]) -> str:
    """Write JSON that cannot end the element it stands in."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _read(name: str) -> str:
    return (resources.files("flyball.workspace") / name).read_text(encoding="utf-8")


def _read_plotly() -> str:
    # The file alone: importing plotly costs far more than reading it.
    return (resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
