"""Reports of the runs of schedules: what came of each by its deadline, and in the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from psycopg.types.json import Jsonb

from headend.store import areas, sql
from headend.store.areas import Within
from headend.store.sql import Connection

_QUERIES: Final = sql.load("reports")


class DueReport(NamedTuple):
    """A job that needs a report; ``occasion`` is ``deadline`` or ``end``. ``run_before``: of its schedule."""

    job_id: int
    occasion: str
    run_before: datetime | None


class Attempts(NamedTuple):
    """Attempts of a job; ``failed`` of them gave not all that was asked; ``took_ms`` is their time."""

    made: int
    failed: int
    rows: int
    took_ms: int


@dataclass(frozen=True, slots=True)
class Report:
    """What is kept of one run: of the intervals in [since, until), aware; ``body`` as
    `headend.completeness.report` makes it."""

    report_id: int
    job_id: int
    schedule_id: int | None
    title: str
    occasion: str
    made_at: datetime
    since: datetime
    until: datetime
    body: Mapping[str, Any]


async def due(connection: Connection, *, now: datetime, oldest: datetime, limit: int) -> list[DueReport]:
    """At most ``limit`` jobs made after ``oldest`` whose reports are to be made."""
    cursor = await connection.execute(
        _QUERIES["due"], {"now": sql.aware(now), "oldest": sql.aware(oldest), "limit": limit}
    )
    return [DueReport(*row) for row in await cursor.fetchall()]


async def asked(connection: Connection, job_id: int) -> list[int]:
    """Whom a job asks: numbers of meters, and negative ones of concentrators' nodes."""
    cursor = await connection.execute(_QUERIES["asked"], {"job_id": job_id})
    return [meter_id for (meter_id,) in await cursor.fetchall()]


async def attempts(connection: Connection, job_id: int) -> Attempts:
    """What it took."""
    row = await (await connection.execute(_QUERIES["attempts"], {"job_id": job_id})).fetchone()
    return Attempts(0, 0, 0, 0) if row is None else Attempts(*(int(one) for one in row))


async def insert(
    connection: Connection,
    *,
    job_id: int,
    schedule_id: int | None,
    title: str,
    occasion: str,
    made_at: datetime,
    since: datetime,
    until: datetime,
    body: Mapping[str, Any],
) -> int | None:
    """Keep a report; its number, None where it is there already."""
    cursor = await connection.execute(
        _QUERIES["insert"],
        {
            "job_id": job_id,
            "schedule_id": schedule_id,
            "title": title,
            "occasion": occasion,
            "made_at": sql.aware(made_at),
            "since": sql.aware(since),
            "until": sql.aware(until),
            "body": Jsonb(dict(body)),
        },
    )
    row = await cursor.fetchone()
    return None if row is None else int(row[0])


async def find(connection: Connection, report_id: int, *, within: Within | None = None) -> Report | None:
    """The report of this number; None where there is none, or its run asked others than ``within``."""
    cursor = await connection.execute(_QUERIES["find"], areas.told(within) | {"report_id": report_id})
    row = await cursor.fetchone()
    return None if row is None else _report(row)


async def page(
    connection: Connection,
    *,
    limit: int,
    before: int | None = None,
    schedule_id: int | None = None,
    job_id: int | None = None,
    within: Within | None = None,
) -> list[Report]:
    """At most ``limit`` reports with numbers below ``before``, newest first, without their long lists.
    ``within`` as of `find`."""
    told = {"limit": limit, "before": before, "schedule_id": schedule_id, "job_id": job_id}
    cursor = await connection.execute(_QUERIES["page"], areas.told(within) | told, prepare=False)
    return [_report(row) for row in await cursor.fetchall()]


def _report(row: Sequence[Any]) -> Report:
    number, job_id, schedule_id, title, occasion, made_at, since, until, body = row
    made_at, since, until = (one.astimezone(UTC) for one in (made_at, since, until))
    return Report(number, job_id, schedule_id, title, occasion, made_at, since, until, body)
