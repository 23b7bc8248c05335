"""Log-ins that are under way at the provider of identities: each is taken once."""

from datetime import datetime
from typing import Final, NamedTuple

from headend.store import sql
from headend.store.sql import Connection

_QUERIES: Final = sql.load("oidc")


class Begun(NamedTuple):
    """What is remembered of one: SHA-256 of what the browser keeps, nonce, and code verifier."""

    binding: bytes
    nonce: str
    verifier: str


async def begin(
    connection: Connection,
    *,
    state: bytes,
    binding: bytes,
    nonce: str,
    verifier: str,
    now: datetime,
    expires_at: datetime,
) -> None:
    """Remember one until ``expires_at``; those whose time is over are forgotten."""
    await connection.execute(_QUERIES["forget"], {"now": sql.aware(now)})
    await connection.execute(
        _QUERIES["begin"],
        {
            "state": state,
            "binding": binding,
            "nonce": nonce,
            "verifier": verifier,
            "expires_at": sql.aware(expires_at),
        },
    )


async def take(connection: Connection, state: bytes, *, now: datetime) -> Begun | None:
    """The one with this state, which nobody can take again; None where there is none, or its time is over."""
    row = await (
        await connection.execute(_QUERIES["take"], {"state": state, "now": sql.aware(now)})
    ).fetchone()
    return None if row is None else Begun(bytes(row[0]), row[1], row[2])
