"""Receipts: which messages came within 24 hours, and what topics last said of their device's presence.

A broker may deliver a message again and does not reliably say so. Where a batch has a sequence number that
tells; everything else is the same message where topic and payload are the same.
"""

from collections.abc import Sequence
from typing import Final

from headend.store import sql
from headend.store.sql import Connection

_QUERIES: Final = sql.load("receipts")


async def note(connection: Connection, digests: Sequence[bytes]) -> set[bytes]:
    """Remember messages by their digests (each once); those that did not come within the last 24 hours."""
    cursor = await connection.execute(_QUERIES["note"], {"digests": _array(digests)}, binary=True)
    return {bytes(digest) for (digest,) in await cursor.fetchall()}


async def known(connection: Connection, digests: Sequence[bytes]) -> set[bytes]:
    """Which of these came within the last 24 hours; nothing is remembered."""
    cursor = await connection.execute(_QUERIES["known"], {"digests": _array(digests)}, binary=True)
    return {bytes(digest) for (digest,) in await cursor.fetchall()}


async def prune(connection: Connection) -> None:
    """Forget what is too old to matter. Cheap; more often than daily is of no use."""
    cursor = await connection.execute(_QUERIES["prune"])
    row = await cursor.fetchone()
    if row is not None:
        await connection.execute(_QUERIES[f"truncate_{row[0]}"])


async def has_changed(connection: Connection, topic: str, state: str) -> bool:
    """Whether ``state`` is another than the one that the topic told before; it is remembered."""
    cursor = await connection.execute(_QUERIES["presence"], {"topic": topic, "state": state})
    return await cursor.fetchone() is not None


def _array(digests: Sequence[bytes]) -> str:
    """An array literal: psycopg dumps a list element by element."""
    elements = ",".join(f'"\\\\x{digest.hex()}"' for digest in digests)
    return f"{{{elements}}}"
