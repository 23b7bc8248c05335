"""The audit log: who did what to what, written in the very transaction that does it.

The database adds each entry to a chain of hashes when that transaction commits, and refuses to change or
remove any; `headend.audit` verifies the chain, whoever wrote it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from psycopg.types.json import Jsonb

from headend.store import sql
from headend.store.sql import Connection

_QUERIES: Final = sql.load("audit")


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the log, as ``record`` took it; ``at`` is the beginning of its transaction."""

    audit_id: int
    at: datetime
    actor: str
    action: str
    object: str
    detail: Mapping[str, Any]


class Head(NamedTuple):
    """The end of the chain: how many entries it has, and the hash of the last (zeros where it has none)."""

    position: int
    hash: bytes


class Link(NamedTuple):
    """One place of the chain. ``text`` is the entry that stands there, as its hash covers it; None: gone."""

    position: int
    audit_id: int
    hash: bytes
    text: str | None


class StoredSeal(NamedTuple):
    """The end of the chain as it was at an aware time, under a key that the database has not."""

    position: int
    hash: bytes
    seal: bytes
    at: datetime


async def record(
    connection: Connection, *, actor: str, action: str, object_: str, detail: Mapping[str, Any] | None = None
) -> None:
    """Write one line: ``actor`` as ``token:3 nightly`` or ``cli``, ``action`` as ``meter.state``, ``object_``
    as ``meter:4711``. ``detail`` is JSON and never holds a key."""
    await connection.execute(
        _QUERIES["record"],
        {"actor": actor, "action": action, "object": object_, "detail": Jsonb(dict(detail or {}))},
    )


async def page(
    connection: Connection,
    *,
    limit: int,
    object_: str | None = None,
    actor: str | None = None,
    before: int | None = None,
) -> list[AuditEntry]:
    """At most ``limit`` entries with numbers below ``before``, newest first."""
    cursor = await connection.execute(
        _QUERIES["page"], {"limit": limit, "object": object_, "actor": actor, "before": before}
    )
    return [AuditEntry(*row) for row in await cursor.fetchall()]


async def head(connection: Connection) -> Head:
    """The end of the chain."""
    cursor = await connection.execute(_QUERIES["head"])
    row = await cursor.fetchone()
    return Head(0, bytes(32)) if row is None else Head(row[0], bytes(row[1]))


@asynccontextmanager
async def one_state(connection: Connection) -> AsyncIterator[None]:
    """A transaction that sees everything as it was at its first statement, whoever writes meanwhile."""
    async with connection.transaction():
        await connection.execute(_QUERIES["one_state"])
        yield


async def chain(connection: Connection, *, after: int, limit: int) -> list[Link]:
    """At most ``limit`` links behind position ``after``, in order."""
    cursor = await connection.execute(_QUERIES["chain"], {"after": after, "limit": limit})
    return [Link(place, number, bytes(found), text) for place, number, found, text in await cursor.fetchall()]


async def unchained(connection: Connection, *, limit: int) -> Sequence[int]:
    """Numbers of entries that stand nowhere in the chain; at most ``limit``."""
    cursor = await connection.execute(_QUERIES["unchained"], {"limit": limit})
    return [number for (number,) in await cursor.fetchall()]


async def seals(connection: Connection) -> list[StoredSeal]:
    """All seals, in order."""
    cursor = await connection.execute(_QUERIES["seals"])
    return [
        StoredSeal(place, bytes(found), bytes(seal), at) for place, found, seal, at in await cursor.fetchall()
    ]


async def add_seal(connection: Connection, sealed: Head, seal: bytes) -> bool:
    """Store a seal of the chain's end; False where that is sealed already."""
    cursor = await connection.execute(
        _QUERIES["seal"], {"position": sealed.position, "hash": sealed.hash, "seal": seal}
    )
    return cursor.rowcount == 1
