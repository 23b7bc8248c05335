"""Which tariff program a meter had from when to when.

A calendar that a campaign brought is known by the moment at which it became active. One that was found in a
meter is known from when it was found: it may have been there long before (`is_exact` False).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from psycopg.types.json import Jsonb

from headend.store import sql
from headend.store.errors import UnknownError
from headend.store.sql import Connection, aware
from schemas.program import canonical
from schemas.tariff.calendar import Compiled

_QUERIES: Final = sql.load("tariffs")


@dataclass(frozen=True, slots=True)
class MeterProgram:
    """What a meter had in [since, until); ``until`` None: still. Without a ``campaign_id`` it is not ours."""

    since: datetime
    until: datetime | None
    is_exact: bool
    calendar: str
    content: Mapping[str, Any]
    campaign_id: int | None
    program_id: int | None
    program: str | None

    @property
    def title(self) -> str:
        """For people."""
        return self.program or f"unknown calendar {self.calendar}"


async def found(connection: Connection, meter_id: int, compiled: Compiled, *, at: datetime) -> None:
    """The meter was read at ``at`` and has this as its active calendar. In a transaction."""
    aware(at)
    await connection.execute(_QUERIES["lock"], {"meter": meter_id})
    calendar = await _calendar(connection, compiled)
    newest = await _newest(connection, meter_id)
    if newest is not None and (newest[0] == calendar or newest[2] >= at):
        return
    await _begin(connection, meter_id, calendar, at, campaign=None, exact=False)


async def began(
    connection: Connection,
    meter_id: int,
    compiled: Compiled,
    *,
    at: datetime,
    campaign_id: int,
    exact: bool = True,
) -> None:
    """From ``at`` on the meter has what this campaign brought; found there already where not ``exact``. Said
    again it changes nothing. In a transaction."""
    aware(at)
    await connection.execute(_QUERIES["lock"], {"meter": meter_id})
    calendar = await _calendar(connection, compiled)
    newest = await _newest(connection, meter_id)
    if newest is not None and newest[0] == calendar and (newest[1] == campaign_id or not exact):
        await connection.execute(_QUERIES["claim"], {"meter": meter_id, "campaign": campaign_id})
        return
    await _begin(connection, meter_id, calendar, at, campaign=campaign_id, exact=exact)


async def history(
    connection: Connection, meter_id: int, *, at: datetime | None = None, limit: int = 100
) -> list[MeterProgram]:
    """What a meter had, newest first; with ``at`` (aware) what it had then: one or none."""
    asked = {"meter": meter_id, "at": None if at is None else aware(at), "limit": limit}
    cursor = await connection.execute(_QUERIES["history"], asked)
    return [
        MeterProgram(
            since.astimezone(UTC), None if until is None else until.astimezone(UTC), exact, name, content,
            campaign, program, None if plain is None else _title(titled, plain),
        )
        for since, until, exact, name, content, campaign, program, titled, plain in await cursor.fetchall()
    ]  # fmt: skip


def _title(name: str, plain: Mapping[str, Any]) -> str:
    """The document's own name: programs are named by who asks for them."""
    document = plain.get("document")
    return str(document["name"]) if isinstance(document, dict) and "name" in document else name


async def _calendar(connection: Connection, compiled: Compiled) -> int:
    content = compiled.as_json()
    asked = {
        "digest": hashlib.sha256(canonical(content)).digest(),
        "name": compiled.calendar.name,
        "content": Jsonb(content),
    }
    for _ in range(2):  # another's, stored meanwhile, is seen by the second look
        row = await (await connection.execute(_QUERIES["calendar"], asked)).fetchone()
        if row is not None:
            return int(row[0])
    raise UnknownError("the calendar was not stored")


async def _newest(connection: Connection, meter_id: int) -> tuple[int, int | None, datetime] | None:
    row = await (await connection.execute(_QUERIES["newest"], {"meter": meter_id})).fetchone()
    return None if row is None else (row[0], row[1], row[2])


async def _begin(
    connection: Connection, meter_id: int, calendar: int, at: datetime, *, campaign: int | None, exact: bool
) -> None:
    for query in ("forget_after", "close"):
        await connection.execute(_QUERIES[query], {"meter": meter_id, "at": at})
    await connection.execute(
        _QUERIES["add"],
        {"meter": meter_id, "at": at, "calendar": calendar, "campaign": campaign, "exact": exact},
    )
