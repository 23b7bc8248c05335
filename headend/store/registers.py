"""Registers as stored: values of any OBIS code outside the load curve, exact decimal or text."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from headend.store import sql
from schemas.reading import Quality

_QUERIES: Final = sql.load("registers")


@dataclass(frozen=True, slots=True)
class StoredRegister:
    """One value; ``read_at`` is the head-end's time of reading, ``meter_time`` the meter's. Aware times.
    ``from_float``: the shortest decimal of a binary float that the meter sent."""

    obis: str
    attribute: int
    read_at: datetime
    meter_time: datetime | None
    value: Decimal | None
    text: str | None
    unit: str | None
    quality: Quality
    from_float: bool = False


def _stored(
    obis: str,
    attribute: int,
    read_at: datetime,
    meter_time: datetime | None,
    value: Decimal | None,
    text: str | None,
    unit: str | None,
    quality: int,
    from_float: bool,
) -> StoredRegister:
    return StoredRegister(
        obis, attribute, read_at, meter_time, value, text, unit, Quality(quality), from_float
    )


async def latest(connection: sql.Connection, meter_id: int) -> list[StoredRegister]:
    """The latest value of each register, ordered by OBIS code."""
    cursor = await connection.execute(_QUERIES["latest"], {"meter": meter_id})
    return [_stored(*row) for row in await cursor.fetchall()]


async def history(
    connection: sql.Connection,
    meter_id: int,
    obis: str,
    start: datetime,
    end: datetime,
    *,
    after: tuple[datetime, int] | None = None,
    limit: int,
) -> list[StoredRegister]:
    """Values of one register read in [start, end), oldest first; ``after`` is (time, attribute) of the last
    one the caller has, ``limit`` how many more it takes.
    """
    after_time, after_attribute = after or (start, -32768)
    parameters = {
        "meter": meter_id,
        "obis": obis,
        "start": start,
        "end": end,
        "after_time": after_time,
        "after_attribute": after_attribute,
        "limit": limit,
    }
    cursor = await connection.execute(_QUERIES["history"], parameters)
    return [_stored(*row) for row in await cursor.fetchall()]
