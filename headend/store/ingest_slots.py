"""Leases on ingest slots, with fencing: who holds a slot may store what its session brings, nobody else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from headend.store import sql
from headend.store.sql import Connection

_QUERIES: Final = sql.load("ingest_slots")


class LeaseLost(Exception):
    """Somebody else has taken the slot: nothing that its session brought us may be stored by us."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A slot that is held. ``filters``: what its session was subscribed to when it was taken."""

    slot: str
    fence: int
    lease_s: float
    filters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot as people see it; ``holder`` is None where nobody reads it."""

    slot: str
    holder: str | None
    fence: int
    filters: tuple[str, ...]


async def ensure(connection: Connection, slots: Sequence[str]) -> None:
    """Make the slots that are not there yet."""
    await connection.execute(_QUERIES["ensure"], {"slots": list(slots)})


async def take(connection: Connection, slots: Sequence[str], *, holder: str, lease_s: float) -> Lease | None:
    """A lease of ``lease_s`` seconds on one of ``slots`` that nobody holds; None where all are held.

    A former slot whose session is still subscribed to something is taken too.
    """
    cursor = await connection.execute(
        _QUERIES["take"], {"slots": list(slots), "holder": holder, "lease_s": lease_s}
    )
    row = await cursor.fetchone()
    return None if row is None else Lease(row[0], row[1], lease_s, tuple(row[2]))


async def hold(connection: Connection, lease: Lease) -> None:
    """Renew the lease, and keep others from it until this transaction ends. Raises LeaseLost."""
    cursor = await connection.execute(
        _QUERIES["hold"], {"slot": lease.slot, "fence": lease.fence, "lease_s": lease.lease_s}
    )
    if await cursor.fetchone() is None:
        raise LeaseLost(f"slot {lease.slot} is read by somebody else now")


async def give_back(connection: Connection, lease: Lease) -> None:
    """End the lease, so that somebody else need not wait for its end."""
    await connection.execute(_QUERIES["give_back"], {"slot": lease.slot, "fence": lease.fence})


async def subscribed(connection: Connection, lease: Lease, filters: Sequence[str]) -> None:
    """Remember what the slot's session is subscribed to."""
    await connection.execute(
        _QUERIES["subscribed"], {"slot": lease.slot, "fence": lease.fence, "filters": list(filters)}
    )


async def all_slots(connection: Connection) -> list[Slot]:
    """Every slot there has been, in order of names."""
    cursor = await connection.execute(_QUERIES["all"])
    return [
        Slot(slot, holder if held else None, fence, tuple(filters))
        for slot, holder, fence, held, filters in await cursor.fetchall()
    ]
