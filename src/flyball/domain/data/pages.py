"""Profiles, comparisons and reports as HTML pages that need nothing else: no network, no other file, no script."""

from collections.abc import Sequence
from html import escape

import polars as pl

from flyball.domain.data.diffs import TableDiff, name_cells
from flyball.domain.data.profiles import ColumnProfile, Profile
from flyball.domain.data.reports import Report
from flyball.domain.data.schemas import dtype_name
from flyball.domain.data.wording import format_number, format_value

# Okabe and Ito's blue and orange, which the colour-blind can tell apart (jfly.uni-koeln.de/color, 2008).
_BEFORE, _AFTER = "#0072b2", "#e69f00"
_WIDTH, _HEIGHT, _LEAST_BAR = 320, 96, 1.0
_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}p.note{opacity:.75;margin:.2rem 0 1rem}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(22rem,1fr));gap:1rem}
.card{border:1px solid #8884;border-radius:8px;padding:.75rem 1rem}
.card h3{margin:0;font-size:1rem}.card h3{overflow-wrap:anywhere}
.card p{margin:.15rem 0;font-size:.85rem;opacity:.8}svg{width:100%;height:auto;display:block;margin:.5rem 0 .25rem}
table{border-collapse:collapse;width:100%;font-size:.9rem}
td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #8883}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.bad{color:#c0392b;font-weight:600}.ok{color:#1e8449}.mild{color:#b9770e}
.key{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin:0 .3em 0 1em}
"""


def draw_profile(frame: pl.DataFrame, *, table: str, note: str) -> str:
    """Return a page with each column's distribution, missing values and range.

    Args:
        frame: The rows.
        table: The table's name.
        note: What the rows are, in words.
    """
    profile = Profile.of(frame)
    cards = [_card(name, column, frame.get_column(name)) for name, column in profile.columns.items()]
    head = f"<p class='note'>{escape(note)}: {frame.height:,} rows, {frame.width} columns</p>"
    return _page(f"{table}: profile", head + f"<div class='cards'>{''.join(cards)}</div>")


def draw_diff(diff: TableDiff) -> str:
    """Return a page that shows what changed between two sets of rows."""
    changes = diff.changes
    rows = (
        f"<p class='note'>{escape(diff.before)} ({diff.rows[0]:,} rows) against {escape(diff.after)} "
        f"({diff.rows[1]:,} rows)<span class='key' style='background:{_BEFORE}'></span>before"
        f"<span class='key' style='background:{_AFTER}'></span>after</p>"
        f"<p>{changes.added:,} rows came, {changes.removed:,} went, {changes.changed:,} changed"
        f"{' (by ' + escape(', '.join(changes.key)) + ')' if changes.key else ''}.</p>"
    )
    schema = "".join(f"<li>{escape(change)}</li>" for change in diff.schema)
    values = "".join(
        f"<tr><td>{escape(', '.join(f'{k}={format_value(v)}' for k, v in example.key.items()))}</td>"
        f"<td>{escape(example.column)}</td><td class='n'>{escape(format_value(example.before))}</td>"
        f"<td class='n'>{escape(format_value(example.after))}</td></tr>"
        for example in changes.examples
    )
    table = (
        f"<h2>Changed values</h2><table><tr><th>row<th>column<th class='n'>before<th class='n'>after{values}</table>"
    )
    cards = []
    for change in diff.columns:
        before, after = change.mean
        means = "" if before is None or after is None else f", mean {format_number(before)} → {format_number(after)}"
        cards.append(
            f"<div class='card'><h3>{escape(change.column)}</h3><p>{change.moved:.1%} of the rows lie elsewhere{means}"
            f"; missing {change.nulls[0]:.1%} → {change.nulls[1]:.1%}</p>{_bars(change.cells, change.shares)}</div>"
        )
    body = rows + (f"<h2>Columns</h2><ul>{schema}</ul>" if schema else "") + (table if values else "")
    return _page(
        f"{diff.table}: what changed", f"{body}<h2>Distributions</h2><div class='cards'>{''.join(cards)}</div>"
    )


def draw_report(report: Report, changes: Sequence[str] = ()) -> str:
    """Return a page with the result of each expectation, broken ones first.

    Args:
        report: How the table fared.
        changes: What changed since the report before; see `diff_reports`.
    """
    lines = []
    for result in sorted(report.results, key=lambda result: result.passed):
        kind = "ok" if result.passed else {"fail": "bad", "quarantine": "mild", "warn": "mild"}[result.severity]
        word = (
            "holds"
            if result.passed
            else {"fail": "fails", "quarantine": "quarantined", "warn": "warned"}[result.severity]
        )
        lines.append(
            f"<tr><td class='{kind}'>{word}</td><td>{escape(result.message)}</td>"
            f"<td class='n'>{result.violations:,}</td></tr>"
        )
    state = "<span class='ok'>passed</span>" if report.passed else "<span class='bad'>failed</span>"
    since = "".join(f"<li>{escape(change)}</li>" for change in changes)
    return _page(
        f"{report.table}: data tests",
        f"<p class='note'>snapshot {escape(report.snapshot_id[:12])}: {report.rows:,} rows, {report.quarantined:,} "
        f"quarantined; {state}</p>"
        + (f"<h2>Since the report before</h2><ul>{since}</ul>" if since else "")
        + f"<h2>Expectations</h2><table><tr><th>state<th>expectation<th class='n'>violations{''.join(lines)}</table>",
    )


def _number_or_nothing(value: float | None) -> str:
    return "" if value is None else format_number(value)


def _card(name: str, profile: ColumnProfile, values: pl.Series) -> str:
    missing = profile.nulls / profile.n if profile.n else 0.0
    facts = [f"{dtype_name(name, values.dtype)}, {values.n_unique():,} distinct values, {missing:.1%} missing"]
    low, high, mean, std = map(_number_or_nothing, (profile.min, profile.max, profile.mean, profile.std))
    if mean and std:
        facts.append(f"{low} to {high}, mean {mean}, standard deviation {std}")
    shares: list[tuple[float, ...]] = [(cell / profile.n if profile.n else 0.0,) for cell in profile.cells]
    if profile.kind == "numeric":
        cells, shares = _even_cells(values, profile)
    elif profile.kind == "instant":
        given = values.drop_nulls()
        facts.append(f"{format_value(given.min())} to {format_value(given.max())}")
        cells, shares = _even_cells(given.to_physical(), None)
    else:
        cells = name_cells(profile)
    told = "".join(f"<p>{escape(fact)}</p>" for fact in facts)
    return f"<div class='card'><h3>{escape(name)}</h3>{told}{_bars(cells, shares)}</div>"


def _even_cells(values: pl.Series, profile: ColumnProfile | None) -> tuple[list[str], list[tuple[float, ...]]]:
    """Cut the range into even cells: a picture shows the shape, where the profile's cells hold even shares."""
    numbers = values.cast(pl.Float64).drop_nulls().drop_nans()
    numbers = numbers.filter(numbers.is_finite())
    if not len(numbers):
        return [], []
    counted = numbers.hist(bin_count=24)
    rows, limits = counted["count"].to_list(), counted["breakpoint"].to_list()
    names = [f"up to {format_number(limit)}" for limit in limits] if profile is not None else [""] * len(rows)
    return names, [(count / len(values),) for count in rows]


def _bars(cells: Sequence[str], shares: Sequence[Sequence[float]]) -> str:
    if not cells:
        return "<p>nothing to draw</p>"
    most = max((share for pair in shares for share in pair), default=0.0) or 1.0
    slot = _WIDTH / len(cells)
    width = slot * 0.86 / max(1, len(shares[0]))
    drawn = []
    for number, (cell, pair) in enumerate(zip(cells, shares, strict=True)):
        for side, share in enumerate(pair):
            height = max(share / most * (_HEIGHT - 4), _LEAST_BAR if share else 0.0)
            drawn.append(
                f"<rect x='{number * slot + slot * 0.07 + side * width:.1f}' y='{_HEIGHT - height:.1f}' "
                f"width='{width:.1f}' height='{height:.1f}' fill='{(_BEFORE, _AFTER)[side]}'>"
                f"<title>{escape(cell)}: {share:.1%}</title></rect>"
            )
    ends = f"<p>{escape(cells[0])}{' … ' + escape(cells[-1]) if len(cells) > 1 else ''}</p>" if cells[0] else ""
    return f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img'>{''.join(drawn)}</svg>{ends}"


def _page(title: str, body: str) -> str:
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1>{body}"
        "<p class='note'>Written by flyball data. This file holds everything it shows.</p></html>\n"
    )
