"""The inbox of devices that were announced: by a concentrator or gateway, or by a message of their own.

A meter of ours is put where its station hears it; everything else waits for an engineer, and is in the fleet
only when one has accepted it (`headend.ingest.acceptance`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from headend.store import sql
from headend.store.errors import UnknownError
from headend.store.placing import place_announced
from headend.store.sql import Connection
from schemas.network import Announced, LinkKind

_QUERIES: Final = sql.load("announcements")

#: Devices that wait for one station at most; beyond that they are counted alone.
MOST_PER_STATION: Final = 10_000
_TITLE_DIGITS: Final = 16


class AnnouncementState(StrEnum):
    """What became of an announcement. A rejected one stays quiet however often it is announced again."""

    WAITING = "waiting"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Announcement:
    """What `announce` made of it. ``known``: identity -> number of the meter; ``moved``: numbers of those
    that stand elsewhere now; ``unknown``: identities that wait or were rejected; ``beyond``: how many of them
    found no room."""

    known: dict[str, int]
    moved: tuple[int, ...]
    unknown: tuple[str, ...]
    beyond: int = 0


@dataclass(frozen=True, slots=True)
class InboxDevice:
    """One device as it was announced; ``station`` None: by itself. ``asset_id``: the meter it became."""

    number: int
    station_id: int | None
    station: str | None
    announced: Announced
    first_at: datetime
    last_at: datetime
    times: int
    state: AnnouncementState
    decided_at: datetime | None
    asset_id: str | None


def _device(row: Sequence[Any]) -> InboxDevice:
    number, station_id, station, identity, model, address, link, hops, quality, parent, *rest = row
    first_at, last_at, times, state, decided_at, asset_id = rest
    kind = None if link is None else LinkKind(link)
    announced = Announced(identity, model, address, kind, hops, quality, parent)
    return InboxDevice(
        number,
        station_id,
        station,
        announced,
        first_at,
        last_at,
        times,
        AnnouncementState(state),
        decided_at,
        asset_id,
    )


async def identify(
    connection: Connection, station_id: int | None, announced: Sequence[Announced]
) -> dict[str, int]:
    """Numbers of the meters that these identities mean; those that mean none are left out.

    An identity is an asset id, else a logical device name, a system title, the identity of an ``mqtt:``
    address, or what an accepted announcement was called.
    """
    by_address = [
        one.address if one.address is not None and one.address.startswith("mqtt:") else None
        for one in announced
    ]
    titles = {one.identity: title for one in announced if (title := _title(one.identity)) is not None}
    cursor = await connection.execute(
        _QUERIES["identify"],
        {
            "station": station_id,
            "identities": [one.identity for one in announced],
            "addresses": by_address,
            "titled": list(titles),
            "titles": list(titles.values()),
        },
    )
    return dict(await cursor.fetchall())


def _title(identity: str) -> bytes | None:
    if len(identity) != _TITLE_DIGITS:
        return None
    try:
        return bytes.fromhex(identity)
    except ValueError:
        return None


async def announce(
    connection: Connection,
    station_id: int | None,
    announced: Sequence[Announced],
    *,
    now: datetime,
    most: int = MOST_PER_STATION,
) -> Announcement:
    """Take note of the devices that a station (None: each for itself) says to be there, in one transaction.

    Meters of ours are hung below the station, through the relay that was told; what is not newer than their
    last move moves nothing. Doubles within ``announced`` count once, the last of them. Raises UnknownError
    for a number that is no concentrator or gateway.
    """
    heard = {one.identity: one for one in announced}
    if not heard:
        return Announcement({}, (), ())
    async with connection.transaction():
        known = await identify(connection, station_id, list(heard.values()))
        placed = await place_announced(connection, station_id, heard, known, now=now)
        if known:
            await connection.execute(_QUERIES["settle"], {"identities": list(known)})
        unknown = [one for name, one in heard.items() if name not in known and name not in placed.nodes]
        beyond = await _keep(connection, station_id, unknown, now=now, most=most)
    return Announcement(known, placed.moved, tuple(one.identity for one in unknown), beyond)


async def _keep(
    connection: Connection, station_id: int | None, unknown: Sequence[Announced], *, now: datetime, most: int
) -> int:
    """Put devices into the inbox; how many had no room there."""
    if not unknown:
        return 0
    where = {"station": station_id, "now": sql.aware(now)}
    cursor = await connection.execute(_QUERIES["told_again"], where | _columns(unknown))
    again = {name for (name,) in await cursor.fetchall()}
    new = sorted((one for one in unknown if one.identity not in again), key=lambda one: one.identity)
    if not new:
        return 0
    cursor = await connection.execute(_QUERIES["put"], where | _columns(new) | {"most": most})
    beyond = len(new) - len(await cursor.fetchall())
    if beyond:
        await connection.execute(_QUERIES["beyond"], where | {"times": beyond})
    return beyond


def _columns(devices: Sequence[Announced]) -> dict[str, list[Any]]:
    return {
        "identities": [one.identity for one in devices],
        "models": [one.model for one in devices],
        "addresses": [one.address for one in devices],
        "links": [one.link for one in devices],
        "hops": [one.hops for one in devices],
        "qualities": [one.quality for one in devices],
        "parents": [one.parent for one in devices],
    }


async def page(
    connection: Connection,
    *,
    limit: int,
    after: int = 0,
    state: AnnouncementState | None = AnnouncementState.WAITING,
    station: str | None = None,
) -> list[InboxDevice]:
    """At most ``limit`` devices with numbers above ``after``, oldest first; ``state`` None: all."""
    cursor = await connection.execute(
        _QUERIES["page"], {"limit": limit, "after": after, "state": state, "station": station}
    )
    return [_device(row) for row in await cursor.fetchall()]


async def get(connection: Connection, number: int) -> InboxDevice:
    """One device, locked until the transaction ends. Raises UnknownError."""
    cursor = await connection.execute(_QUERIES["get"], {"number": number})
    row = await cursor.fetchone()
    if row is None:
        raise UnknownError(f"no announcement {number}")
    return _device(row)


async def decide(
    connection: Connection,
    number: int,
    state: AnnouncementState,
    *,
    now: datetime,
    meter_id: int | None = None,
) -> None:
    """Keep what an engineer made of an announcement; ``meter_id`` where it was accepted."""
    await connection.execute(
        _QUERIES["decide"], {"number": number, "state": state, "now": sql.aware(now), "meter": meter_id}
    )


async def overflow(connection: Connection) -> list[tuple[str | None, int, datetime]]:
    """What found no room in the inbox: (station's code, how many times, last when)."""
    cursor = await connection.execute(_QUERIES["overflow"])
    return [(code, times, last_at) for code, times, last_at in await cursor.fetchall()]
