"""Who is told of a job's end, and how that went.

A row is the truth; a job of the queue only says that somebody shall look at it. So one that is lost is made
again by the next `forgotten`, and one too many finds nothing that is due.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from headend.store import sql
from headend.store.sql import Connection

_QUERIES: Final = sql.load("webhooks")
#: Queue and task that deliver.
QUEUE: Final = "webhooks"
TASK: Final = "webhook"


class WebhookState(StrEnum):
    """Of the telling, not of the job."""

    WAITING = "waiting"  # for the job's end, or for the next attempt
    DELIVERED = "delivered"
    FAILED = "failed"  # the last attempt has failed, or one failed for good


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """Who shall be told. ``secret`` is sealed by the master key ``sealed_by``; None: the settings' secret."""

    url: str = field(repr=False)
    secret: bytes | None = field(default=None, repr=False)
    sealed_by: str | None = None


@dataclass(frozen=True, slots=True)
class Webhook:
    """As it is stored; times aware UTC. ``attempts`` counts those that were begun."""

    job_id: int
    url: str = field(repr=False)
    secret: bytes | None = field(repr=False)
    sealed_by: str | None
    state: WebhookState
    attempts: int
    next_at: datetime
    last_at: datetime | None
    last_status: int | None
    last_reason: str | None


async def add(connection: Connection, job_id: int, new: NewWebhook, *, now: datetime) -> None:
    """Note who is told of the job's end."""
    await connection.execute(
        _QUERIES["add"],
        {
            "job_id": job_id,
            "url": new.url,
            "secret": new.secret,
            "sealed_by": new.sealed_by,
            "now": sql.aware(now),
        },
    )


async def find(connection: Connection, job_id: int) -> Webhook | None:
    """The job's webhook; None where it has none."""
    return await _one(connection, "find", {"job_id": job_id})


async def begin(connection: Connection, job_id: int, *, now: datetime, until: datetime) -> Webhook | None:
    """Begin an attempt if the job has ended and one is due; None else. No other begins before ``until``."""
    return await _one(
        connection, "begin", {"job_id": job_id, "now": sql.aware(now), "until": sql.aware(until)}
    )


async def settle(
    connection: Connection,
    webhook: Webhook,
    state: WebhookState,
    *,
    next_at: datetime,
    status: int | None,
    reason: str | None,
) -> None:
    """Note how the attempt went that ``webhook`` was begun for; where it still waits, queue the next one."""
    await connection.execute(
        _QUERIES["settle"],
        {
            "job_id": webhook.job_id,
            "attempts": webhook.attempts,
            "state": state.value,
            "next_at": sql.aware(next_at),
            "status": status,
            "reason": reason,
        },
    )
    await queue(connection, [webhook.job_id])


async def queue(connection: Connection, job_ids: Sequence[int]) -> None:
    """Have those of these jobs that have a webhook which waits looked after, at its time."""
    if job_ids:
        await connection.execute(_QUERIES["queue"], {"jobs": list(job_ids), "queue": QUEUE, "task": TASK})


async def forgotten(connection: Connection, *, before: datetime) -> list[int]:
    """Ended jobs whose webhook was due before ``before`` and is in no queue, a thousand at most."""
    cursor = await connection.execute(_QUERIES["forgotten"], {"before": sql.aware(before)})
    return [job_id for (job_id,) in await cursor.fetchall()]


async def _one(connection: Connection, query: str, arguments: dict[str, Any]) -> Webhook | None:
    row = await (await connection.execute(_QUERIES[query], arguments)).fetchone()
    if row is None:
        return None
    job_id, url, secret, sealed_by, state, attempts, next_at, last_at, last_status, last_reason = row
    return Webhook(
        job_id=job_id,
        url=url,
        secret=None if secret is None else bytes(secret),
        sealed_by=sealed_by,
        state=WebhookState(state),
        attempts=attempts,
        next_at=next_at.astimezone(UTC),
        last_at=None if last_at is None else last_at.astimezone(UTC),
        last_status=last_status,
        last_reason=last_reason,
    )
