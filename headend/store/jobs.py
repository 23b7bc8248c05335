"""Jobs: created with all their requests in one transaction, counted, cancelled, ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from psycopg.types.json import Jsonb

from headend.store import areas, sql, webhooks
from headend.store.areas import Within
from headend.store.sql import Connection
from schemas.job import WORKS, AnyWork, JobKind, RequestState, Retry

_QUERIES: Final = sql.load("jobs")
_RETRY: Final = Retry()
#: Requests made at once for which a plan of their own pays.
_MANY: Final = 1000


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a job shall be; times aware. ``run_at`` is the time of the schedule that it stands for."""

    kind: JobKind
    title: str
    work: tuple[AnyWork, ...]
    priority: int
    deadline: datetime
    drop_dead: datetime
    actor: str
    correlation_id: str
    retry: Retry = _RETRY
    schedule_id: int | None = None
    run_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is stored; times aware UTC. ``ended_at`` None: something of it is open."""

    job_id: int
    kind: JobKind
    schedule_id: int | None
    run_at: datetime | None
    title: str
    work: tuple[AnyWork, ...]
    retry: Retry
    priority: int
    deadline: datetime
    drop_dead: datetime
    actor: str
    correlation_id: str
    created_at: datetime
    ended_at: datetime | None
    cancelled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many requests of a job are in which state."""

    open: int = 0
    done: int = 0
    failed: int = 0
    expired: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.open + self.done + self.failed + self.expired + self.cancelled


async def create(connection: Connection, new: NewJob) -> int | None:
    """The new job's number; None where a job of this schedule and time is there already.

    Its requests follow by `add_requests` in the same transaction.
    """
    cursor = await connection.execute(
        _QUERIES["create"],
        {
            "kind": new.kind.value,
            "schedule_id": new.schedule_id,
            "run_at": None if new.run_at is None else sql.aware(new.run_at),
            "title": new.title,
            "work": Jsonb(works_to_json(new.work)),
            "retry": Jsonb(new.retry.model_dump(mode="json")),
            "priority": new.priority,
            "deadline": sql.aware(new.deadline),
            "drop_dead": sql.aware(new.drop_dead),
            "actor": new.actor,
            "correlation_id": new.correlation_id,
        },
    )
    row = await cursor.fetchone()
    return None if row is None else int(row[0])


async def add_requests(
    connection: Connection,
    job_id: int,
    meter_ids: Sequence[int],
    *,
    urgency: int,
    due_by: datetime,
    next_at: datetime,
    drop_dead: datetime,
    works: Sequence[tuple[AnyWork, ...] | None] | None = None,
) -> list[str]:
    """A request for each meter (negative numbers: concentrators, by the number of their node); the lanes,
    which the caller then wakes. ``works``, where it is given, goes with ``meter_ids``; None: the job's."""
    cursor = await connection.execute(
        _QUERIES["add_requests"],
        {
            "job_id": job_id,
            "meters": list(meter_ids),
            "works": (
                [None] * len(meter_ids)
                if works is None
                else [None if one is None else Jsonb(works_to_json(one)) for one in works]
            ),
            "urgency": int(urgency),
            "due_by": sql.aware(due_by),
            "next_at": sql.aware(next_at),
            "drop_dead": sql.aware(drop_dead),
        },
        # a plan for lists of any length would look each of many up by itself
        prepare=False if len(meter_ids) > _MANY else None,
    )
    return [lane for (lane,) in await cursor.fetchall()]


async def find(connection: Connection, job_id: int) -> Job | None:
    """The job of this number; None where there is none."""
    cursor = await connection.execute(_QUERIES["find"], {"job_id": job_id})
    row = await cursor.fetchone()
    return None if row is None else _job(row)


async def page(
    connection: Connection,
    *,
    limit: int,
    before: int | None = None,
    kind: JobKind | None = None,
    schedule_id: int | None = None,
    is_open: bool | None = None,
    within: Within | None = None,
    own: str | None = None,
) -> list[Job]:
    """At most ``limit`` jobs with numbers below ``before``, newest first. ``within``: those that ask nobody
    else, and those of the actor ``own``."""
    cursor = await connection.execute(
        _QUERIES["page"],
        areas.told(within)
        | {
            "limit": limit,
            "before": before,
            "kind": None if kind is None else kind.value,
            "schedule_id": schedule_id,
            "is_open": is_open,
            "own": own,
        },
        prepare=False,
    )
    return [_job(row) for row in await cursor.fetchall()]


async def is_within(connection: Connection, job_id: int, within: Within) -> bool:
    """Whether the job asks somebody, and none but those within areas."""
    told = areas.told(within) | {"job_id": job_id}
    row = await (await connection.execute(_QUERIES["is_within"], told, prepare=False)).fetchone()
    return row is not None and bool(row[0])


async def counts(connection: Connection, job_ids: Sequence[int]) -> dict[int, Counts]:
    """Counts of requests, for each of these jobs."""
    found: dict[int, dict[str, int]] = {job_id: {} for job_id in job_ids}
    cursor = await connection.execute(_QUERIES["counts"], {"jobs": list(job_ids)})
    for job_id, state, number in await cursor.fetchall():
        found[job_id][RequestState(state).value] = number
    return {job_id: Counts(**by_state) for job_id, by_state in found.items()}


async def cancel(connection: Connection, job_id: int) -> int:
    """Close what is open of the job; how many requests that were. What is under way at a meter ends by itself
    and is stored all the same."""
    cursor = await connection.execute(_QUERIES["cancel"], {"job_id": job_id})
    row = await cursor.fetchone()
    await webhooks.queue(connection, [job_id])
    return 0 if row is None else int(row[0])


async def expire(connection: Connection) -> int:
    """Close requests whose drop-dead time has passed; how many."""
    return (await connection.execute(_QUERIES["expire"])).rowcount


async def end(connection: Connection, job_ids: Sequence[int] | None = None) -> list[int]:
    """Mark jobs, of these or of all, of which nothing is open any more, and have that told to whoever asked
    for it; their numbers."""
    cursor = await connection.execute(_QUERIES["end"], {"jobs": None if job_ids is None else list(job_ids)})
    ended = [job_id for (job_id,) in await cursor.fetchall()]
    await webhooks.queue(connection, ended)
    return ended


async def forget_one(connection: Connection, *, before: datetime) -> int:
    """Forget one job that ended before this aware time, with all its requests; how many: 1, or 0."""
    cursor = await connection.execute(_QUERIES["forget_one"], {"before": sql.aware(before)})
    return cursor.rowcount


def works_to_json(works: Sequence[AnyWork]) -> Any:
    """A list of works as the database has it."""
    return WORKS.dump_python(tuple(works), mode="json")


def _job(row: Sequence[Any]) -> Job:
    (
        job_id, kind, schedule_id, run_at, title, work, retry, priority, deadline, drop_dead, actor,
        correlation_id, created_at, ended_at, cancelled_at,
    ) = row  # fmt: skip
    return Job(
        job_id=job_id,
        kind=JobKind(kind),
        schedule_id=schedule_id,
        run_at=_utc(run_at),
        title=title,
        work=WORKS.validate_python(work),
        retry=Retry.model_validate(retry),
        priority=priority,
        deadline=deadline.astimezone(UTC),
        drop_dead=drop_dead.astimezone(UTC),
        actor=actor,
        correlation_id=correlation_id,
        created_at=created_at.astimezone(UTC),
        ended_at=_utc(ended_at),
        cancelled_at=_utc(cancelled_at),
    )


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)
