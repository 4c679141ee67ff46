"""The replay's page shows what happened, needs nothing else, and cannot be broken by names."""

import math
import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flyball.domain.loop.reports import (
    DriftPoint,
    Mark,
    MarkKind,
    PerformancePoint,
    PolicyResult,
    ReplayReport,
)
from flyball.workspace.report import write_report

START = datetime(2025, 1, 1, tzinfo=UTC)
END = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = ("income", "amount", "term_months", "age", "late_share", "mean_days_late", "burden", "channel", "prediction")


def make_policy(name: str, *, recovers: bool = False, seed: int = 1) -> PolicyResult:
    dice = random.Random(seed)
    performance = [
        PerformancePoint(
            at=datetime(2025, month, 1, tzinfo=UTC),
            value=dice.gauss(0.82, 0.008) if month < 10 or (recovers and month == 12) else dice.gauss(0.55, 0.02),
            labels=3_000,
        )
        for month in range(1, 13)
    ]
    days = [START + timedelta(days=day) for day in range(0, 365, 2)]
    drift = {column: [DriftPoint(at=day, psi=_psi(column, day, recovers, dice)) for day in days] for column in COLUMNS}
    return PolicyResult(
        name=name,
        performance=performance,
        marks=_marks() if recovers else [_mark(5, 4, MarkKind.ALERT, "income has drifted, PSI 0.41", 200)],
        drift=drift,
        mean_performance=sum(point.value or 0 for point in performance) / 12,
        predictions=36_418,
        labels=33_020,
        refused=344,
        retrainings=9 if recovers else 0,
        promotions=5 if recovers else 0,
        rollbacks=1 if recovers else 0,
        alerts=6 if recovers else 3,
        training_s=9.4 if recovers else 0.9,
    )


def make_report(**changes: object) -> ReplayReport:
    values = {
        "project": "credit",
        "endpoint": "credit",
        "start": START,
        "end": END,
        "metric": "auc",
        "better": "higher",
        "limit": 0.72,
        "policies": [
            make_policy("never"),
            make_policy("every 30d", recovers=True, seed=2),
            make_policy("drifted", seed=3),
            make_policy("degraded", recovers=True, seed=4),
        ],
    }
    return ReplayReport(**{**values, **changes})  # type: ignore[arg-type]


def _psi(column: str, day: datetime, recovers: bool, dice: random.Random) -> float:
    base = abs(dice.gauss(0.03, 0.015))
    if column in ("income", "burden", "channel") and day >= datetime(2025, 5, 1, tzinfo=UTC):
        is_learned = recovers and day >= datetime(2025, 8, 21, tzinfo=UTC)
        base += 0.02 if is_learned else 0.3
    if column in ("income", "burden") and datetime(2025, 8, 4, tzinfo=UTC) <= day < datetime(2025, 8, 14, tzinfo=UTC):
        base += 2.5 * math.exp(-((day.day - 9) ** 2) / 40)
    return base


def _mark(month: int, day: int, kind: MarkKind, text: str, lasts_days: float | None = None) -> Mark:
    at = datetime(2025, month, day, 3, tzinfo=UTC)
    return Mark(at=at, kind=kind, text=text, ends_at=None if lasts_days is None else at + timedelta(days=lasts_days))


def _marks() -> list[Mark]:
    return [
        _mark(3, 2, MarkKind.RETRAINING, "every 60d"),
        _mark(3, 2, MarkKind.ROLLOUT, "credit-risk/2: shadow for 1d, canary 20% for 2d, canary 50% for 2d", 5),
        _mark(3, 7, MarkKind.PROMOTED, "credit-risk/2 is live"),
        _mark(5, 4, MarkKind.ALERT, "income has drifted: PSI 0.41 over 3 days, limit 0.2", 109),
        _mark(6, 16, MarkKind.ALERT, "auc is 0.18 over 1,412 labels of 14 days, limit 0.72", 5),
        _mark(6, 17, MarkKind.RETRAINING, "performance:auc: auc is 0.18"),
        _mark(6, 17, MarkKind.ROLLOUT, "credit-risk/3: shadow for 1d", 1),
        _mark(6, 18, MarkKind.ROLLBACK, "credit-risk/3: the mean prediction is 0.86, against 0.11 of credit-risk/2"),
        _mark(8, 4, MarkKind.ALERT, "12% of requests are quarantined, limit 2%", 10),
        _mark(8, 16, MarkKind.RETRAINING, "every 60d"),
        _mark(8, 16, MarkKind.ROLLOUT, "credit-risk/4", 5),
        _mark(8, 21, MarkKind.PROMOTED, "credit-risk/4 is live"),
        _mark(11, 10, MarkKind.ALERT, "auc is 0.716, limit 0.72", 38),
        _mark(11, 10, MarkKind.RETRAINING, "performance:auc"),
        _mark(11, 10, MarkKind.REJECTED, "credit-risk/5: auc >= 0.7 is not met by 0.528"),
        _mark(11, 17, MarkKind.RETRAINING, "performance:auc"),
        _mark(11, 17, MarkKind.ROLLOUT, "credit-risk/6", 5),
        _mark(11, 22, MarkKind.PROMOTED, "credit-risk/6 is live"),
    ]


@pytest.fixture
def page(tmp_path: Path) -> str:
    write_report(tmp_path / "deep" / "report.html", make_report())
    return (tmp_path / "deep" / "report.html").read_text(encoding="utf-8")


def test_the_page_loads_nothing_from_elsewhere(page: str) -> None:
    own = page[: page.index("<script>")] + page[page.rindex("<script>") :]
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)""", own)
    assert "url(" not in own
    assert "@import" not in own
    assert "http" not in own


def test_the_table_names_each_policy_and_marks_the_best(page: str) -> None:
    table = page[page.index("<table>") : page.index("</table>")]
    for name in ("never", "every 30d", "drifted", "degraded"):
        assert name in table
    best = make_report().find_best()
    assert best is not None
    assert re.search(rf"<tr class=best><td><span[^>]*></span>{best.name}</td>", table)


def test_no_place_in_the_page_is_left_unfilled(page: str) -> None:
    assert not re.findall(r"@@\w+@@", page)


def test_names_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    write_report(tmp_path / "report.html", make_report(project=evil, policies=[make_policy(evil), make_policy("a")]))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert evil not in page


def test_a_replay_without_labels_says_so(tmp_path: Path) -> None:
    policy = PolicyResult(
        name="never", performance=[], marks=[], drift={}, mean_performance=None, predictions=0, labels=0
    )
    write_report(tmp_path / "report.html", make_report(metric="", limit=None, policies=[policy]))
    assert "cannot be compared" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_for_an_error_the_lowest_mean_is_the_best() -> None:
    policies = [make_policy("never"), make_policy("degraded", recovers=True)]
    best = make_report(better="lower", metric="rmse", policies=policies).find_best()
    assert best is not None
    assert best.name == "never"
