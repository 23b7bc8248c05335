"""A read on demand begins: a job, a request for each meter in its lane, all in one transaction.

::

    key claimed ─> job ─> requests in lanes ─> webhook ─> audit ─> lanes woken ─> commit
        └ in use: the job that came of it, and nothing is made
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from headend.links.permits import Urgency
from headend.store import audit, jobs, on_demand, queue, requests, webhooks
from headend.store.errors import UnknownError
from headend.store.sql import Connection
from headend.store.webhooks import NewWebhook
from schemas.job import JobKind, Retry, Work

#: What one step of priority is worth: the order in a lane is by deadline less this.
_STEP: Final = timedelta(hours=1)
_RETRY: Final = Retry(attempts=3)


@dataclass(frozen=True, slots=True)
class Ask:
    """What shall be read of whom, and for whom. ``within``: no attempt begins later than that from now.

    ``about`` is what the audit log names: ``meter:4711`` where it is one.
    """

    meter_ids: tuple[int, ...]
    works: tuple[Work, ...]
    title: str
    about: str
    actor: str
    correlation_id: str
    within: timedelta
    priority: int = 5
    retry: Retry = _RETRY
    webhook: NewWebhook | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A key that makes a repeated request the same job: bound to a token, for what has this SHA-256."""

    token_id: int
    key: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Begun:
    """The job; ``is_new`` false: an earlier request with the same key made it."""

    job_id: int
    is_new: bool


class KeyReused(Exception):
    """The key was used within the last day, by the same token, for something else."""


async def begin(connection: Connection, ask: Ask, *, now: datetime, key: Key | None = None) -> Begun:
    """Make the job, its requests, its webhook and its line in the audit log, and wake its lanes, when the
    transaction of ``connection`` commits.

    Raises KeyReused; the transaction is then to be rolled back.
    """
    if key is not None:
        claimed = await on_demand.claim(connection, key.token_id, key.key, key.digest, now=now)
        if claimed is not None:
            if claimed.digest != key.digest:
                raise KeyReused(f"was used for another request, which became job {claimed.job_id}")
            return Begun(claimed.job_id, is_new=False)
    deadline = now + ask.within
    job_id = await jobs.create(
        connection,
        jobs.NewJob(
            kind=JobKind.ON_DEMAND,
            title=ask.title,
            work=ask.works,
            priority=ask.priority,
            deadline=deadline,
            drop_dead=deadline,
            actor=ask.actor,
            correlation_id=ask.correlation_id,
            retry=ask.retry,
        ),
    )
    if job_id is None:
        raise RuntimeError("a job without a schedule was there already")
    lanes = await jobs.add_requests(
        connection,
        job_id,
        ask.meter_ids,
        urgency=Urgency.ON_DEMAND,
        due_by=deadline - ask.priority * _STEP,
        next_at=now,
        drop_dead=deadline,
    )
    if key is not None:
        await on_demand.bind(connection, key.token_id, key.key, job_id)
    if ask.webhook is not None:
        await webhooks.add(connection, job_id, ask.webhook, now=now)
    await audit.record(
        connection,
        actor=ask.actor,
        action="meter.read",
        object_=ask.about if len(ask.meter_ids) == 1 else f"job:{job_id}",
        detail={
            "job": job_id,
            "meters": len(ask.meter_ids),
            "works": jobs.works_to_json(ask.works),
            "correlation_id": ask.correlation_id,
        },
    )
    if not ask.meter_ids:
        await jobs.end(connection, [job_id])
    await queue.wake(connection, lanes, priority=1)
    return Begun(job_id, is_new=True)


async def cancel(connection: Connection, job_id: int, *, actor: str) -> int:
    """Close what is open of a job, note who did, and tell whoever follows it; how many requests that were.

    Again, or of a job that has ended: nothing happens. Raises UnknownError.
    """
    job = await jobs.find(connection, job_id)
    if job is None:
        raise UnknownError(f"there is no job {job_id}")
    if job.ended_at is not None:
        return 0
    closed = await jobs.cancel(connection, job_id)
    await audit.record(
        connection, actor=actor, action="job.cancelled", object_=f"job:{job_id}", detail={"open": closed}
    )
    await requests.tell(connection, [job_id])
    return closed
