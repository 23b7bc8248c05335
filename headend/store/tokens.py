"""API tokens: 256 random bits, shown once, stored as SHA-256.

The digest of so much chance needs neither salt nor stretching, and finding it by index tells an attacker
nothing that he could build a token from.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from headend.store import sql
from headend.store.errors import UnknownError
from headend.store.sql import Connection

_QUERIES: Final = sql.load("tokens")

#: What a token begins with, so that scanners for leaked secrets can find it.
PREFIX: Final = "hdnd_"
_LONGEST: Final = 128


class Scope(StrEnum):
    """What a token allows; each scope includes those before it."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


_RANK: Final = {scope: rank for rank, scope in enumerate(Scope)}


@dataclass(frozen=True, slots=True)
class Token:
    """A stored token, without its secret. Times are aware."""

    token_id: int
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    #: whose it is; None: nobody's
    account_id: int | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether the token may do what needs ``scope``."""
        return any(_RANK[own] >= _RANK[scope] for own in self.scopes)


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token just made. ``secret`` exists nowhere else and shows in no repr."""

    token: Token
    secret: str = field(repr=False)


def _token(row: Sequence[Any]) -> Token:
    return Token(row[0], row[1], tuple(Scope(scope) for scope in row[2]), *row[3:8])


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


async def create(
    connection: Connection,
    *,
    name: str,
    scopes: Iterable[Scope],
    expires_at: datetime | None = None,
    account_id: int | None = None,
) -> IssuedToken:
    """Make a token, of an account or of nobody.

    Raises ValueError without a name, without scopes, or with a naive time.
    """
    owned = tuple(sorted(set(scopes), key=_RANK.__getitem__))
    if not name.strip() or not owned:
        raise ValueError("a token needs a name and at least one scope")
    if expires_at is not None and expires_at.tzinfo is None:
        raise ValueError("expires_at must have an offset from UTC")
    secret = PREFIX + secrets.token_urlsafe(32)
    cursor = await connection.execute(
        _QUERIES["add"],
        {
            "name": name.strip(),
            "digest": _digest(secret),
            "scopes": list(owned),
            "expires_at": expires_at,
            "account": account_id,
        },
    )
    row = await cursor.fetchone()
    if row is None:
        raise UnknownError("the token was not stored")
    return IssuedToken(Token(row[0], name.strip(), owned, row[1], expires_at, None, None, account_id), secret)


async def verify(connection: Connection, secret: str, *, now: datetime) -> Token | None:
    """The token with this secret, None where it is unknown, revoked or over. Notes its use once a minute."""
    if not secret.startswith(PREFIX) or len(secret) > _LONGEST or not secret.isascii():
        return None
    digest = _digest(secret)
    cursor = await connection.execute(_QUERIES["by_digest"], {"digest": digest, "now": now})
    row = await cursor.fetchone()
    if row is None or not hmac.compare_digest(bytes(row[8]), digest):
        return None
    token = _token(row)
    if token.last_used_at is None or (now - token.last_used_at).total_seconds() > 60:
        await connection.execute(_QUERIES["touch"], {"token": token.token_id, "now": now})
    return token


async def of_secret(connection: Connection, secret: str) -> Token | None:
    """The token that has this secret, good or not."""
    if not secret.startswith(PREFIX) or len(secret) > _LONGEST or not secret.isascii():
        return None
    cursor = await connection.execute(_QUERIES["of_digest"], {"digest": _digest(secret)})
    row = await cursor.fetchone()
    return None if row is None else _token(row)


async def list_all(connection: Connection) -> list[Token]:
    """All tokens, oldest first, revoked ones too."""
    cursor = await connection.execute(_QUERIES["all"])
    return [_token(row) for row in await cursor.fetchall()]


async def get(connection: Connection, token_id: int) -> Token:
    """One by number. Raises UnknownError."""
    row = await (await connection.execute(_QUERIES["get"], {"token": token_id})).fetchone()
    if row is None:
        raise UnknownError(f"no token number {token_id}")
    return _token(row)


async def revoke(connection: Connection, token_id: int, *, now: datetime) -> None:
    """End a token at once. Raises UnknownError."""
    cursor = await connection.execute(_QUERIES["revoke"], {"token": token_id, "now": now})
    if await cursor.fetchone() is None:
        raise UnknownError(f"no token number {token_id}")
