"""Firmware packages as they came, and which version each meter was found to have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from psycopg.types.json import Jsonb

from headend.store import sql
from headend.store.errors import UnknownError
from headend.store.sql import Connection

_QUERIES: Final = sql.load("firmware")


@dataclass(frozen=True, slots=True)
class StoredPackage:
    """A package without its bytes: ``digest`` of its file in hexadecimal, ``size`` of it; aware UTC."""

    digest: str
    manifest: Mapping[str, Any]
    key_id: str
    size: int
    actor: str
    created_at: datetime


class Version(NamedTuple):
    """What a meter showed from ``read_at`` (aware UTC) on, as far as it was looked."""

    read_at: datetime
    version: str
    hardware: str | None


class Share(NamedTuple):
    """How many meters of a model show a version."""

    model: str
    version: str
    meters: int


async def add(
    connection: Connection, data: bytes, *, digest: str, manifest: Mapping[str, Any], key_id: str, actor: str
) -> bool:
    """Store a package that was checked; False where it is there already."""
    cursor = await connection.execute(
        _QUERIES["add"],
        {
            "digest": bytes.fromhex(digest),
            "manifest": Jsonb(dict(manifest)),
            "key_id": key_id,
            "data": data,
            "actor": actor,
        },
    )
    return cursor.rowcount == 1


async def find(connection: Connection, digest: str) -> StoredPackage:
    """The package of this digest (hexadecimal). Raises UnknownError."""
    cursor = await connection.execute(_QUERIES["find"], {"digest": bytes.fromhex(digest)})
    row = await cursor.fetchone()
    if row is None:
        raise UnknownError(f"no firmware package {digest} was uploaded: `headend firmware list` shows those")
    return _stored(row)


async def list_all(connection: Connection) -> list[StoredPackage]:
    """All packages, newest first."""
    cursor = await connection.execute(_QUERIES["all"])
    return [_stored(row) for row in await cursor.fetchall()]


async def data(connection: Connection, digest: str) -> bytes:
    """The file of a package as it came: to be unpacked, and so checked, before it is used. Raises
    UnknownError."""
    cursor = await connection.execute(_QUERIES["data"], {"digest": bytes.fromhex(digest)})
    row = await cursor.fetchone()
    if row is None:
        raise UnknownError(f"no firmware package {digest} was uploaded: `headend firmware list` shows those")
    return bytes(row[0])


async def note_version(
    connection: Connection, meter_id: int, version: str, hardware: str | None, *, at: datetime
) -> None:
    """The meter showed this version and hardware at ``at``; noted where it is another than before."""
    await connection.execute(
        _QUERIES["note_version"],
        {"meter": meter_id, "read_at": sql.aware(at), "version": version, "hardware": hardware},
    )


async def versions(connection: Connection, meter_id: int, *, limit: int = 100) -> list[Version]:
    """What the meter showed, newest first."""
    cursor = await connection.execute(_QUERIES["versions"], {"meter": meter_id, "limit": limit})
    return [Version(at.astimezone(UTC), *rest) for at, *rest in await cursor.fetchall()]


async def fleet(connection: Connection) -> list[Share]:
    """How many meters show which version, by model."""
    cursor = await connection.execute(_QUERIES["fleet"])
    return [Share(*row) for row in await cursor.fetchall()]


def _stored(row: Sequence[Any]) -> StoredPackage:
    digest, manifest, key_id, size, actor, created_at = row
    return StoredPackage(bytes(digest).hex(), manifest, key_id, size, actor, created_at.astimezone(UTC))
