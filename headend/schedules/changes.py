"""Changes of schedules by people: checked, stored and audited in one transaction."""

from datetime import datetime
from pathlib import Path
from typing import Any, Final

from headend.schedules import calendar
from headend.schedules.builtin import SETTING
from headend.schedules.check import ScheduleError, Wrong, check
from headend.store import audit, schedules
from headend.store.errors import ConflictError
from headend.store.schedules import StoredSchedule
from headend.store.sql import Connection
from schemas.schedule import Schedule

_OF_THE_HOUSE: Final = "house-"


class ChangedError(Exception):
    """The schedule is not the one that was looked at: somebody changed it in between."""


async def add(
    connection: Connection, plan: Schedule, *, now: datetime, actor: str, folders: tuple[Path, ...] = ()
) -> StoredSchedule:
    """A new schedule; its first run is the next one after ``now``.

    Raises ScheduleError with every place that is wrong, ConflictError where the name is in use.
    """
    _check_name(plan)
    await check(connection, plan, now=now, folders=folders)
    async with connection.transaction():
        stored = await schedules.add(connection, plan, next_at=_next(plan, now))
        await _record(connection, actor, "added", plan.name, plan.model_dump(mode="json"))
    return stored


async def change(
    connection: Connection,
    name: str,
    plan: Schedule,
    *,
    now: datetime,
    actor: str,
    version: int | None = None,
    folders: tuple[Path, ...] = (),
) -> StoredSchedule:
    """Another plan, perhaps another name; it runs next at the first of its runs after ``now``.

    Raises ScheduleError, UnknownError, ConflictError for a name in use or a schedule of the house,
    ChangedError where it has not the ``version`` any more that the caller has seen.
    """
    async with connection.transaction():
        before = await _own(connection, name, version)
        if plan.name != name:
            _check_name(plan)
        await check(connection, plan, now=now, folders=folders)
        after = await schedules.change(connection, before.schedule_id, plan, next_at=_next(plan, now))
        old, new = before.plan.model_dump(mode="json"), plan.model_dump(mode="json")
        changed = {key: {"from": old[key], "to": value} for key, value in new.items() if old[key] != value}
        await _record(connection, actor, "changed", name, changed)
    return after


async def enable(
    connection: Connection, name: str, *, enabled: bool, now: datetime, actor: str
) -> StoredSchedule:
    """Pause or resume; runs of the time in between are not made up for. Again, it has no effect.

    Raises UnknownError, ConflictError for a schedule of the house.
    """
    async with connection.transaction():
        before = await _own(connection, name, None)
        if before.plan.enabled == enabled:
            return before
        plan = before.plan.model_copy(update={"enabled": enabled})
        after = await schedules.change(connection, before.schedule_id, plan, next_at=_next(plan, now))
        await _record(connection, actor, "resumed" if enabled else "paused", name, {})
    return after


async def remove(connection: Connection, name: str, *, actor: str, version: int | None = None) -> None:
    """Forget it; its jobs stay and go on. Raises UnknownError, ConflictError, ChangedError as `change`."""
    async with connection.transaction():
        before = await _own(connection, name, version)
        await schedules.remove(connection, before.schedule_id)
        await _record(connection, actor, "removed", name, before.plan.model_dump(mode="json"))


async def _own(connection: Connection, name: str, version: int | None) -> StoredSchedule:
    before = await schedules.get(connection, name, lock=True)
    if before.built_in:
        raise ConflictError(
            f"{name} follows the setting {SETTING.get(name, 'of the service')}: change that, and restart"
        )
    if version is not None and before.version != version:
        raise ChangedError(f"{name} was changed at {before.updated_at:%F %T}Z; look at it again")
    return before


def _check_name(plan: Schedule) -> None:
    if plan.name.startswith(_OF_THE_HOUSE):
        raise ScheduleError(
            [Wrong("/name", f"names with {_OF_THE_HOUSE!r} are for schedules of the settings")]
        )


def _next(plan: Schedule, now: datetime) -> datetime | None:
    return next(calendar.runs(plan, now), None) if plan.enabled else None


async def _record(connection: Connection, actor: str, what: str, name: str, detail: dict[str, Any]) -> None:
    await audit.record(
        connection, actor=actor, action=f"schedule.{what}", object_=f"schedule:{name}", detail=detail
    )
