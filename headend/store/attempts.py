"""Every attempt at a meter: when, how long, how many bytes, where it failed and whose fault that was."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from headend.store import rows, sql
from headend.store.sql import Connection
from schemas.failure import Stage

_QUERIES: Final = sql.load("attempts")


class Attempt(NamedTuple):
    """One conversation, or none where none could begin. ``request_id`` and ``job_id`` are those of the first
    request that went through it, ``number`` counts that request's attempts from 1. ``rows`` are intervals
    that came. ``stage`` None: the meter gave what it was asked for, else ``fault`` and ``reason`` are told
    (None too where no conversation failed: ``reason`` then says what ended it).
    """

    began_us: int
    request_id: int | None
    job_id: int | None
    meter_id: int
    took_ms: int
    bytes_out: int
    bytes_in: int
    rows: int
    number: int
    stage: Stage | None
    fault: str | None
    reason: str | None
    worker: str

    @property
    def began_at(self) -> datetime:
        """Aware, UTC."""
        return rows.moment(self.began_us)


@dataclass(frozen=True, slots=True)
class Ended:
    """Attempts of a job that ended alike; ``again`` of them were not their request's first."""

    stage: Stage | None
    fault: str | None
    attempts: int
    again: int
    rows: int
    bytes_out: int
    bytes_in: int


async def insert(connection: Connection, attempts: Sequence[Attempt]) -> None:
    """Keep these, all of one worker."""
    if not attempts:
        return
    (
        began_us, requests, jobs, meters, took_ms, bytes_out, bytes_in, numbers_of_rows, numbers, stages,
        faults, reasons, _,
    ) = zip(*attempts, strict=True)  # fmt: skip
    whole = rows.integers
    await connection.execute(
        _QUERIES["insert"],
        {
            "began_us": whole(began_us),
            "requests": list(requests),
            "jobs": list(jobs),
            "meters": whole(meters),
            "took_ms": whole(took_ms),
            "bytes_out": whole(bytes_out),
            "bytes_in": whole(bytes_in),
            "rows": whole(numbers_of_rows),
            "numbers": whole(numbers),
            "stages": [None if one is None else one.value for one in stages],
            "faults": list(faults),
            "reasons": list(reasons),
            "worker": attempts[0].worker,
        },
    )


async def of_meter(
    connection: Connection, meter_id: int, *, limit: int, before: datetime | None = None
) -> list[Attempt]:
    """At most ``limit`` attempts at the meter that began before ``before``, newest first."""
    cursor = await connection.execute(
        _QUERIES["of_meter"],
        {"meter_id": meter_id, "limit": limit, "before": None if before is None else sql.aware(before)},
    )
    return [_attempt(row) for row in await cursor.fetchall()]


async def of_job(connection: Connection, job_id: int) -> list[Ended]:
    """How the job's attempts ended, most of them first."""
    cursor = await connection.execute(_QUERIES["of_job"], {"job_id": job_id})
    return [Ended(None if stage is None else Stage(stage), *rest) for stage, *rest in await cursor.fetchall()]


def _attempt(row: Sequence[Any]) -> Attempt:
    began_at, *rest = row
    attempt = Attempt(rows.microseconds(began_at.astimezone(UTC)), *rest)
    return attempt if attempt.stage is None else attempt._replace(stage=Stage(attempt.stage))


async def forget(connection: Connection, *, before: datetime, limit: int) -> int:
    """Forget at most ``limit`` attempts that began before this aware time; how many."""
    cursor = await connection.execute(_QUERIES["forget"], {"before": sql.aware(before), "limit": limit})
    return cursor.rowcount
