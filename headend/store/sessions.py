"""Sessions: what a log-in gives, by the digest of a secret of 256 random bits; and log-ins that failed.

A secret is made anew by each log-in and taken from nobody, so that no session can be planted beforehand.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple

from headend.store import sql
from headend.store.errors import UnknownError
from headend.store.sql import Connection
from schemas.people import Grant

_QUERIES: Final = sql.load("sessions")

#: What a session's secret begins with, so that scanners for leaked secrets can find it.
PREFIX: Final = "hdns_"
_LONGEST: Final = 128
#: How long what has ended is kept.
_KEPT: Final = timedelta(days=90)
#: How long failed log-ins are held against a name or an address.
REMEMBERED: Final = timedelta(days=1)


class SessionKind(StrEnum):
    """Where a session lives: in a browser's cookie, or in the file of `headend login`. None goes for the
    other: what was stolen from a cookie is no bearer token."""

    BROWSER = "browser"
    CLI = "cli"


@dataclass(frozen=True, slots=True)
class Session:
    """A stored session, without its secret. Times are aware."""

    session_id: int
    account_id: int
    kind: SessionKind
    second_factor: bool
    created_at: datetime
    seen_at: datetime
    idle_s: int
    expires_at: datetime
    address: str | None
    user_agent: str | None


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session that goes on, with its account as it is now."""

    session: Session
    login: str
    must_change: bool
    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class IssuedSession:
    """A session just made. ``secret`` exists nowhere else and shows in no repr."""

    session_id: int
    expires_at: datetime
    secret: str = field(repr=False)


async def add(
    connection: Connection,
    account_id: int,
    kind: SessionKind,
    *,
    second_factor: bool,
    idle_s: float,
    longest_s: float,
    now: datetime,
    address: str | None = None,
    user_agent: str | None = None,
) -> IssuedSession:
    """A new session under a new secret."""
    secret = PREFIX + secrets.token_urlsafe(32)
    expires_at = sql.aware(now) + timedelta(seconds=longest_s)
    await connection.execute(_QUERIES["forget"], {"before": now - _KEPT})
    cursor = await connection.execute(
        _QUERIES["add"],
        {
            "account": account_id,
            "kind": kind,
            "digest": _digest(secret),
            "second_factor": second_factor,
            "now": now,
            "idle_s": max(1, round(idle_s)),
            "expires_at": expires_at,
            "address": address,
            "user_agent": user_agent,
        },
    )
    row = await cursor.fetchone()
    if row is None:
        raise UnknownError("the session was not stored")
    return IssuedSession(row[0], expires_at, secret)


async def verify(
    connection: Connection, secret: str, kind: SessionKind, *, now: datetime
) -> OpenSession | None:
    """The session with this secret; None where it is unknown, over or ended, or its account is not active.
    Notes its use once a minute."""
    if not secret.startswith(PREFIX) or len(secret) > _LONGEST or not secret.isascii():
        return None
    digest = _digest(secret)
    cursor = await connection.execute(
        _QUERIES["by_digest"], {"digest": digest, "kind": kind, "now": sql.aware(now)}
    )
    row = await cursor.fetchone()
    if row is None or not hmac.compare_digest(bytes(row[10]), digest):
        return None
    session = _session(row[:10])
    if now - session.seen_at > timedelta(minutes=1):
        await connection.execute(_QUERIES["touch"], {"session": session.session_id, "now": now})
    return OpenSession(session, row[11], row[12], tuple(Grant.parse(one) for one in row[13]))


async def of_secret(connection: Connection, secret: str) -> tuple[int, str] | None:
    """Number and login of the account whose session had this secret, whether it goes on or not."""
    if not secret.startswith(PREFIX) or len(secret) > _LONGEST or not secret.isascii():
        return None
    cursor = await connection.execute(_QUERIES["of_digest"], {"digest": _digest(secret)})
    row = await cursor.fetchone()
    return None if row is None else (int(row[0]), str(row[1]))


async def of_account(connection: Connection, account_id: int, *, now: datetime) -> list[Session]:
    """Those of an account that go on, newest first."""
    cursor = await connection.execute(_QUERIES["of_account"], {"account": account_id, "now": sql.aware(now)})
    return [_session(row) for row in await cursor.fetchall()]


async def end(connection: Connection, session_id: int, *, now: datetime) -> int:
    """End one at once: the number of its account. Raises UnknownError."""
    cursor = await connection.execute(_QUERIES["end"], {"session": session_id, "now": sql.aware(now)})
    row = await cursor.fetchone()
    if row is None:
        raise UnknownError(f"no session number {session_id}")
    return int(row[0])


async def end_all(connection: Connection, account_id: int, *, now: datetime, but: int | None = None) -> int:
    """End all of an account, except the session ``but``: how many ended."""
    told = {"account": account_id, "now": sql.aware(now), "but": but}
    return (await connection.execute(_QUERIES["end_all"], told)).rowcount


async def prove(connection: Connection, session_id: int) -> None:
    """A second factor was shown within it."""
    await connection.execute(_QUERIES["prove"], {"session": session_id})


# ---- log-ins that failed --------------------------------------------------------------------------------


class Attempts(NamedTuple):
    """Log-ins that failed; none is tried before ``until``."""

    failures: int
    last_at: datetime
    until: datetime


async def attempts(connection: Connection, keys: Sequence[str], *, now: datetime) -> Mapping[str, Attempts]:
    """What is held against each key, kept to this transaction: two log-ins at once count one by one."""
    ordered = sorted(keys)
    await connection.execute(_QUERIES["attempts_forget"], {"before": sql.aware(now) - REMEMBERED})
    await connection.execute(_QUERIES["attempts_begin"], {"keys": ordered, "now": now})
    cursor = await connection.execute(_QUERIES["attempts"], {"keys": ordered})
    return {key: Attempts(*row) for key, *row in await cursor.fetchall()}


async def set_attempts(
    connection: Connection, key: str, *, failures: int, until: datetime, now: datetime
) -> None:
    """So many failed, and none is tried before ``until``."""
    told = {"key": key, "failures": failures, "until": sql.aware(until), "now": sql.aware(now)}
    await connection.execute(_QUERIES["attempts_set"], told)


async def refund_attempt(connection: Connection, keys: Sequence[str], *, now: datetime) -> None:
    """One of each did not fail after all."""
    for key in sorted(keys):
        await connection.execute(_QUERIES["attempts_refund"], {"key": key, "now": sql.aware(now)})


async def clear_attempts(connection: Connection, key: str, *, now: datetime) -> None:
    """Nothing is held against it any more."""
    await connection.execute(_QUERIES["attempts_clear"], {"key": key, "now": sql.aware(now)})


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _session(row: Sequence[Any]) -> Session:
    number, account, kind, *rest = row
    return Session(number, account, SessionKind(kind), *rest)
