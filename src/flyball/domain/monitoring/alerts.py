"""When a finding becomes an alert, and when the alert is over: a state machine. Pure functions.

::

             firing, and the cool-down is over
    quiet ───────────────────────────────────────▶ raised
      ▲                                               │
      └───────────────────────────────────────────────┘
        ok for `CLEAR_AFTER` evaluations, or another version is live
"""

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from flyball.domain.monitoring.findings import Finding

CLEAR_AFTER = 2
"""So many evaluations in a row must be ok, so that a figure around its limit does not ring again and again."""

_OF_ONE_VERSION = ("drift", "performance")


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """The present state of one monitor's alert at one endpoint.

    Attributes:
        endpoint: Where.
        monitor: The monitor's name.
        kind: What sort of monitor it is.
        family: What the alert means to triggers: ``drift``, ``performance``, ``quality`` or ``service``.
        is_raised: Whether it is raised now.
        version: The version that the last finding was about.
        raised_at: When it was last raised, also if it is over.
        raised_by: The event that raised it last.
        quiet_for: How many evaluations in a row were ok.
        finding: The last finding that could tell.
    """

    endpoint: str
    monitor: str
    kind: str
    family: str
    version: str
    is_raised: bool = False
    raised_at: datetime | None = None
    raised_by: int | None = None
    quiet_for: int = 0
    finding: Finding | None = None

    @property
    def message(self) -> str:
        """What the last finding says."""
        return self.finding.message if self.finding else ""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something to tell: an alert is raised or resolved, and why."""

    what: Literal["raised", "resolved"]
    reason: str


def advance_alert(alert: Alert, finding: Finding, cool_down: timedelta) -> tuple[Alert, list[Change]]:
    """Take in a finding and say what changes; at most one resolve and one raise, in this order.

    An alert about inputs or performance belongs to a version: when another one is live it is over, and that
    version's own findings decide anew (the cool-down goes on).
    """
    changes: list[Change] = []
    replaced = alert.family in _OF_ONE_VERSION and finding.version != alert.version
    if replaced and alert.is_raised:
        changes.append(Change(what="resolved", reason=f"{finding.version} is live in place of {alert.version}"))
        alert = msgspec.structs.replace(alert, is_raised=False)
    alert = msgspec.structs.replace(
        alert,
        version=finding.version,
        quiet_for=_count_quiet(0 if replaced else alert.quiet_for, finding),
        finding=alert.finding if finding.state == "not-enough-data" and not replaced else finding,
    )
    if finding.state == "firing" and not alert.is_raised:
        if alert.raised_at is None or finding.at - alert.raised_at >= cool_down:
            changes.append(Change(what="raised", reason=finding.message))
            alert = msgspec.structs.replace(alert, is_raised=True, raised_at=finding.at)
    elif alert.is_raised and alert.quiet_for >= CLEAR_AFTER:
        changes.append(Change(what="resolved", reason=finding.message))
        alert = msgspec.structs.replace(alert, is_raised=False)
    return alert, changes


def _count_quiet(before: int, finding: Finding) -> int:
    match finding.state:
        case "ok":
            return before + 1
        case "firing":
            return 0
        case "not-enough-data":
            return before
