"""Requests: what waits in a lane, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from psycopg.types.json import Jsonb

from headend.store import jobs, rows, sql
from headend.store.sql import Connection
from schemas.failure import Stage
from schemas.job import WORKS, AnyWork, RequestState

_QUERIES: Final = sql.load("requests")
#: Urgency of what somebody waits for (`headend.links.permits.Urgency.ON_DEMAND`).
WAITED_FOR: Final = 0


class Waiting(NamedTuple):
    """A request that is due; ``work`` None: its job's. Times aware."""

    request_id: int
    job_id: int
    meter_id: int
    urgency: int
    due_by: datetime
    drop_dead: datetime
    attempts: int
    work: tuple[AnyWork, ...] | None


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a request. One that stays ``open`` is due again at ``next_at`` (None: as before).

    ``counts``: whether an attempt was made; ``anew``: they are counted from 0 again, since it got on.
    ``result``: what came, in the words of the API.
    """

    request_id: int
    state: RequestState = RequestState.DONE
    counts: bool = True
    anew: bool = False
    next_at: datetime | None = None
    stage: Stage | None = None
    reason: str | None = None
    result: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it is stored; times aware UTC. ``work`` None: its job's."""

    request_id: int
    job_id: int
    meter_id: int
    lane: str
    urgency: int
    due_by: datetime
    next_at: datetime
    drop_dead: datetime
    ended_at: datetime | None
    attempts: int
    state: RequestState
    work: tuple[AnyWork, ...] | None
    stage: Stage | None
    reason: str | None
    result: dict[str, Any] | None


async def waiting(connection: Connection, lane: str, *, limit: int, urgency: int = 32_767) -> list[Waiting]:
    """What is due in the lane and at least as urgent, by urgency and time within first attempts, then within
    further ones, and then the same of programs; at most ``limit`` of each."""
    cursor = await connection.execute(_QUERIES["waiting"], {"lane": lane, "limit": limit, "urgency": urgency})
    found = [Waiting(*row) for row in await cursor.fetchall()]
    return [one if one.work is None else one._replace(work=_works(one.work)) for one in found]


async def due_in(connection: Connection, lane: str, *, urgency: int = 32_767) -> timedelta | None:
    """How long until a request of the lane that is at least so urgent is due, zero where one is; None where
    none is open."""
    cursor = await connection.execute(_QUERIES["due_in"], {"lane": lane, "urgency": urgency})
    row = await cursor.fetchone()
    return None if row is None else row[0]


async def settle(connection: Connection, settled: Sequence[Settled]) -> None:
    """Close requests or leave them open for later; one that was closed meanwhile stays as it is.

    Who waits for one of their jobs is told (``headend_jobs``, by its number), and a job of which nothing is
    open any more has ended: at once for those that somebody waits for, else with the janitor's next round.
    """
    plain = [one.request_id for one in settled if one.state is RequestState.DONE and one.result is None]
    other = [one for one in settled if one.state is not RequestState.DONE or one.result is not None]
    told: list[int] = []
    if plain:
        cursor = await connection.execute(_QUERIES["done"], {"requests": rows.integers(plain)})
        told += [job_id for job_id, _ in await cursor.fetchall()]
    if other:
        cursor = await connection.execute(
            _QUERIES["settle"],
            {
                "requests": [one.request_id for one in other],
                "states": [one.state.value for one in other],
                "counts": [int(one.counts) for one in other],
                "anew": [one.anew for one in other],
                "next_at": [None if one.next_at is None else sql.aware(one.next_at) for one in other],
                "stages": [None if one.stage is None else one.stage.value for one in other],
                "reasons": [one.reason for one in other],
                "results": [None if one.result is None else Jsonb(one.result) for one in other],
            },
        )
        told += [job_id for job_id, _ in await cursor.fetchall()]
    if told:
        await jobs.end(connection, sorted(set(told)))


async def tell(connection: Connection, job_ids: Sequence[int]) -> None:
    """Wake who waits for these jobs, when this transaction is committed."""
    await connection.execute(_QUERIES["tell"], {"jobs": list(job_ids)})


async def of_job(
    connection: Connection,
    job_id: int,
    *,
    limit: int,
    after: int | None = None,
    states: Sequence[RequestState] | None = None,
    stage: Stage | None = None,
) -> list[Request]:
    """At most ``limit`` requests of the job with numbers above ``after``, in order."""
    return await _find(connection, limit=limit, job_id=job_id, after=after, states=states, stage=stage)


async def of_meter(
    connection: Connection,
    meter_id: int,
    *,
    limit: int,
    before: int | None = None,
    states: Sequence[RequestState] | None = None,
) -> list[Request]:
    """At most ``limit`` requests for the meter with numbers below ``before``, newest first."""
    return await _find(connection, limit=limit, meter_id=meter_id, before=before, states=states, newest=True)


async def _find(
    connection: Connection,
    *,
    limit: int,
    job_id: int | None = None,
    meter_id: int | None = None,
    after: int | None = None,
    before: int | None = None,
    states: Sequence[RequestState] | None = None,
    stage: Stage | None = None,
    newest: bool = False,
) -> list[Request]:
    cursor = await connection.execute(
        _QUERIES["find"],
        {
            "job_id": job_id,
            "meter_id": meter_id,
            "after": after,
            "before": before,
            "states": None if states is None else [one.value for one in states],
            "stage": None if stage is None else stage.value,
            "newest": newest,
            "limit": limit,
        },
    )
    return [_request(row) for row in await cursor.fetchall()]


def _request(row: Sequence[Any]) -> Request:
    (
        request_id, job_id, meter_id, lane, urgency, due_by, next_at, drop_dead, ended_at, attempts, state,
        work, stage, reason, result,
    ) = row  # fmt: skip
    return Request(
        request_id=request_id,
        job_id=job_id,
        meter_id=meter_id,
        lane=lane,
        urgency=urgency,
        due_by=due_by.astimezone(UTC),
        next_at=next_at.astimezone(UTC),
        drop_dead=drop_dead.astimezone(UTC),
        ended_at=None if ended_at is None else ended_at.astimezone(UTC),
        attempts=attempts,
        state=RequestState(state),
        work=_works(work),
        stage=None if stage is None else Stage(stage),
        reason=reason,
        result=result,
    )


def _works(work: Any) -> tuple[AnyWork, ...] | None:
    return None if work is None else WORKS.validate_python(work)
