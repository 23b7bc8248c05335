"""The inbox: pushes that no profile explains or no meter owns, kept as they came until an engineer looks."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from headend.store import sql
from headend.store.errors import UnknownError
from headend.store.sql import Connection

_QUERIES: Final = sql.load("inbox")

#: Unresolved payloads kept for one source: one broken sender must not fill the database.
MOST_PER_SOURCE: Final = 1000


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """One payload as it came; ``identity``: who the sender claims to be, ``reason``: why it is not stored."""

    inbox_id: int
    received_at: datetime
    source: str
    identity: str | None
    payload: bytes
    reason: str


async def put(
    connection: Connection,
    *,
    source: str,
    payload: bytes,
    reason: str,
    identity: str | None = None,
    most: int = MOST_PER_SOURCE,
) -> int | None:
    """Keep a payload; its number, or None where the source has ``most`` unresolved ones already.

    ``source`` should name the sender without its port, or the bound bounds nothing.
    """
    cursor = await connection.execute(
        _QUERIES["put"],
        {"source": source, "identity": identity, "payload": payload, "reason": reason, "most": most},
    )
    row = await cursor.fetchone()
    return None if row is None else row[0]


async def unresolved(connection: Connection, *, limit: int, after: int = 0) -> list[InboxEntry]:
    """At most ``limit`` unresolved payloads with numbers above ``after``, oldest first."""
    cursor = await connection.execute(_QUERIES["unresolved"], {"limit": limit, "after": after})
    return [
        InboxEntry(number, received_at, source, identity, bytes(payload), reason)
        for number, received_at, source, identity, payload, reason in await cursor.fetchall()
    ]


async def resolve(connection: Connection, inbox_id: int) -> None:
    """Mark a payload as dealt with. Raises UnknownError."""
    cursor = await connection.execute(_QUERIES["resolve"], {"entry": inbox_id})
    if await cursor.fetchone() is None:
        raise UnknownError(f"no inbox entry {inbox_id}")
