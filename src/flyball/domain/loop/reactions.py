"""Reactions as values, and which trigger calls for one: pure functions."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum

import msgspec
from cronsim import CronSim

from flyball.domain.loop.triggers import Degraded, Drifted, Every, NewData, Schedule, Trigger


class ReactionState(StrEnum):
    """Where a reaction stands."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"


class Reaction(msgspec.Struct, frozen=True, kw_only=True):
    """One retraining that an event brought about.

    Attributes:
        cause: The event that caused it; with the endpoint it identifies the reaction.
        endpoint: The endpoint whose pipeline runs.
        reason: The cause in words.
        state: Where it stands.
        started_at: When the loop set it in motion.
        event_seq: The event that tells of its start.
    """

    cause: int
    endpoint: str
    reason: str
    state: ReactionState
    started_at: datetime
    finished_at: datetime | None = None
    run_id: str | None = None
    error: str | None = None
    event_seq: int | None = None


class FiringAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that is raised now.

    Attributes:
        kind: ``drift`` or ``performance``; other kinds start nothing.
        monitor: The monitor's name.
        raised_by: The event that raised it.
        message: What it says.
    """

    kind: str
    monitor: str
    raised_by: int
    message: str


class Circumstances(msgspec.Struct, frozen=True, kw_only=True):
    """What the triggers of one endpoint are judged by.

    Attributes:
        now: The present.
        last_started_at: When its last retraining began; the first training's time if there was none.
        alerts: Its alerts that are raised now.
        new_rows: For each table that a trigger names, how many rows it has gained since the last training.
    """

    now: datetime
    last_started_at: datetime
    alerts: Sequence[FiringAlert] = ()
    new_rows: Mapping[str, int] = {}


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A trigger's verdict that it is time to retrain.

    Attributes:
        reason: Why, in words.
        cause: The event behind it, or None when time or data is the cause and the loop must record one.
    """

    reason: str
    cause: int | None = None


def find_call(triggers: Sequence[Trigger], now: Circumstances) -> Call | None:
    """Return the first trigger's call for a retraining, or None when none calls."""
    for trigger in triggers:
        call = _judge(trigger, now)
        if call is not None:
            return call
    return None


def _judge(trigger: Trigger, now: Circumstances) -> Call | None:
    since_last = now.now - now.last_started_at
    match trigger:
        case Every(period):
            return Call(reason=str(trigger)) if since_last >= period else None
        case Schedule(cron):
            due = next(CronSim(cron, now.last_started_at))
            return Call(reason=f"{trigger}, due {due:%Y-%m-%d %H:%M}") if due <= now.now else None
        case NewData(table, rows):
            gained = now.new_rows.get(table.name or "", 0)
            return Call(reason=f"{gained:,} new rows in {table.name}") if gained >= rows else None
        case Drifted(cooldown) | Degraded(cooldown):
            kind = "drift" if isinstance(trigger, Drifted) else "performance"
            if since_last < cooldown:
                return None
            alert = next((alert for alert in now.alerts if alert.kind == kind), None)
            if alert is None:
                return None
            # While an alert goes on firing after a retraining, the alert's event has acted already:
            # the loop then records a fresh cause.
            return Call(reason=f"{alert.monitor}: {alert.message}", cause=alert.raised_by)
