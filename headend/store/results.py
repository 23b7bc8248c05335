"""How far a job is, and what came of each of its requests."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from headend.store import sql
from headend.store.jobs import Counts
from headend.store.sql import Connection
from schemas.failure import Stage
from schemas.job import RequestState

_QUERIES: Final = sql.load("results")

#: What "of late" means, in a `Tally`.
LATELY: Final = timedelta(seconds=60)


@dataclass(slots=True)
class Failures:
    """Requests whose last attempt failed at one stage: ``open`` ones are tried again."""

    open: int = 0
    ended: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """Requests of a job by state; ``lately`` of them ended within `LATELY`; failures by stage."""

    counts: Counts
    lately: int = 0
    failures: dict[str, Failures] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """One request of a job. ``meter`` is the asset id, or a station's code; times aware UTC.

    ``stage`` and ``reason`` are of the last attempt that failed; ``result`` is what a read on demand gave, as
    `schemas.read_result.ReadResult` has it.
    """

    request_id: int
    meter: str
    state: RequestState
    attempts: int
    stage: Stage | None
    reason: str | None
    next_at: datetime
    ended_at: datetime | None
    lane: str
    result: dict[str, Any] | None


async def tally(connection: Connection, job_id: int, *, now: datetime) -> Tally:
    """Count a job's requests."""
    cursor = await connection.execute(_QUERIES["tally"], {"job_id": job_id, "since": sql.aware(now) - LATELY})
    by_state: dict[str, int] = {}
    failures: dict[str, Failures] = {}
    lately = 0
    for state, stage, number, ended_lately in await cursor.fetchall():
        by_state[state] = by_state.get(state, 0) + number
        lately += ended_lately
        if stage is not None and state != RequestState.DONE:
            one = failures.setdefault(stage, Failures())
            if state == RequestState.OPEN:
                one.open += number
            else:
                one.ended += number
    return Tally(Counts(**by_state), lately, dict(sorted(failures.items())))


async def page(
    connection: Connection,
    job_id: int,
    *,
    limit: int,
    after: int = 0,
    state: RequestState | None = None,
    stage: Stage | None = None,
    only_ended: bool = False,
    known: Collection[int] = (),
) -> list[Result]:
    """At most ``limit`` requests of a job with numbers above ``after``, in their order; without those that
    are ``known``."""
    cursor = await connection.execute(
        _QUERIES["page"],
        {
            "job_id": job_id,
            "limit": limit,
            "after": after,
            "state": None if state is None else state.value,
            "stage": None if stage is None else stage.value,
            "only_ended": only_ended,
            "known": list(known),
        },
    )
    return [_result(*row) for row in await cursor.fetchall()]


async def due_lanes(connection: Connection, job_id: int) -> list[str]:
    """Lanes in which something of the job is due."""
    cursor = await connection.execute(_QUERIES["due_lanes"], {"job_id": job_id})
    return [lane for (lane,) in await cursor.fetchall()]


async def fault(connection: Connection, request_id: int, *, since: datetime) -> str | None:
    """Whose fault the last failed attempt at this request's meter was; None: no attempt failed since."""
    cursor = await connection.execute(
        _QUERIES["fault"], {"request_id": request_id, "since": sql.aware(since)}
    )
    row = await cursor.fetchone()
    return None if row is None else str(row[0])


def _result(
    request_id: int,
    meter: str,
    state: str,
    attempts: int,
    stage: str | None,
    reason: str | None,
    next_at: datetime,
    ended_at: datetime | None,
    lane: str,
    result: dict[str, Any] | None,
) -> Result:
    return Result(
        request_id,
        meter,
        RequestState(state),
        attempts,
        None if stage is None else Stage(stage),
        reason,
        next_at.astimezone(UTC),
        None if ended_at is None else ended_at.astimezone(UTC),
        lane,
        result,
    )
