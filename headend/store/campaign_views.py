"""Campaigns as people see them: meters by name, what is shown to whoever approves, keys of repeated
proposals."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from headend.store import campaign_meters, sql
from headend.store.campaign_meters import CampaignMeter
from headend.store.campaigns import Placed
from headend.store.on_demand import KEPT
from headend.store.sql import Connection
from schemas.campaign import MeterProgress

_QUERIES: Final = sql.load("campaign_views")


class Named(NamedTuple):
    """A meter of a campaign with its asset id (a concentrator: its code)."""

    name: str
    meter: CampaignMeter


class Ends(NamedTuple):
    """The first and the last names of a campaign's meters."""

    first: Sequence[str]
    last: Sequence[str]


class Claimed(NamedTuple):
    """What a key was used for (SHA-256), and the campaign that came of it."""

    digest: bytes
    campaign_id: int


async def placed(connection: Connection, campaign_id: int) -> list[Placed]:
    """The meters of a campaign that has not begun, as it was proposed for them."""
    cursor = await connection.execute(_QUERIES["placed"], {"campaign": campaign_id})
    return [Placed(*row) for row in await cursor.fetchall()]


async def models(connection: Connection, campaign_id: int) -> dict[str, int]:
    """How many meters of each model it is for."""
    cursor = await connection.execute(_QUERIES["models"], {"campaign": campaign_id})
    found: dict[str, int] = dict(await cursor.fetchall())
    return found


async def why_unfit(connection: Connection, campaign_id: int, *, most: int) -> dict[str, int]:
    """Why meters are not fit for it, with how many of each: at most so many reasons, the most frequent."""
    cursor = await connection.execute(_QUERIES["why_unfit"], {"campaign": campaign_id, "most": most})
    found: dict[str, int] = dict(await cursor.fetchall())
    return found


async def behind(connection: Connection, campaign_id: int) -> list[tuple[str | None, int, int]]:
    """Stations' models, how many stations that are, and how many fit meters are behind them; None: those that
    answer directly, or whose station's model is not known."""
    cursor = await connection.execute(_QUERIES["behind"], {"campaign": campaign_id})
    return [(model, stations, count) for model, stations, count in await cursor.fetchall()]


async def ends(connection: Connection, campaign_id: int, *, most: int) -> Ends:
    """At most so many of the first names and of the last."""
    cursor = await connection.execute(_QUERIES["ends"], {"campaign": campaign_id, "most": most})
    row = await cursor.fetchone()
    return Ends((), ()) if row is None else Ends(row[0] or (), row[1] or ())


async def named(
    connection: Connection,
    campaign_id: int,
    *,
    limit: int,
    after: str | None = None,
    wave: int | None = None,
    states: Sequence[MeterProgress] | None = None,
) -> list[Named]:
    """At most ``limit`` meters with names behind ``after``, in order of names."""
    cursor = await connection.execute(
        _QUERIES["named"],
        {
            "campaign": campaign_id,
            "after": after,
            "wave": wave,
            "states": None if states is None else [one.value for one in states],
            "limit": limit,
        },
    )
    return [_named(row) for row in await cursor.fetchall()]


async def ended(
    connection: Connection, campaign_id: int, *, limit: int, known: Collection[int] = ()
) -> list[Named]:
    """At most ``limit`` meters that have ended and are not ``known``, in the order of their ends."""
    cursor = await connection.execute(
        _QUERIES["ended"], {"campaign": campaign_id, "known": list(known), "limit": limit}
    )
    return [_named(row) for row in await cursor.fetchall()]


async def number(connection: Connection, name: str) -> int | None:
    """The meter of this name as campaigns number it; None where there is none."""
    cursor = await connection.execute(_QUERIES["number"], {"name": name})
    row = await cursor.fetchone()
    return None if row is None or row[0] is None else int(row[0])


async def due_lanes(connection: Connection, campaign_id: int) -> list[str]:
    """Lanes in which something of the campaign is due."""
    cursor = await connection.execute(_QUERIES["lanes"], {"campaign": campaign_id})
    return [lane for (lane,) in await cursor.fetchall()]


async def claim(
    connection: Connection, actor: str, key: str, digest: bytes, *, now: datetime
) -> Claimed | None:
    """Claim a key for a proposal with this digest; None: it is claimed, and `bind` follows in the
    transaction.

    Where the key is in use, what it was used for. A transaction that claims it too is waited for.
    """
    told = {"actor": actor, "key": key, "digest": digest, "now": sql.aware(now), "kept": KEPT}
    while True:
        if await (await connection.execute(_QUERIES["claim"], told)).fetchone() is not None:
            return None
        row = await (await connection.execute(_QUERIES["claimed"], told)).fetchone()
        if row is not None:  # else it was forgotten in between
            return Claimed(bytes(row[0]), row[1])


async def bind(connection: Connection, actor: str, key: str, campaign_id: int) -> None:
    """Say which campaign came of it."""
    await connection.execute(_QUERIES["bind"], {"actor": actor, "key": key, "campaign": campaign_id})


async def forget(connection: Connection, *, now: datetime) -> int:
    """Drop keys that are too old to stand for anything; how many."""
    return (await connection.execute(_QUERIES["forget"], {"now": sql.aware(now), "kept": KEPT})).rowcount


def _named(row: Sequence[Any]) -> Named:
    return Named(row[0], campaign_meters.of_row(row[1:]))
