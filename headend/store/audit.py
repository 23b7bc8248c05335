"""The audit log: who did what to what, written in the very transaction that does it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

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
    connection: Connection, *, limit: int, object_: str | None = None, before: int | None = None
) -> list[AuditEntry]:
    """At most ``limit`` entries with numbers below ``before``, newest first."""
    cursor = await connection.execute(_QUERIES["page"], {"limit": limit, "object": object_, "before": before})
    return [AuditEntry(*row) for row in await cursor.fetchall()]
