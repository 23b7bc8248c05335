"""Meters' clocks: what they showed, and when they were changed, each by itself or with its line.

Times are aware UTC.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, NamedTuple

from headend.store import sql
from headend.store.sql import Connection
from schemas.clock import ClockReading, MeterClockReading

_QUERIES: Final = sql.load("clocks")
_MS: Final = timedelta(milliseconds=1)
#: A rate is told where it is beyond what the readings are uncertain by, or where that is less than so many
#: ppm: that a clock goes right is known after some days.
_FINE_PPM: Final = 5


class Kept(NamedTuple):
    """A reading as it is stored, to the millisecond."""

    reading: ClockReading
    source: str


class Flag(NamedTuple):
    """A meter whose clock will be put right: it was off by something between ``low`` and ``high``."""

    meter_id: int
    low: timedelta
    high: timedelta


class Told(NamedTuple):
    """A meter was told the time at the turn of another one; ``took_effect`` None: nobody knows (yet)."""

    meter_id: int
    step: str
    at: datetime
    took_effect: bool | None


class Change(NamedTuple):
    """A clock was changed: the intervals between ``since`` and ``until`` of it are marked, unless it did not
    take effect. None: nobody knows."""

    at: datetime
    change: str
    since: datetime
    until: datetime
    took_effect: bool | None
    campaign_id: int


class Newest(NamedTuple):
    """The newest reading of a meter's clock; ``ppm`` is how fast it goes since it was changed last, None
    where its readings do not tell."""

    asset_id: str
    model: str
    at: datetime
    offset: timedelta
    uncertainty: timedelta
    ppm: Decimal | None


async def insert(connection: Connection, readings: Sequence[MeterClockReading]) -> None:
    """Keep these."""
    if not readings:
        return
    told = [one.reading for one in readings]
    await connection.execute(
        _QUERIES["insert"],
        {
            "meters": [one.meter_id for one in readings],
            "at": [sql.aware(one.at) for one in told],
            "offset_ms": [round(one.offset / _MS) for one in told],
            "uncertainty_ms": [-(-one.uncertainty // _MS) for one in told],
            "deviation_min": [one.deviation_min for one in told],
            "status": [one.status for one in told],
            "sources": [one.source for one in readings],
        },
    )


async def series(
    connection: Connection, meter_id: int, since: datetime, until: datetime, *, limit: int
) -> list[Kept]:
    """Readings of one clock in [since, until), newest first."""
    cursor = await connection.execute(
        _QUERIES["series"],
        {"meter": meter_id, "since": sql.aware(since), "until": sql.aware(until), "limit": limit},
    )
    return [
        Kept(ClockReading(at.astimezone(UTC), offset * _MS, uncertainty * _MS, deviation, status), source)
        for at, offset, uncertainty, deviation, status, source in await cursor.fetchall()
    ]


async def fleet(connection: Connection, since: datetime) -> list[Newest]:
    """The newest reading of each clock that was read since, by the name of its meter or concentrator."""
    cursor = await connection.execute(_QUERIES["fleet"], {"since": sql.aware(since)})
    return [
        Newest(name, model, at.astimezone(UTC), offset * _MS, blur * _MS, _ppm(at, offset, blur, *oldest))
        for name, model, at, offset, blur, *oldest in await cursor.fetchall()
    ]


def _ppm(
    at: datetime, offset_ms: int, blur_ms: int, oldest: datetime, was_ms: int, was_blur_ms: int
) -> Decimal | None:
    """Parts in a million between two readings; None where both are less certain than that, and no fine rate
    can be told either."""
    span = at - oldest
    if not span:
        return None
    seconds = Decimal(span // timedelta(seconds=1)) or Decimal(1)
    ppm = Decimal(offset_ms - was_ms) * 1000 / seconds
    blur = Decimal(blur_ms + was_blur_ms) * 1000 / seconds
    return round(ppm, 1) if abs(ppm) > blur or blur < _FINE_PPM else None


async def forget(connection: Connection, *, before: datetime, limit: int) -> int:
    """Drop at most ``limit`` readings from before a moment; how many."""
    cursor = await connection.execute(_QUERIES["forget"], {"before": sql.aware(before), "limit": limit})
    return cursor.rowcount


async def intend_change(
    connection: Connection,
    campaign_id: int,
    meter_id: int,
    step: str,
    *,
    at: datetime,
    change: str,
    shown: Sequence[datetime],
) -> None:
    """A clock will be changed: the intervals that lie between these moments of it are affected."""
    parameters = {
        "campaign": campaign_id, "meter": meter_id, "step": step, "at": sql.aware(at), "change": change,
        "since": sql.aware(min(shown)), "until": sql.aware(max(shown)),
    }  # fmt: skip
    await connection.execute(_QUERIES["intend"], parameters)


async def settle_change(
    connection: Connection, campaign_id: int, meter_id: int, step: str, *, took_effect: bool
) -> None:
    """It was changed, or was not."""
    await connection.execute(
        _QUERIES["settle"],
        {"campaign": campaign_id, "meter": meter_id, "step": step, "took_effect": took_effect},
    )


def step_of_line(step: str, meter_id: int) -> str:
    """As the step that tells the time to a line at the turn of one meter is called at the others."""
    return f"{step} of {meter_id}"


async def newest(connection: Connection, meter_id: int, *, source: str) -> ClockReading | None:
    """The newest reading of a clock from this source; None where the clock was changed since, perhaps."""
    cursor = await connection.execute(_QUERIES["newest"], {"meter": meter_id, "source": source})
    row = await cursor.fetchone()
    if row is None:
        return None
    at, offset, uncertainty, deviation, status = row
    return ClockReading(at.astimezone(UTC), offset * _MS, uncertainty * _MS, deviation, status)


async def told_since(connection: Connection, meter_ids: Sequence[int], since: datetime) -> datetime | None:
    """When one of these meters took the time with its line last; None where none did since then, as far as
    is known."""
    parameters = {"meters": list(meter_ids), "since": sql.aware(since)}
    row = await (await connection.execute(_QUERIES["told_since"], parameters)).fetchone()
    return None if row is None or row[0] is None else row[0].astimezone(UTC)


async def pending(connection: Connection, campaign_id: int, meter_id: int) -> list[Told]:
    """Other meters that were told at the turn of this one, and of which nobody knows whether they took it."""
    return await _told(connection, "pending", campaign_id, meter_id)


async def told_by_others(connection: Connection, campaign_id: int, meter_id: int) -> list[Told]:
    """What this meter was told at the turns of others, in order."""
    return await _told(connection, "told_by_others", campaign_id, meter_id)


async def _told(connection: Connection, query: str, campaign_id: int, meter_id: int) -> list[Told]:
    cursor = await connection.execute(_QUERIES[query], {"campaign": campaign_id, "meter": meter_id})
    return [
        Told(number, step, at.astimezone(UTC), took) for number, step, at, took in await cursor.fetchall()
    ]


async def changes(
    connection: Connection, meter_id: int, since: datetime, until: datetime, *, limit: int
) -> list[Change]:
    """Changes of one clock that were made in [since, until), newest first."""
    cursor = await connection.execute(
        _QUERIES["changes"],
        {"meter": meter_id, "since": sql.aware(since), "until": sql.aware(until), "limit": limit},
    )
    return [
        Change(at.astimezone(UTC), change, low.astimezone(UTC), high.astimezone(UTC), took, campaign)
        for at, change, low, high, took, campaign in await cursor.fetchall()
    ]
