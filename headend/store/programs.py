"""Programs: stored once, never changed, found by number."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from psycopg.types.json import Jsonb

from headend.store import sql
from headend.store.errors import UnknownError
from headend.store.sql import Connection
from schemas.program import PROGRAM, Program, ProgramKind, digest

_QUERIES: Final = sql.load("programs")


@dataclass(frozen=True, slots=True)
class StoredProgram:
    """A program as it is stored; ``created_at`` aware UTC."""

    program_id: int
    kind: ProgramKind
    name: str
    content: Program
    digest: bytes
    actor: str
    created_at: datetime


async def add(connection: Connection, name: str, content: Program, *, actor: str) -> int:
    """Store it; its number, which is that of the same content where that is stored already."""
    cursor = await connection.execute(
        _QUERIES["add"],
        {
            "kind": content.kind,
            "name": name,
            "content": Jsonb(PROGRAM.dump_python(content, mode="json")),
            "digest": digest(content),
            "actor": actor,
        },
    )
    row = await cursor.fetchone()
    if row is None:
        raise UnknownError("the program was not stored")
    return int(row[0])


async def find(connection: Connection, program_id: int) -> StoredProgram:
    """The program of this number. Raises UnknownError."""
    cursor = await connection.execute(_QUERIES["find"], {"program": program_id})
    row = await cursor.fetchone()
    if row is None:
        raise UnknownError(f"no program has the number {program_id}")
    return _stored(row)


async def page(
    connection: Connection, *, limit: int, before: int | None = None, kind: ProgramKind | None = None
) -> list[StoredProgram]:
    """At most ``limit`` programs with numbers below ``before``, newest first."""
    cursor = await connection.execute(
        _QUERIES["page"], {"limit": limit, "before": before, "kind": None if kind is None else kind.value}
    )
    return [_stored(row) for row in await cursor.fetchall()]


def _stored(row: Sequence[Any]) -> StoredProgram:
    program_id, kind, name, content, found, actor, created_at = row
    return StoredProgram(
        program_id,
        ProgramKind(kind),
        name,
        PROGRAM.validate_python(content),
        bytes(found),
        actor,
        created_at.astimezone(UTC),
    )
