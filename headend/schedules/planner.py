"""Runs become jobs: a request for each meter that is commissioned then, in one transaction."""

import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from headend.links.permits import Urgency
from headend.schedules import calendar
from headend.schedules.calendar import Times
from headend.store import audit, jobs, queue, schedules, selection
from headend.store.errors import UnavailableError
from headend.store.jobs import NewJob
from headend.store.schedules import StoredSchedule
from headend.store.sql import Connection
from schemas.job import Forwarded, JobKind
from schemas.model import ModelError
from schemas.models import load_any
from schemas.schedule import Missed

log = logging.getLogger(__name__)

#: A run that begins later than this was missed: the tick comes each minute, and a restart takes some.
LATE: Final = timedelta(minutes=5)
#: What one step of priority is worth: a job with deadline 08:00 and priority 2 goes beside one with 06:00.
PRIORITY_STEP: Final = timedelta(hours=1)
#: Language of concentrators that store and forward, as drivers are called.
_FORWARDING: Final = "dlms-station"


class Planned(NamedTuple):
    """A job that a run became: for how many meters or concentrators, in how many lanes."""

    schedule: str
    job_id: int
    times: Times
    requests: int
    lanes: int


async def plan_due(connection: Connection, now: datetime, *, folders: tuple[Path, ...] = ()) -> list[Planned]:
    """The jobs of all schedules that are due, each in a transaction of its own; what another process
    is at is left to it. A schedule that fails is logged and costs no other.

    Of several missed runs the newest alone becomes a job: it reads all that is not covered yet, and what
    a meter showed at an earlier run nobody can read any more. The connection is outside of any transaction:
    what was begun on it is committed. Raises UnavailableError.
    """
    made = []
    waiting = await schedules.due(connection, now)
    await connection.commit()
    for schedule_id in waiting:
        try:
            async with connection.transaction():
                stored = await schedules.lock_due(connection, schedule_id, now)
                planned = None if stored is None else await _plan(connection, stored, now, folders)
        except UnavailableError:
            raise
        except Exception:  # the boundary: one bad schedule must not stop the others
            log.exception("schedule number %d was not planned", schedule_id)
            continue
        if planned is not None:
            log.info(
                "%s: job %d, %d requests in %d lanes",
                planned.schedule, planned.job_id, planned.requests, planned.lanes,
            )  # fmt: skip
            made.append(planned)
    return made


async def run_now(
    connection: Connection,
    name: str,
    now: datetime,
    *,
    actor: str,
    correlation_id: str,
    folders: tuple[Path, ...] = (),
) -> Planned:
    """A job of a schedule besides its runs, paused or not. Raises UnknownError."""
    async with connection.transaction():
        stored = await schedules.get(connection, name)
        planned = await _make(
            connection, stored, calendar.times(stored.plan, now), now, actor, correlation_id, folders
        )
        if planned is None:
            raise AssertionError(f"{name} has a job of this very microsecond")
        await audit.record(
            connection,
            actor=actor,
            action="schedule.run",
            object_=f"schedule:{name}",
            detail={"job": planned.job_id, "requests": planned.requests},
        )
    return planned


async def _plan(
    connection: Connection, stored: StoredSchedule, now: datetime, folders: tuple[Path, ...]
) -> Planned | None:
    plan = stored.plan
    since = stored.next_at or now
    run = calendar.latest(plan, since, now)
    missed = now - run > LATE
    if run > since or missed:
        log.warning(
            "%s: runs from %s to %s were missed: %s", plan.name, since, run,
            "skipped" if missed and plan.missed is Missed.SKIP else "the newest is caught up",
        )  # fmt: skip
    planned = None
    if not missed or plan.missed is Missed.CATCH_UP:
        told = calendar.times(plan, run, now if missed else None)
        planned = await _make(
            connection, stored, told, now, "schedule", f"schedule:{plan.name}:{run:%Y%m%dT%H%MZ}", folders
        )
    await schedules.advance(
        connection,
        stored.schedule_id,
        next_at=next(calendar.runs(plan, now), None),
        last_at=None if planned is None else run,
    )
    return planned


async def _make(
    connection: Connection,
    stored: StoredSchedule,
    told: Times,
    now: datetime,
    actor: str,
    correlation_id: str,
    folders: tuple[Path, ...],
) -> Planned | None:
    plan = stored.plan
    job_id = await jobs.create(
        connection,
        NewJob(
            kind=JobKind.SCHEDULED,
            title=plan.name,
            work=plan.works,
            priority=plan.priority,
            deadline=told.deadline,
            drop_dead=told.drop_dead,
            actor=actor,
            correlation_id=correlation_id,
            retry=plan.retry,
            schedule_id=stored.schedule_id,
            run_at=told.run,
        ),
    )
    if job_id is None:
        return None
    meant = await _meant(connection, stored, now, folders)
    lanes = await jobs.add_requests(
        connection,
        job_id,
        meant,
        urgency=Urgency.SCHEDULED,
        due_by=told.deadline - plan.priority * PRIORITY_STEP,
        next_at=told.opens,
        drop_dead=told.drop_dead,
    )
    if not meant:
        await jobs.end(connection, [job_id])
    elif told.opens <= now:  # else the janitor wakes them when the window opens
        await queue.wake(connection, lanes)
    return Planned(plan.name, job_id, told, len(meant), len(lanes))


async def _meant(
    connection: Connection, stored: StoredSchedule, now: datetime, folders: tuple[Path, ...]
) -> list[int]:
    plan = stored.plan
    if not any(isinstance(work, Forwarded) for work in plan.works):
        return await selection.meters(connection, plan.selection, at=now)
    found = await selection.stations(connection, plan.selection)
    forwarding = {model for model in {model for _, model in found} if _forwards(model, folders)}
    return [-node_id for node_id, model in found if model in forwarding]


def _forwards(model: str, folders: tuple[Path, ...]) -> bool:
    try:
        return load_any(model, folders).driver == _FORWARDING
    except ModelError:
        return False
