"""What one evaluation of one monitor found."""

from datetime import datetime
from typing import Literal

import msgspec

from flyball.domain.monitoring.monitors import Family

State = Literal["ok", "firing", "not-enough-data"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One point of a monitor's time series.

    Attributes:
        monitor: The monitor's name.
        kind: What sort of monitor it is.
        family: What its alerts mean to triggers.
        state: What the evaluation says.
        version: The live version that was judged.
        at: When it was evaluated.
        value: The worst figure; None where there was not enough data.
        limit: What ``value`` was compared with.
        since: Begin of the window; None for windows by count.
        until: End of the window.
        count: How many rows, labels or requests the window held.
        worst: The column or figure that ``value`` belongs to.
        scores: The figure of each column, or of each part of the monitor.
        message: The same in plain words.
    """

    monitor: str
    kind: str
    family: Family
    state: State
    version: str
    at: datetime
    value: float | None = None
    limit: float | None = None
    since: datetime | None = None
    until: datetime | None = None
    count: int = 0
    worst: str | None = None
    scores: dict[str, float] = {}
    message: str = ""
