"""Groups: named sets of meters, made by people. Changes are audited with their actor."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from headend.store import areas, audit, sql
from headend.store.areas import Within
from headend.store.errors import ConflictError, UnknownError
from headend.store.sql import Connection

_QUERIES: Final = sql.load("groups")
#: Names of meters that an audit line tells one by one.
_TOLD: Final = 100


class UnknownMeters(UnknownError):
    """Names in a list of meters that no meter has: ``places`` are (place from 0, name)."""

    def __init__(self, places: Sequence[tuple[int, str]]) -> None:
        self.places = tuple(places)
        first = ", ".join(repr(name) for _, name in self.places[:5])
        more = f" and {len(self.places) - 5} more" if len(self.places) > 5 else ""
        super().__init__(f"no meter {first}{more}")


@dataclass(frozen=True, slots=True)
class Group:
    """A group and how many meters are in it; times aware UTC."""

    group_id: int
    name: str
    title: str | None
    meters: int
    created_at: datetime
    updated_at: datetime


async def add(
    connection: Connection,
    name: str,
    *,
    title: str | None = None,
    meters: Sequence[str] = (),
    actor: str,
) -> Group:
    """A new group of these meters, by asset id. Raises ConflictError for a name in use, UnknownMeters; then
    nothing is made."""
    async with connection.transaction():
        row = await (await connection.execute(_QUERIES["add"], {"name": name, "title": title})).fetchone()
        if row is None:
            raise ConflictError(f"there is a group {name!r} already")
        await check_meters(connection, meters)
        await connection.execute(_QUERIES["take_in"], {"group": row[0], "meters": list(meters)})
        await _record(connection, actor, "added", name, {"title": title} | _some("meters", meters))
        return await get(connection, name)


async def get(connection: Connection, name: str, *, within: Within | None = None) -> Group:
    """One by name; to whoever is limited, one of his or with meters of his, and these alone are counted.
    Raises UnknownError."""
    cursor = await connection.execute(_QUERIES["find"], areas.told(within) | {"name": name})
    row = await cursor.fetchone()
    if row is None:
        raise UnknownError(f"no group {name!r}")
    return _group(row)


async def page(
    connection: Connection,
    *,
    limit: int,
    after: str | None = None,
    q: str | None = None,
    meter: str | None = None,
    within: Within | None = None,
) -> list[Group]:
    """At most ``limit`` whose names come after ``after``, in order of names; ``q`` is a part of the name, in
    any case, ``meter`` the asset id of a meter that is in them. ``within`` as of `get`."""
    told = {"limit": limit, "after": after, "q": q, "meter": meter}
    cursor = await connection.execute(_QUERIES["page"], areas.told(within) | told, prepare=False)
    return [_group(row) for row in await cursor.fetchall()]


async def retitle(connection: Connection, name: str, title: str | None, *, actor: str) -> Group:
    """Say what it is for. Raises UnknownError."""
    async with connection.transaction():
        group_id = await _lock(connection, name)
        await connection.execute(_QUERIES["retitle"], {"group": group_id, "title": title})
        await _record(connection, actor, "changed", name, {"title": title})
        return await get(connection, name)


async def remove(connection: Connection, name: str, *, actor: str) -> None:
    """Its meters stay. Raises UnknownError, ConflictError where a schedule selects by it."""
    async with connection.transaction():
        group_id = await _lock(connection, name)
        cursor = await connection.execute(_QUERIES["used_by"], {"name": name})
        used_by = [schedule for (schedule,) in await cursor.fetchall()]
        if used_by:
            raise ConflictError(f"the group {name!r} is what {', '.join(used_by)} reads: change that first")
        await connection.execute(_QUERIES["remove"], {"group": group_id})
        await _record(connection, actor, "removed", name, {})


async def change_members(
    connection: Connection, name: str, *, add: Sequence[str] = (), remove: Sequence[str] = (), actor: str
) -> tuple[int, int]:
    """Meters into it and out of it, by asset id: how many came and went. All or nothing.

    Raises UnknownError for the group, UnknownMeters (of ``add`` first) for meters.
    """
    async with connection.transaction():
        group_id = await _lock(connection, name)
        await check_meters(connection, add)
        await check_meters(connection, remove)
        gone = (
            await connection.execute(_QUERIES["take_out"], {"group": group_id, "meters": list(remove)})
        ).rowcount
        came = (
            await connection.execute(_QUERIES["take_in"], {"group": group_id, "meters": list(add)})
        ).rowcount
        await _touch(connection, group_id, name, actor, _some("added", add) | _some("removed", remove))
    return came, gone


async def set_members(
    connection: Connection, name: str, meters: Sequence[str], *, actor: str
) -> tuple[int, int]:
    """These meters and no others: how many came and went. Raises UnknownError, UnknownMeters."""
    async with connection.transaction():
        group_id = await _lock(connection, name)
        await check_meters(connection, meters)
        told = {"group": group_id, "meters": list(meters)}
        gone = (await connection.execute(_QUERIES["empty"], told)).rowcount
        came = (await connection.execute(_QUERIES["take_in"], told)).rowcount
        await _touch(connection, group_id, name, actor, _some("set", meters))
    return came, gone


async def members(
    connection: Connection,
    group_id: int,
    *,
    limit: int | None = None,
    after: str | None = None,
    within: Within | None = None,
) -> list[str]:
    """Asset ids of its meters (within areas) that come after ``after``, in order."""
    told = {"group": group_id, "after": after, "limit": limit}
    cursor = await connection.execute(_QUERIES["members"], areas.told(within) | told)
    return [asset_id for (asset_id,) in await cursor.fetchall()]


async def of_meter(connection: Connection, meter_id: int) -> list[str]:
    """Names of the groups that a meter is in."""
    cursor = await connection.execute(_QUERIES["of_meter"], {"meter": meter_id})
    return [name for (name,) in await cursor.fetchall()]


async def check_meters(connection: Connection, meters: Sequence[str]) -> None:
    """Raises UnknownMeters with every name that no meter has."""
    cursor = await connection.execute(_QUERIES["unknown_meters"], {"meters": list(meters)})
    if unknown := await cursor.fetchall():
        raise UnknownMeters([(place, name) for place, name in unknown])


async def _lock(connection: Connection, name: str) -> int:
    row = await (await connection.execute(_QUERIES["lock"], {"name": name})).fetchone()
    if row is None:
        raise UnknownError(f"no group {name!r}")
    return int(row[0])


async def _touch(
    connection: Connection, group_id: int, name: str, actor: str, detail: dict[str, Any]
) -> None:
    await connection.execute(_QUERIES["touch"], {"group": group_id})
    await _record(connection, actor, "members", name, detail)


def _some(word: str, names: Sequence[str]) -> dict[str, Any]:
    told = {f"{word}_count": len(names), word: list(names[:_TOLD])}
    return told if names else {}


async def _record(connection: Connection, actor: str, what: str, name: str, detail: dict[str, Any]) -> None:
    await audit.record(
        connection, actor=actor, action=f"group.{what}", object_=f"group:{name}", detail=detail
    )


def _group(row: Sequence[Any]) -> Group:
    group_id, name, title, meters, created_at, updated_at = row
    return Group(group_id, name, title, meters, created_at.astimezone(UTC), updated_at.astimezone(UTC))
