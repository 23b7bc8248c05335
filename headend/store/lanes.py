"""Leases on lanes, with fencing: who holds a lane works at its requests, nobody else.

Two kinds of row lock keep wakers and holders apart. Who adds requests to a lane takes a key-share lock on it
before looking whether somebody holds it (`headend.store.queue.wake`); that keeps nobody from writing under
the lane. Who gives it back takes the full lock first and looks for requests after: so one of the two sees the
other, and no request is left in a lane that nobody was told of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from headend.store import sql
from headend.store.sql import Connection

_QUERIES: Final = sql.load("lanes")
#: The advisory locks of lanes are told from others by this number.
_SPACE: Final = 0x4C4E


class LaneLost(Exception):
    """Somebody else has taken these lanes: nothing that was read under them may be stored by us."""

    def __init__(self, lanes: Sequence[str]) -> None:
        super().__init__(f"held by somebody else now: {', '.join(lanes)}")
        self.lanes = frozenset(lanes)


class Lease(NamedTuple):
    """A lane that is held, and the fence under which it is written."""

    lane: str
    fence: int


class Unserved(NamedTuple):
    """A lane with due requests; ``urgency`` is that of the most urgent."""

    lane: str
    urgency: int


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane as people see it; ``holder`` is None where nobody holds it. ``open`` counts its requests."""

    lane: str
    holder: str | None
    fence: int
    expires_at: datetime | None
    open: int


async def take(connection: Connection, lanes: Sequence[str], *, holder: str, lease_s: float) -> list[Lease]:
    """Leases of ``lease_s`` seconds on those of ``lanes`` that nobody holds."""
    cursor = await connection.execute(
        _QUERIES["take"], {"lanes": list(lanes), "holder": holder, "lease_s": lease_s, "space": _SPACE}
    )
    return [Lease(lane, fence) for lane, fence in await cursor.fetchall()]


async def share(connection: Connection, leases: Sequence[Lease]) -> None:
    """As `hold`, without renewing anything: what somebody waits for need not wait for a large transaction
    under the same lease. Raises LaneLost."""
    await connection.execute(_QUERIES["share"], {"lanes": [one.lane for one in leases], "space": _SPACE})
    # a statement of its own: it must see what was committed before the lock was had
    cursor = await connection.execute(_QUERIES["lost"], _pairs(leases))
    if lost := [lane for (lane,) in await cursor.fetchall()]:
        raise LaneLost(lost)


async def hold(connection: Connection, leases: Sequence[Lease], *, lease_s: float) -> None:
    """Renew the leases, and keep others from them until this transaction ends. Raises LaneLost with all that
    are lost; the transaction is then of no use."""
    cursor = await connection.execute(_QUERIES["hold"], {**_pairs(leases), "lease_s": lease_s})
    if cursor.rowcount < len(leases):
        held = {lane for (lane,) in await cursor.fetchall()}
        raise LaneLost([one.lane for one in leases if one.lane not in held])


async def renew(connection: Connection, leases: Sequence[Lease], *, lease_s: float) -> list[str]:
    """Renew the leases without waiting for anybody; the lanes that are lost."""
    await connection.execute(_QUERIES["renew"], {**_pairs(leases), "lease_s": lease_s})
    cursor = await connection.execute(_QUERIES["lost"], _pairs(leases))
    return [lane for (lane,) in await cursor.fetchall()]


async def give_back(connection: Connection, leases: Sequence[Lease]) -> list[Unserved]:
    """End the leases, so that others need not wait for their end; those of the lanes in which requests are
    due, which the caller then wakes. In a transaction."""
    names = [one.lane for one in leases]
    await connection.execute(_QUERIES["give_back_lock"], {"lanes": names})
    await connection.execute(_QUERIES["give_back"], _pairs(leases))
    return await due(connection, names)


async def due(connection: Connection, lanes: Sequence[str]) -> list[Unserved]:
    """Those of these lanes in which requests are due, whoever holds them."""
    cursor = await connection.execute(_QUERIES["due"], {"lanes": list(lanes)})
    return [Unserved(*row) for row in await cursor.fetchall()]


async def unserved(connection: Connection, *, limit: int = 10_000) -> list[Unserved]:
    """Lanes in which requests are due and that nobody holds, the most urgent first."""
    cursor = await connection.execute(_QUERIES["unserved"], {"limit": limit})
    return [Unserved(*row) for row in await cursor.fetchall()]


async def of_meters(connection: Connection, stations: Mapping[int, int | None]) -> dict[int, str]:
    """The lanes of meters, each given with the node of the station that it is behind."""
    cursor = await connection.execute(
        _QUERIES["of_meters"], {"meters": list(stations), "stations": list(stations.values())}
    )
    return dict(await cursor.fetchall())


async def ensure(connection: Connection, names: Sequence[str]) -> None:
    """Make the lanes that are not there yet."""
    await connection.execute(_QUERIES["ensure"], {"lanes": sorted(set(names))})


async def page(connection: Connection, *, limit: int, after: str | None = None) -> list[Lane]:
    """At most ``limit`` lanes behind ``after``, by name."""
    return await _find(connection, limit=limit, after=after)


async def holder_of(connection: Connection, lane: str) -> str | None:
    """Who holds the lane; None where nobody does, or there is no such lane."""
    found = await _find(connection, limit=1, lanes=[lane])
    return found[0].holder if found else None


async def _find(
    connection: Connection, *, limit: int, after: str | None = None, lanes: Sequence[str] | None = None
) -> list[Lane]:
    cursor = await connection.execute(
        _QUERIES["find"], {"after": after, "limit": limit, "lanes": None if lanes is None else list(lanes)}
    )
    return [
        Lane(lane, holder, fence, None if expires_at is None else expires_at.astimezone(UTC), number)
        for lane, holder, fence, expires_at, number in await cursor.fetchall()
    ]


def _pairs(leases: Sequence[Lease]) -> dict[str, Any]:
    return {"lanes": [one.lane for one in leases], "fences": [one.fence for one in leases]}
