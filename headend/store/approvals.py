"""Approvals: what waits for a second person, and how he decided. Only ever decided once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from psycopg import errors
from psycopg.types.json import Jsonb

from headend.store import sql
from headend.store.errors import ConflictError, UnknownError
from headend.store.sql import Connection
from schemas.people import Permission, Principal

_QUERIES: Final = sql.load("approvals")


class ApprovalState(StrEnum):
    """What became of it; all but ``waiting`` are final, but that what is approved may become void."""

    WAITING = "waiting"
    APPROVED = "approved"
    REFUSED = "refused"
    VOID = "void"  # what was to be approved is not what is there now
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Approval:
    """An approval as it is stored; times aware UTC. ``shown`` is exactly what will be done, for people;
    ``digest`` is of it. ``needs`` is the permission of its kind."""

    approval_id: int
    subject: str
    needs: Permission
    digest: bytes
    shown: Mapping[str, Any]
    requested_by: str
    requested_account: int | None
    state: ApprovalState
    decided_by: str | None
    decided_account: int | None
    reason: str | None
    created_at: datetime
    expires_at: datetime
    decided_at: datetime | None


async def add(
    connection: Connection,
    *,
    subject: str,
    needs: Permission,
    digest: bytes,
    shown: Mapping[str, Any],
    principal: Principal,
    expires_at: datetime,
    state: ApprovalState = ApprovalState.WAITING,
    decided_by: str | None = None,
    reason: str | None = None,
) -> int:
    """Store it; its number. Raises ConflictError where something of the subject waits already."""
    try:
        async with connection.transaction():
            cursor = await connection.execute(
                _QUERIES["add"],
                {
                    "subject": subject,
                    "needs": needs.value,
                    "digest": digest,
                    "shown": Jsonb(dict(shown)),
                    "by": principal.actor,
                    "account": principal.account,
                    "state": state.value,
                    "decided_by": decided_by,
                    "reason": reason,
                    "expires": sql.aware(expires_at),
                },
            )
            row = await cursor.fetchone()
    except errors.UniqueViolation as error:
        raise ConflictError(f"an approval of {subject} waits already") from error
    if row is None:
        raise UnknownError("the approval was not stored")
    return int(row[0])


async def find(connection: Connection, approval_id: int) -> Approval:
    """The approval of this number. Raises UnknownError."""
    return await _one(connection, "find", approval_id)


async def lock(connection: Connection, approval_id: int) -> Approval:
    """The same, kept from others until the transaction ends. Raises UnknownError."""
    return await _one(connection, "lock", approval_id)


async def newest(connection: Connection, subject: str) -> Approval | None:
    """The newest of the subject; None where it has none."""
    cursor = await connection.execute(_QUERIES["newest"], {"subject": subject})
    row = await cursor.fetchone()
    return None if row is None else _approval(row)


async def page(
    connection: Connection, *, limit: int, before: int | None = None, state: ApprovalState | None = None
) -> list[Approval]:
    """At most ``limit`` approvals with numbers below ``before``, newest first."""
    cursor = await connection.execute(
        _QUERIES["page"], {"limit": limit, "before": before, "state": None if state is None else state.value}
    )
    return [_approval(row) for row in await cursor.fetchall()]


async def decide(
    connection: Connection,
    approval_id: int,
    state: ApprovalState,
    *,
    by: str,
    account: int | None,
    reason: str | None,
) -> bool:
    """It waits no longer; False where it did not."""
    cursor = await connection.execute(
        _QUERIES["decide"],
        {"approval": approval_id, "state": state.value, "by": by, "account": account, "reason": reason},
    )
    return await cursor.fetchone() is not None


async def void(connection: Connection, subject: str, *, reason: str) -> list[int]:
    """Whatever of the subject waits or is approved holds no longer; the numbers of what did."""
    cursor = await connection.execute(_QUERIES["void"], {"subject": subject, "reason": reason})
    return [number for (number,) in await cursor.fetchall()]


async def overdue(connection: Connection, *, now: datetime, limit: int) -> list[int]:
    """Numbers of those that nobody decided in time."""
    cursor = await connection.execute(_QUERIES["overdue"], {"now": sql.aware(now), "limit": limit})
    return [number for (number,) in await cursor.fetchall()]


async def holds(connection: Connection, subject: str, digest: bytes) -> bool:
    """Whether exactly this was approved, by a second person or by a policy that asks for none."""
    cursor = await connection.execute(_QUERIES["holds"], {"subject": subject, "digest": digest})
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def _one(connection: Connection, query: str, approval_id: int) -> Approval:
    cursor = await connection.execute(_QUERIES[query], {"approval": approval_id})
    row = await cursor.fetchone()
    if row is None:
        raise UnknownError(f"no approval has the number {approval_id}")
    return _approval(row)


def _approval(row: Sequence[Any]) -> Approval:
    (
        approval_id, subject, needs, digest, shown, requested_by, requested_account, state, decided_by,
        decided_account, reason, created_at, expires_at, decided_at,
    ) = row  # fmt: skip
    return Approval(
        approval_id=approval_id,
        subject=subject,
        needs=Permission(needs),
        digest=bytes(digest),
        shown=shown,
        requested_by=requested_by,
        requested_account=requested_account,
        state=ApprovalState(state),
        decided_by=decided_by,
        decided_account=decided_account,
        reason=reason,
        created_at=created_at.astimezone(UTC),
        expires_at=expires_at.astimezone(UTC),
        decided_at=None if decided_at is None else decided_at.astimezone(UTC),
    )
