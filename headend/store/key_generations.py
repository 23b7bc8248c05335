"""Sealed keys of meters beside their current ones: pending, which a meter may have been told, and former.

What is written here is committed durably when the call returns, whatever the server's settings: a meter that
was told a key which nobody remembers is lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from headend.store import audit, sql
from headend.store.sql import Connection
from schemas.meter import KeyPurpose

_QUERIES: Final = sql.load("key_generations")


class Generation(StrEnum):
    """What a key beside the current one is."""

    PENDING = "pending"
    FORMER = "former"


@dataclass(frozen=True, slots=True)
class OtherKey:
    """A key as stored. ``campaign_id`` and ``sent_at`` are of pending ones, as far as they are asked for."""

    meter_id: int
    purpose: KeyPurpose
    generation: Generation
    sealed: bytes = field(repr=False)
    sealed_by: str
    key_id: bytes
    campaign_id: int | None = None
    sent_at: datetime | None = None


async def add_pending(
    connection: Connection, meter_id: int, keys: Sequence[OtherKey], *, campaign_id: int | None, actor: str
) -> None:
    """Store new keys of a meter; for purposes that have a pending one, that stays."""
    async with connection.transaction():
        await connection.execute(_QUERIES["durable"])
        await connection.execute(
            _QUERIES["add_pending"],
            {
                "meter": meter_id,
                "campaign": campaign_id,
                "purposes": [key.purpose for key in keys],
                "sealed": [key.sealed for key in keys],
                "sealed_by": [key.sealed_by for key in keys],
                "key_ids": [key.key_id for key in keys],
            },
        )
        await _audit(connection, "keys.made", actor, meter_id, [key.purpose for key in keys])


async def pending_of(connection: Connection, meter_ids: Sequence[int]) -> list[OtherKey]:
    """All pending keys of these meters."""
    cursor = await connection.execute(_QUERIES["pending_of"], {"meters": list(meter_ids)})
    return [
        OtherKey(meter, KeyPurpose(purpose), Generation.PENDING, sealed, by, key_id, campaign, sent_at)
        for meter, purpose, sealed, by, key_id, campaign, sent_at in await cursor.fetchall()
    ]


async def sent(connection: Connection, meter_id: int) -> None:
    """From here on the meter may use its pending keys."""
    async with connection.transaction():
        await connection.execute(_QUERIES["durable"])
        await connection.execute(_QUERIES["sent"], {"meter": meter_id})


async def promote(
    connection: Connection, meter_id: int, keys: Mapping[KeyPurpose, bytes], *, actor: str
) -> frozenset[KeyPurpose]:
    """These pending keys, named by purpose and fingerprint, are the meter's: they become its current ones,
    and those before its former ones. What of them was pending; nothing where somebody else did it before."""
    async with connection.transaction():
        await connection.execute(_QUERIES["durable"])
        cursor = await connection.execute(
            _QUERIES["lock_promoted"],
            {"meter": meter_id, "purposes": list(keys), "key_ids": list(keys.values())},
        )
        found = sorted(KeyPurpose(purpose) for (purpose,) in await cursor.fetchall())
        if found:
            at = {"meter": meter_id, "purposes": found}
            for step in ("keep_former", "promote", "drop_pending"):
                await connection.execute(_QUERIES[step], at)
            await _audit(connection, "keys.changed", actor, meter_id, found)
    return frozenset(found)


async def drop_pending(
    connection: Connection, meter_id: int, purposes: Sequence[KeyPurpose], *, actor: str, reason: str
) -> None:
    """These pending keys are not the meter's, and never will be."""
    async with connection.transaction():
        await connection.execute(_QUERIES["durable"])
        at = {"meter": meter_id, "purposes": list(purposes)}
        cursor = await connection.execute(_QUERIES["drop_pending"], at)
        if cursor.rowcount:
            await _audit(connection, "keys.dropped", actor, meter_id, purposes, reason)


async def tidy(connection: Connection, *, before: datetime) -> None:
    """Forget keys that no meter was told, of campaigns that are over, and former keys replaced ``before``."""
    async with connection.transaction():
        await connection.execute(_QUERIES["drop_unsent"])
        await connection.execute(_QUERIES["forget_former"], {"before": before})


async def sealed_by_others(connection: Connection, current: str, *, limit: int) -> list[OtherKey]:
    """Some keys that another master key than ``current`` seals, locked until the transaction ends."""
    cursor = await connection.execute(_QUERIES["sealed_by_others"], {"current": current, "limit": limit})
    return [
        OtherKey(meter, KeyPurpose(purpose), Generation(generation), sealed, by, key_id)
        for meter, purpose, generation, sealed, by, key_id in await cursor.fetchall()
    ]


async def reseal(connection: Connection, keys: Sequence[OtherKey], *, sealed_by: str) -> None:
    """Store the same keys under another master key."""
    await connection.execute(
        _QUERIES["reseal"],
        {
            "meters": [key.meter_id for key in keys],
            "purposes": [key.purpose for key in keys],
            "generations": [key.generation for key in keys],
            "sealed": [key.sealed for key in keys],
            "sealed_by": sealed_by,
        },
    )


async def _audit(
    connection: Connection,
    action: str,
    actor: str,
    meter_id: int,
    purposes: Sequence[KeyPurpose],
    reason: str | None = None,
) -> None:
    detail: dict[str, object] = {"purposes": sorted(purposes)}
    if reason is not None:
        detail["reason"] = reason
    await audit.record(connection, actor=actor, action=action, object_=f"meter:{meter_id}", detail=detail)
