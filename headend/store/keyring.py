"""Sealed keys, and counters that never go back. `headend.keys` seals and opens: no plain key comes here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from psycopg.pq import TransactionStatus

from headend.store import audit, sql
from headend.store.sql import Connection
from schemas.meter import KeyPurpose

_QUERIES: Final = sql.load("keyring")

#: One more than the greatest invocation counter (32 bits).
COUNTER_END: Final = 1 << 32
#: The first counter of a new key. Not 0: a meter accepts what is greater than its last, and that begins at 0.
FIRST_COUNTER: Final = 1


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A key as stored: ciphertext, and the id of the master key that seals it."""

    meter_id: int
    purpose: KeyPurpose
    sealed: bytes = field(repr=False)
    sealed_by: str
    key_id: bytes | None = None  # its fingerprint; None where it was stored before keys had one


async def put_keys(connection: Connection, keys: Sequence[SealedKey]) -> None:
    """Store keys; a meter's key for the same purpose is replaced."""
    await connection.execute(
        _QUERIES["put_keys"],
        {
            "meters": [key.meter_id for key in keys],
            "purposes": [key.purpose for key in keys],
            "sealed": [key.sealed for key in keys],
            "sealed_by": [key.sealed_by for key in keys],
            "key_ids": [key.key_id for key in keys],
        },
    )


async def name_keys(connection: Connection, keys: Sequence[tuple[int, KeyPurpose, bytes]]) -> None:
    """Store fingerprints of keys that have none: (meter number, purpose, fingerprint)."""
    await connection.execute(
        _QUERIES["name_keys"],
        {
            "meters": [meter for meter, _, _ in keys],
            "purposes": [purpose for _, purpose, _ in keys],
            "key_ids": [key_id for _, _, key_id in keys],
        },
    )


async def keys_of(connection: Connection, meter_ids: Sequence[int]) -> list[SealedKey]:
    """All keys of these meters."""
    cursor = await connection.execute(_QUERIES["keys_of"], {"meters": list(meter_ids)})
    return [
        SealedKey(meter, KeyPurpose(purpose), bytes(sealed), by, key_id)
        for meter, purpose, sealed, by, key_id in await cursor.fetchall()
    ]


async def sealed_by_others(connection: Connection, current: str, *, limit: int) -> list[SealedKey]:
    """Some keys that another master key than ``current`` seals, locked until the transaction ends."""
    cursor = await connection.execute(_QUERIES["sealed_by_others"], {"current": current, "limit": limit})
    return [
        SealedKey(meter, KeyPurpose(purpose), bytes(sealed), by, key_id)
        for meter, purpose, sealed, by, key_id in await cursor.fetchall()
    ]


async def reseal(connection: Connection, keys: Sequence[SealedKey], *, sealed_by: str) -> None:
    """Store the same keys under another master key."""
    await connection.execute(
        _QUERIES["reseal"],
        {
            "meters": [key.meter_id for key in keys],
            "purposes": [key.purpose for key in keys],
            "sealed": [key.sealed for key in keys],
            "sealed_by": sealed_by,
        },
    )


async def fingerprint_key(connection: Connection) -> tuple[bytes, str] | None:
    """The sealed fingerprint key and the id of its master key; None before the first."""
    cursor = await connection.execute(_QUERIES["fingerprint_key"])
    row = await cursor.fetchone()
    return None if row is None else (bytes(row[0]), row[1])


async def first_fingerprint_key(connection: Connection, sealed: bytes, sealed_by: str) -> None:
    """Store the fingerprint key unless there is one."""
    await connection.execute(_QUERIES["first_fingerprint_key"], {"sealed": sealed, "sealed_by": sealed_by})


async def reseal_fingerprint_key(connection: Connection, sealed: bytes, sealed_by: str) -> None:
    """Store the same fingerprint key under another master key."""
    await connection.execute(_QUERIES["reseal_fingerprint_key"], {"sealed": sealed, "sealed_by": sealed_by})


async def reserve(
    connection: Connection, key_ids: Sequence[bytes], title: bytes, *, block: int
) -> dict[bytes, tuple[int, int]]:
    """Reserve a block of counters for each key under our system title; (first, end) by key id, end not
    included.

    Committed when this returns. Near the end of the 32 bits blocks get smaller; keys without any counter left
    are not in the answer. Raises RuntimeError inside a transaction, which could still roll the reservation
    back.
    """
    if connection.info.transaction_status is not TransactionStatus.IDLE:
        raise RuntimeError(
            "counters are reserved in a transaction of their own, which is committed before use"
        )
    blocks: dict[bytes, tuple[int, int]] = {}
    wanted = sorted(set(key_ids))  # in one order, so that two reservations never wait in a circle
    async with connection.transaction():
        await connection.execute(_QUERIES["durable"])
        while wanted and block > 0:
            cursor = await connection.execute(
                _QUERIES["reserve"], {"keys": wanted, "title": title, "block": block, "first": FIRST_COUNTER}
            )
            for key_id, end in await cursor.fetchall():
                blocks[bytes(key_id)] = (end - block, end)
            wanted = [key_id for key_id in wanted if key_id not in blocks]
            block //= 2
    return blocks


async def next_values(connection: Connection, key_ids: Sequence[bytes], title: bytes) -> dict[bytes, int]:
    """The first counter of each key that nobody has reserved, under our system title; by key id."""
    cursor = await connection.execute(_QUERIES["next_values"], {"keys": list(key_ids), "title": title})
    return {bytes(key_id): value for key_id, value in await cursor.fetchall()}


@dataclass(frozen=True, slots=True)
class Raised:
    """What `raise_counter` did: the counter before and after; ``refused``: too far, nothing changed."""

    before: int
    after: int
    refused: bool = False


async def raise_counter(
    connection: Connection, key_id: bytes, title: bytes, *, value: int, limit: int, actor: str, reason: str
) -> Raised:
    """Let the next reservation begin at ``value`` or later, never earlier than now, at most ``limit``
    further.

    Every raise, and every refused one, is in the audit log. Raises RuntimeError inside a transaction.
    """
    if not 0 <= value <= COUNTER_END:
        raise ValueError(f"a counter is 0..{COUNTER_END}, not {value}")
    if connection.info.transaction_status is not TransactionStatus.IDLE:
        raise RuntimeError("counters are raised in a transaction of their own, which is committed before use")
    at = {"key": key_id, "title": title}
    async with connection.transaction():
        await connection.execute(_QUERIES["durable"])
        await connection.execute(_QUERIES["counter_row"], {**at, "first": FIRST_COUNTER})
        cursor = await connection.execute(_QUERIES["lock_counter"], at)
        row = await cursor.fetchone()
        before: int = FIRST_COUNTER if row is None else row[0]
        if value <= before:
            return Raised(before, before)
        refused = value - before > limit
        if not refused:
            await connection.execute(_QUERIES["raise_counter"], {**at, "value": value})
        await audit.record(
            connection,
            actor=actor,
            action="counter.jump_refused" if refused else "counter.raised",
            object_=f"key:{key_id.hex()[:16]}",
            detail={"from": before, "to": value, "reason": reason},
        )
        return Raised(before, before if refused else value, refused)


async def jump_all_counters(connection: Connection, *, by: int, actor: str) -> int:
    """Move every counter on by ``by``; how many there are. For a restored database or a promoted standby:
    ``by`` must exceed all that could have been handed out since the copy was made."""
    if by <= 0:
        raise ValueError("counters only go up")
    async with connection.transaction():
        await connection.execute(_QUERIES["durable"])
        cursor = await connection.execute(_QUERIES["jump_all"], {"by": by})
        await audit.record(
            connection, actor=actor, action="counter.jump_all", object_="keys", detail={"by": by}
        )
        return cursor.rowcount


async def peer_counters(
    connection: Connection, peers: Sequence[tuple[bytes, bytes]]
) -> Mapping[tuple[bytes, bytes], int]:
    """The last counter accepted from each (key id, system title), without peers never heard of."""
    cursor = await connection.execute(
        _QUERIES["peer_counters"],
        {"keys": [key for key, _ in peers], "titles": [title for _, title in peers]},
    )
    return {(bytes(key), bytes(title)): last for key, title, last in await cursor.fetchall()}


async def advance_peers(connection: Connection, proven: Mapping[tuple[bytes, bytes], int]) -> None:
    """Keep the last proven counters of many peers, by (key id, system title); a lower one changes nothing."""
    pairs = sorted(proven)  # in one order for all writers, so that none waits for another in a circle
    await connection.execute(
        _QUERIES["advance_peers"],
        {
            "keys": [key for key, _ in pairs],
            "titles": [title for _, title in pairs],
            "values": [proven[pair] for pair in pairs],
        },
    )
