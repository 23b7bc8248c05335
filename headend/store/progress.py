"""How a job goes, as people follow it: what became of its requests, and what that took."""

from dataclasses import dataclass
from typing import Final

from headend.store import sql
from headend.store.sql import Connection
from schemas.failure import Stage

_QUERIES: Final = sql.load("progress")


@dataclass(frozen=True, slots=True)
class Failure:
    """A meter, or a concentrator by its code, that did not give what it was asked for: at which stage (None:
    no conversation failed) and why; ``attempts`` were made."""

    name: str
    stage: Stage | None
    reason: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Course:
    """How many requests of a job there are, and what became of them.

    ``away`` and ``held_off`` are open and wait for longer than anybody looks on: for a meter's call, or for
    the time of a breaker or a further attempt. ``retries`` are attempts beyond the first of each,
    ``intervals`` rows that came.
    """

    total: int
    done: int
    failed: int
    cancelled: int
    away: int
    held_off: int
    retries: int
    intervals: int

    @property
    def settled(self) -> int:
        """Those that nobody need look on for."""
        return self.done + self.failed + self.cancelled + self.away + self.held_off


async def course(connection: Connection, job_id: int, *, soon_s: float) -> Course:
    """How the job goes; what is due later than in ``soon_s`` seconds is not looked on for."""
    cursor = await connection.execute(_QUERIES["course"], {"job_id": job_id, "soon_s": soon_s})
    requests = await cursor.fetchone()
    cursor = await connection.execute(_QUERIES["effort"], {"job_id": job_id})
    effort = await cursor.fetchone()
    assert requests is not None  # noqa: S101 - both count: they have one row
    assert effort is not None  # noqa: S101
    return Course(*requests, *map(int, effort))


async def failures(connection: Connection, job_id: int, *, limit: int) -> list[Failure]:
    """Requests that failed or wait after a failure, in order, at most ``limit``."""
    cursor = await connection.execute(_QUERIES["failures"], {"job_id": job_id, "limit": limit})
    return [
        Failure(name, _stage(stage), reason or "", attempts)
        for name, stage, reason, attempts in await cursor.fetchall()
    ]


async def by_stage(connection: Connection, job_id: int) -> dict[Stage | None, int]:
    """How many of those there are, by stage, most of them first."""
    cursor = await connection.execute(_QUERIES["by_stage"], {"job_id": job_id})
    return {_stage(stage): number for stage, number in await cursor.fetchall()}


async def took_s(connection: Connection, job_id: int) -> dict[int, float]:
    """Seconds that attempts at each meter of the job took."""
    cursor = await connection.execute(_QUERIES["took"], {"job_id": job_id})
    return {meter_id: took_ms / 1000 for meter_id, took_ms in await cursor.fetchall()}


async def lanes(connection: Connection, job_id: int) -> list[str]:
    """Lanes in which something of the job is open."""
    cursor = await connection.execute(_QUERIES["lanes"], {"job_id": job_id})
    return [lane for (lane,) in await cursor.fetchall()]


def _stage(stage: str | None) -> Stage | None:
    return None if stage is None else Stage(stage)
