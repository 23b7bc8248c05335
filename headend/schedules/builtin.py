"""The schedules of the house, as the settings say: all meters, so that nobody need set anything up."""

import math
from datetime import datetime
from typing import Final

from headend.schedules import calendar
from headend.store import audit, schedules
from headend.store.errors import ConflictError, UnknownError
from headend.store.sql import Connection
from schemas.config import Settings
from schemas.job import Curves, Events, Forwarded, Retry, Work
from schemas.schedule import Schedule

CURVES: Final = "house-curves"
EVENTS: Final = "house-events"
STATIONS: Final = "house-stations"
#: The setting that each follows; 0 pauses it.
SETTING: Final = {CURVES: "read_period_s", EVENTS: "events_period_s", STATIONS: "stations_period_s"}
#: A round that did not come to its end goes on beside the next one: what it has not reached yet goes first.
_ROUNDS: Final = 2
_SHORTEST_DROP_DEAD_S: Final = 3600


def built_in(settings: Settings) -> tuple[Schedule, ...]:
    """As the settings have them. The tick comes each minute, so that shorter periods are a minute."""
    return (
        _schedule(settings, CURVES, settings.read_period_s, Curves(days=settings.read_days)),
        _schedule(settings, EVENTS, settings.events_period_s, Events()),
        _schedule(settings, STATIONS, settings.stations_period_s, Forwarded()),
    )


def _schedule(settings: Settings, name: str, period_s: float, work: Work) -> Schedule:
    minutes = max(1, math.ceil(period_s / 60))
    return Schedule(
        name=name,
        every_min=minutes,
        works=(work,),
        deadline=f"{minutes}m",
        retry=Retry(
            attempts=settings.read_attempts,
            first_s=settings.retry_first_s,
            longest_s=settings.retry_longest_s,
            drop_dead_s=min(max(_ROUNDS * minutes * 60, _SHORTEST_DROP_DEAD_S), 366 * 86_400),
        ),
        enabled=period_s > 0,
    )


async def ensure_builtin(connection: Connection, settings: Settings, now: datetime) -> None:
    """Make them, or change those that the settings have otherwise now. Several processes may do so."""
    for wanted in built_in(settings):
        next_at = next(calendar.runs(wanted, now)) if wanted.enabled else None
        async with connection.transaction():
            try:
                there = await schedules.get(connection, wanted.name, lock=True)
            except UnknownError:
                try:
                    await schedules.add(connection, wanted, next_at=next_at, built_in=True)
                except ConflictError:
                    continue  # another process has made it in this moment
            else:
                if there.plan == wanted:
                    continue
                await schedules.change(connection, there.schedule_id, wanted, next_at=next_at)
            await audit.record(
                connection,
                actor="settings",
                action="schedule.changed",
                object_=f"schedule:{wanted.name}",
                detail=wanted.model_dump(mode="json"),
            )
