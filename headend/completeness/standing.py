"""How complete it is now and will be: what API and command line tell."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from headend.completeness.forecast import Forecast, forecast
from headend.store import completeness
from headend.store.areas import Within
from headend.store.completeness import By, Group
from headend.store.sql import Connection

#: How far back it is looked how fast work goes on, and what comes of attempts.
_PACE: Final = timedelta(minutes=30)
_SUCCESSES: Final = timedelta(hours=24)


class Standing(NamedTuple):
    """All as one group, what is foretold of it, and groups, the least complete first."""

    now: Group
    forecast: Forecast
    groups: list[Group]


def local_day(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """From midnight to midnight as the zone's clocks show it, 23, 24 or 25 hours: [since, until), UTC.
    Raises OverflowError at the calendar's ends."""
    since, until = (
        datetime.combine(one, time(), zone).astimezone(UTC) for one in (day, day + timedelta(days=1))
    )
    return since, until


async def standing(
    connection: Connection,
    since: datetime,
    until: datetime,
    *,
    now: datetime,
    by: By,
    limit: int = 1000,
    skip: int = 0,
    within: Within | None = None,
) -> Standing:
    """Of the intervals in [since, until), aware, of all meters or of those within areas; in a transaction."""
    own = None if within is None else sorted(within.meters)
    await completeness.count(connection, since, until, now=now, meter_ids=own)
    whole, groups = await completeness.groups(connection, by, limit=limit, skip=skip)
    work = await completeness.work(
        connection, now=now, pace_since=now - _PACE, successes_since=now - _SUCCESSES, within=within
    )
    left_s = 0.0 if work is None else (work.deadline - now).total_seconds()
    return Standing(whole, forecast(whole, work, left_s=left_s), groups)
