"""What starts a retraining: declared with an endpoint, judged by the loop at every tick."""

from datetime import timedelta

import msgspec

from flyball.core.durations import format_duration, from_us, parse_duration
from flyball.core.errors import InvalidInputError
from flyball.domain.data.tables import Table


class Schedule(msgspec.Struct, frozen=True, tag="schedule"):
    """At the times of a cron expression, in UTC."""

    cron: str

    def __str__(self) -> str:
        return f"schedule {self.cron}"


class Every(msgspec.Struct, frozen=True, tag="every"):
    """When so much time has passed since the last retraining began."""

    period: timedelta

    def __str__(self) -> str:
        return f"every {format_duration(self.period)}"


class NewData(msgspec.Struct, frozen=True, tag="new_data"):
    """When a table has gained so many rows since the live model's data."""

    table: Table
    rows: int

    def __str__(self) -> str:
        return f"{self.rows} new rows in {self.table.name}"


class Drifted(msgspec.Struct, frozen=True, tag="drifted"):
    """When a drift monitor of the endpoint raises an alert."""

    cooldown: timedelta

    def __str__(self) -> str:
        return "drifted"


class Degraded(msgspec.Struct, frozen=True, tag="degraded"):
    """When a performance monitor of the endpoint raises an alert."""

    cooldown: timedelta

    def __str__(self) -> str:
        return "degraded"


Trigger = Schedule | Every | NewData | Drifted | Degraded


def schedule(cron: str) -> Schedule:
    """Retrain at the times of a cron expression.

    Args:
        cron: Five fields: minute, hour, day of month, month, day of week; UTC.

    Raises:
        InvalidInputError: The expression is not valid.
    """
    from cronsim import CronSim, CronSimError

    try:
        CronSim(cron, from_us(0))
    except CronSimError as error:
        raise InvalidInputError(
            f"{cron!r} is not a schedule: {error}",
            hint='Write five fields, such as "0 3 * * *" for 03:00 each day.',
        ) from error
    return Schedule(cron)


def every(period: str | timedelta) -> Every:
    """Retrain when ``period`` (such as ``"30d"``) has passed since the last retraining began.

    Raises:
        InvalidInputError: The period is not a duration.
    """
    return Every(parse_duration(period, what="period"))


def new_data(table: Table, *, rows: int = 1) -> NewData:
    """Retrain when ``table`` has gained at least ``rows`` rows since the last training.

    Raises:
        InvalidInputError: ``rows`` is less than 1.
    """
    if rows < 1:
        raise InvalidInputError(f"new_data(rows={rows}) must be at least 1")
    return NewData(table, rows)


def drifted(*, cooldown: str | timedelta = "1d") -> Drifted:
    """Retrain when a drift monitor fires, at most once in ``cooldown``; also while it goes on firing.

    Raises:
        InvalidInputError: The cool-down is not a duration.
    """
    return Drifted(parse_duration(cooldown, what="cooldown"))


def degraded(*, cooldown: str | timedelta = "1d") -> Degraded:
    """Retrain when a performance monitor fires, at most once in ``cooldown``; also while it goes on firing.

    Raises:
        InvalidInputError: The cool-down is not a duration.
    """
    return Degraded(parse_duration(cooldown, what="cooldown"))


def parse_policy(text: str) -> tuple[Trigger, ...]:
    """Read a policy of ``flyball replay``: ``never``, ``every 30d``, ``drifted``, ``degraded``, joined by ``+``.

    Raises:
        InvalidInputError: The text names no policy.
    """
    triggers: list[Trigger] = []
    for part in (part.strip() for part in text.split("+")):
        if part == "never":
            continue
        if part.startswith("every "):
            triggers.append(every(part.removeprefix("every ")))
        elif part.startswith("schedule "):
            triggers.append(schedule(part.removeprefix("schedule ")))
        elif part == "drifted":
            triggers.append(drifted())
        elif part == "degraded":
            triggers.append(degraded())
        else:
            raise InvalidInputError(
                f"{part!r} is not a policy",
                hint='Write never, drifted, degraded, "every 30d", "schedule 0 3 * * *", or several joined by +.',
            )
    return tuple(triggers)
