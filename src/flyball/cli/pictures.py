"""How results look to a person in a terminal."""

from collections.abc import Iterator, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from flyball.core.durations import format_instant
from flyball.core.hashing import shorten

if TYPE_CHECKING:  # each command loads what it draws, and nothing of what the others draw
    from flyball.domain.loop.reports import ReplayReport
    from flyball.domain.registry.aliases import AliasMove
    from flyball.workspace.histories import HistoryMoment
    from flyball.workspace.status import ProjectStatus
    from flyball.workspace.tracing import Trace

_WIDTH = 110
_MOVES_SHOWN = 10


def draw_trace(trace: "Trace") -> str:
    """Draw a trace as a tree, from the answer down to the data."""
    asked = trace.prediction
    tree = Tree(Text(f"prediction {asked.id}", style="bold"))
    answer = f"{asked.prediction:.6g}" if asked.prediction is not None else "none"
    tree.add(f"answered {answer} at {format_instant(asked.at)} ({asked.status}, {asked.latency_us / 1000:.1f} ms)")
    for reason in asked.reasons:
        tree.add(f"because {reason}")
    for label in trace.labels:
        tree.add(f"turned out {label.value} (known {format_instant(label.known_at)}, from {label.source})")
    request = tree.add("request")
    request.add(_pairs(asked.request))
    features = tree.add("features as served")
    features.add(_pairs(asked.features))
    if asked.explanation is not None:
        branch = tree.add(f"explained: base {asked.explanation.base:.4g} on the scale {asked.explanation.scale}")
        branch.add(_pairs({name: f"{value:+.4g}" for name, value in asked.explanation.attributions.items()}))
    for view, use in asked.views.items():
        features.add(f"{view}@{use['version']}, of {_instant_of(use.get('event_time_us'))}")
    place = tree.add(f"endpoint {asked.endpoint}, variant {asked.variant}")
    if asked.node is not None:
        place.add(f"answered by {asked.node}")
    if trace.rollout is not None:
        place.add(
            f"rollout of {trace.rollout.candidate} in stage {trace.rollout.stage}; it ended {trace.rollout.ended}"
        )
    _add_version(tree, trace)
    _add_run(tree, trace)
    for found in trace.snapshots:
        kept = found.snapshot
        branch = tree.add(
            f"data {kept.table}: snapshot {shorten(kept.id)}, {kept.rows:,} rows, "
            f"{_instant(kept.time_from)} to {_instant(kept.time_to)}"
        )
        for report in found.reports:
            broken = [result.message for result in report.results if not result.passed]
            branch.add(
                f"expectations: {'passed' if report.passed else 'failed'}, {report.quarantined} rows quarantined"
            )
            for message in broken:
                branch.add(message)
    return render(tree)


def _add_version(tree: Tree, trace: "Trace") -> None:
    version = trace.version
    if version is None:
        tree.add("no model was asked")
        return
    branch = tree.add(f"model {version.ref}, package {shorten(version.package_digest)}, {_figures(version.metrics)}")
    for gate in trace.evidence.results if trace.evidence is not None else ():
        branch.add(f"gate {gate.name}: {'met' if gate.passed else 'not met'} ({gate.reason})")
    for approval in trace.approvals:
        who = approval.user or "the policy auto"
        void = ", void since the evidence changed" if approval.is_void else ""
        branch.add(
            f"approved by {who} at {format_instant(approval.approved_at)}, evidence {shorten(approval.evidence)}{void}"
        )


def _add_run(tree: Tree, trace: "Trace") -> None:
    if trace.run is None:
        return
    run, facts = trace.run.run, trace.run.run.facts
    branch = tree.add(f"run {run.id} of {run.pipeline} by {run.actor} at {format_instant(run.started_at)}")
    for event in trace.cause:
        what = event["data"].get("reason") or event["data"].get("message") or event["kind"]
        branch.add(f"caused by event {event['event']}: {what}")
    if trace.run.params:
        branch.add(f"parameters: {_pairs(trace.run.params)}")
    if facts is not None:
        code = facts.code
        if code is None:
            branch.add("code: not under version control; the package carries the source")
        else:
            changed = f", {len(code.changed)} files changed (diff {shorten(code.diff)})" if code.diff else ""
            branch.add(f"code: commit {shorten(code.commit)}{changed}")
        branch.add(f"environment {shorten(facts.environment)}: Python {facts.python}, Flyball {facts.flyball}")


def draw_history(moment: "HistoryMoment") -> str:
    """Say what was live."""
    lines = [f"{moment.name} at {format_instant(moment.at)}"]
    if moment.live is None:
        gone = f"nothing was live since {_instant(moment.since)} ({moment.reason}, by {moment.actor})"
        lines.append(f"  {gone if moment.since is not None else 'nothing was live yet'}")
    else:
        lines.append(f"  live: {moment.live.ref} since {_instant(moment.since)} ({moment.reason}, by {moment.actor})")
        if moment.live.metrics:
            lines.append(f"  metrics: {_figures(moment.live.metrics)}")
        lines.extend(
            f"  approved by {found.user or 'the policy auto'}" for found in moment.approvals if not found.is_void
        )
    if moment.rollout_candidate is not None:
        lines.append(f"  on its way: {moment.rollout_candidate}, {moment.rollout_state}")
    lines += [
        f"  {alias}: {found.version} since {_instant(found.since)} ({found.reason}, by {found.actor})"
        for alias, found in moment.aliases.items()
        if alias != "champion"
    ]
    return "\n".join([*lines, *_draw_moves(moment.moves)])


def _draw_moves(moves: "Sequence[AliasMove]") -> Iterator[str]:
    if moves:
        yield "  moves of aliases, the newest first"
    for move in list(reversed(moves))[:_MOVES_SHOWN]:
        before, after = ("nothing" if number is None else str(number) for number in (move.previous, move.number))
        yield f"    {_instant(move.event_time)}  {move.alias}: {before} -> {after} ({move.reason}, by {move.actor})"
    if len(moves) > _MOVES_SHOWN:
        yield f"    and {len(moves) - _MOVES_SHOWN:,} before them; --json tells all"


def draw_status(status: "ProjectStatus") -> str:
    """Draw a project's status."""
    return render(*_status_parts(status))


def _status_parts(status: "ProjectStatus") -> Iterator[Any]:
    table = Table(title=f"project {status.project}", title_justify="left", expand=False)
    for heading in ("endpoint", "live", "since", "rollout", "predictions", "alerts"):
        table.add_column(heading, overflow="fold")
    for found in status.endpoints:
        table.add_row(
            found.name,
            found.live or "nothing yet",
            _instant(found.live_since),
            found.rollout or "-",
            f"{found.predictions:,}",
            "\n".join(found.alerts) or "none",
        )
    yield table
    for found in status.endpoints:
        if found.is_behind:
            yield Text(
                f"{found.name}: its latest predictions are in the log and counted once flyball up has sealed them"
            )
        for ref in found.awaiting_approval:
            yield Text(f"waits for you: flyball approve {ref} --as USER", style="bold")
        for ref, reasons in found.rejected.items():
            yield Text(f"{ref} is rejected: {'; '.join(reasons) or 'who had to sign it said no'}")
        if found.live is None:
            yield Text(f"{found.name} has no model yet; make one with: flyball run PIPELINE")
    for run in status.runs:
        error = f": {run.error}" if run.error else ""
        yield Text(f"run {run.id} {run.pipeline} {run.status.value} {format_instant(run.started_at)}{error}")


def draw_comparison(report: "ReplayReport") -> str:
    """Draw the policies of a replay beside each other."""
    table = Table(title=f"{report.project}: {_instant(report.start)} to {_instant(report.end)}", title_justify="left")
    for heading in ("policy", f"mean {report.metric}", "retrainings", "promoted", "rolled back", "alerts", "training"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for policy in report.policies:
        mean = f"{policy.mean_performance:.4f}" if policy.mean_performance is not None else "-"
        table.add_row(
            policy.name,
            mean,
            str(policy.retrainings),
            str(policy.promotions),
            str(policy.rollbacks),
            str(policy.alerts),
            f"{policy.training_s:.1f} s",
        )
    return render(table)


def render(*parts: Any) -> str:
    """Return rich things as text of a fixed width, without colours."""
    console = Console(file=StringIO(), width=_WIDTH, force_terminal=False, highlight=False, emoji=False)
    for part in parts:
        console.print(part, markup=False)
    return console.file.getvalue().rstrip()  # type: ignore[attr-defined,no-any-return]


def _pairs(values: dict[str, Any]) -> Text:
    return Text(", ".join(f"{name}={_short(value)}" for name, value in values.items()) or "none")


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _figures(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())


def _instant(instant: Any) -> str:
    return format_instant(instant) if instant is not None else "-"


def _instant_of(us: int | None) -> str:
    from flyball.core.durations import from_us

    return format_instant(from_us(us)) if us is not None else "nothing stored"
