"""Schedules as they are stored: the plan, whether it is paused, and when it runs next."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from psycopg import errors
from psycopg.types.json import Jsonb

from headend.store import areas, sql
from headend.store.areas import Within
from headend.store.errors import ConflictError, UnknownError
from headend.store.sql import Connection
from schemas.schedule import Schedule

_QUERIES: Final = sql.load("schedules")


@dataclass(frozen=True, slots=True)
class StoredSchedule:
    """A schedule with its number. ``version`` grows with each change; ``next_at`` None: it does not run;
    ``last_at`` is the time of the newest run that became a job. Times are aware UTC."""

    schedule_id: int
    plan: Schedule
    built_in: bool
    version: int
    next_at: datetime | None
    last_at: datetime | None
    created_at: datetime
    updated_at: datetime


async def add(
    connection: Connection, plan: Schedule, *, next_at: datetime | None, built_in: bool = False
) -> StoredSchedule:
    """Store a new one. Raises ConflictError where the name is in use."""
    return await _write(connection, "add", plan, {"next_at": next_at, "built_in": built_in})


async def get(
    connection: Connection, name: str, *, lock: bool = False, within: Within | None = None
) -> StoredSchedule:
    """One by name; with ``lock`` kept to this transaction. ``within`` as of `page`. Raises UnknownError."""
    told = areas.told(within) | {"name": name}
    cursor = await connection.execute(_QUERIES["lock" if lock else "find"], told)
    row = await cursor.fetchone()
    if row is None:
        raise UnknownError(f"no schedule {name!r}")
    return _stored(row)


async def page(
    connection: Connection,
    *,
    limit: int,
    after: str | None = None,
    enabled: bool | None = None,
    group: str | None = None,
    q: str | None = None,
    within: Within | None = None,
) -> list[StoredSchedule]:
    """At most ``limit`` whose names come after ``after``, in order of names. ``group``: only those that
    select by it; ``q`` is a part of the name, in any case. ``within``: those that can ask nobody else, as all
    groups, all stations or all meters that they name are within."""
    told = {"limit": limit, "after": after, "enabled": enabled, "group": group, "q": q}
    cursor = await connection.execute(_QUERIES["page"], areas.told(within) | told, prepare=False)
    return [_stored(row) for row in await cursor.fetchall()]


async def change(
    connection: Connection, schedule_id: int, plan: Schedule, *, next_at: datetime | None
) -> StoredSchedule:
    """Another plan for a schedule that the caller has locked. Raises ConflictError for a name in use."""
    return await _write(connection, "change", plan, {"next_at": next_at, "schedule_id": schedule_id})


async def remove(connection: Connection, schedule_id: int) -> None:
    """Forget a schedule. Its jobs stay, those that are open too."""
    await connection.execute(_QUERIES["remove"], {"schedule_id": schedule_id})


async def due(connection: Connection, now: datetime) -> list[int]:
    """Numbers of those whose next run has come, the longest waiting first."""
    cursor = await connection.execute(_QUERIES["due"], {"now": sql.aware(now)})
    return [schedule_id for (schedule_id,) in await cursor.fetchall()]


async def lock_due(connection: Connection, schedule_id: int, now: datetime) -> StoredSchedule | None:
    """One of them, kept to this transaction; None where it is not due any more or another is at it."""
    cursor = await connection.execute(
        _QUERIES["lock_due"], {"schedule_id": schedule_id, "now": sql.aware(now)}
    )
    row = await cursor.fetchone()
    return None if row is None else _stored(row)


async def advance(
    connection: Connection, schedule_id: int, *, next_at: datetime | None, last_at: datetime | None
) -> None:
    """Its next run, and the newest that became a job; None: none did."""
    await connection.execute(
        _QUERIES["advance"], {"schedule_id": schedule_id, "next_at": next_at, "last_at": last_at}
    )


async def _write(
    connection: Connection, query: str, plan: Schedule, values: dict[str, Any]
) -> StoredSchedule:
    body = plan.model_dump(mode="json", exclude={"name", "enabled"})
    told = values | {"name": plan.name, "enabled": plan.enabled, "plan": Jsonb(body)}
    try:
        async with connection.transaction():
            row = await (await connection.execute(_QUERIES[query], told)).fetchone()
    except errors.UniqueViolation as error:
        raise ConflictError(f"there is a schedule {plan.name!r} already") from error
    if row is None:
        raise UnknownError(f"no schedule {plan.name!r}")
    return _stored(row)


def _stored(row: Sequence[Any]) -> StoredSchedule:
    number, name, enabled, built_in, plan, version, next_at, last_at, created_at, updated_at = row
    return StoredSchedule(
        schedule_id=number,
        plan=Schedule.model_validate(plan | {"name": name, "enabled": enabled}),
        built_in=built_in,
        version=version,
        next_at=None if next_at is None else next_at.astimezone(UTC),
        last_at=None if last_at is None else last_at.astimezone(UTC),
        created_at=created_at.astimezone(UTC),
        updated_at=updated_at.astimezone(UTC),
    )
