"""Tags of meters: ``key`` or ``key=value``; a meter has one value for each key."""

from collections.abc import Sequence
from typing import Final

from headend.store import audit, sql
from headend.store.errors import ConflictError
from headend.store.groups import check_meters
from headend.store.sql import Connection

_QUERIES: Final = sql.load("tags")
_TOLD: Final = 100


async def change(
    connection: Connection,
    meters: Sequence[str],
    *,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    actor: str,
) -> int:
    """Put tags on meters and take keys off them, all or nothing; how many tags of meters that changed.

    Raises UnknownMeters with every name that no meter has, ConflictError for two values of a key.
    """
    pairs = [split(tag) for tag in add]
    if len({key for key, _ in pairs}) < len(pairs):
        raise ConflictError(f"a key has one value on a meter: {', '.join(add)}")
    async with connection.transaction():
        await check_meters(connection, meters)
        changed = (
            await connection.execute(_QUERIES["unset"], {"meters": list(meters), "keys": list(remove)})
        ).rowcount
        changed += (
            await connection.execute(
                _QUERIES["set"],
                {
                    "meters": list(meters),
                    "keys": [key for key, _ in pairs],
                    "values": [value for _, value in pairs],
                },
            )
        ).rowcount
        await audit.record(
            connection,
            actor=actor,
            action="meter.tags",
            object_=f"meter:{meters[0]}" if len(meters) == 1 else "meters",
            detail={
                "set": list(add),
                "unset": list(remove),
                "meters_count": len(meters),
                "meters": list(meters[:_TOLD]),
            },
        )
    return changed


async def replace(
    connection: Connection, meter_id: int, asset_id: str, tags: Sequence[str], *, actor: str
) -> None:
    """These tags on a meter and no others."""
    async with connection.transaction():
        await connection.execute(_QUERIES["clear"], {"meter": meter_id})
        await change(connection, [asset_id], add=tags, actor=actor)


async def of_meter(connection: Connection, meter_id: int) -> list[str]:
    """The tags of a meter, in order."""
    cursor = await connection.execute(_QUERIES["of_meter"], {"meter": meter_id})
    return [join(key, value) for key, value in await cursor.fetchall()]


async def all_used(connection: Connection, *, limit: int) -> list[tuple[str, int]]:
    """(tag, how many meters have it) in order, at most ``limit``."""
    cursor = await connection.execute(_QUERIES["all"], {"limit": limit})
    return [(join(key, value), count) for key, value, count in await cursor.fetchall()]


def split(tag: str) -> tuple[str, str]:
    """Key and value; the value of a tag that is a key alone is empty."""
    key, _, value = tag.partition("=")
    return key, value


def join(key: str, value: str) -> str:
    """The tag as it is written."""
    return f"{key}={value}" if value else key
