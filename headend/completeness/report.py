"""The report of a run of a schedule: how complete it made the meters that it asks, and who is missing why."""

from datetime import datetime, timedelta
from typing import Any, Final

from headend.store import completeness, gaps, jobs, network, reports
from headend.store.completeness import By, Group
from headend.store.reports import DueReport
from headend.store.sql import Connection
from schemas.job import CurveRange, Curves, Forwarded

#: What is listed one by one; all are counted.
MOST_MISSING: Final = 1_000
MOST_STATIONS: Final = 200
#: The first run of a schedule speaks of a day, and none of more than a week.
FIRST: Final = timedelta(days=1)
LONGEST: Final = timedelta(days=7)


def window(run_at: datetime, run_before: datetime | None) -> tuple[datetime, datetime]:
    """The intervals that a run speaks of: those that ended since the run before it."""
    since = run_at - FIRST if run_before is None else max(run_before, run_at - LONGEST)
    return since, run_at


def as_json(group: Group) -> dict[str, Any]:
    """A group as reports keep it."""
    return {**group._asdict(), "ratio": round(group.ratio, 6)}


async def make(connection: Connection, due: DueReport, *, now: datetime) -> int | None:
    """Make and keep one report in the caller's transaction, and open the gaps that the run leaves; its
    number, None where there is nothing to make."""
    job = await jobs.find(connection, due.job_id)
    if job is None:
        return None
    since, until = window(job.run_at or job.created_at, due.run_before)
    counts = (await jobs.counts(connection, [job.job_id]))[job.job_id]
    attempts = await reports.attempts(connection, job.job_id)
    body: dict[str, Any] = {
        "requests": {
            state: getattr(counts, state) for state in ("open", "done", "failed", "expired", "cancelled")
        },
        "attempts": attempts._asdict(),
        "deadline": job.deadline.isoformat(),
        "ended_at": None if job.ended_at is None else job.ended_at.isoformat(),
    }
    if any(isinstance(one, Curves | CurveRange | Forwarded) for one in job.work):
        asked = await reports.asked(connection, job.job_id)
        meters = [one for one in asked if one > 0]
        if stations := [-one for one in asked if one < 0]:
            meters += await network.meters_below(connection, stations)
        body |= await _curves(connection, since, until, now, sorted(set(meters)))
    return await reports.insert(
        connection,
        job_id=job.job_id,
        schedule_id=job.schedule_id,
        title=job.title,
        occasion=due.occasion,
        made_at=now,
        since=since,
        until=until,
        body=body,
    )


async def _curves(
    connection: Connection, since: datetime, until: datetime, now: datetime, meters: list[int]
) -> dict[str, Any]:
    opened = await gaps.open_missing(connection, since, until, now=now, meter_ids=meters)
    await completeness.count(connection, since, until, now=now, meter_ids=meters)
    whole, stations = await completeness.groups(connection, By.CONCENTRATOR, limit=MOST_STATIONS)
    _, causes = await completeness.groups(connection, By.CAUSE)
    missing = await completeness.missing(connection, limit=MOST_MISSING)
    return {
        "completeness": as_json(whole),
        "stations": [as_json(one) for one in stations if one.present < one.expected],
        "causes": [as_json(one) for one in causes if one.name is not None],
        "missing": [
            {
                "meter": one.asset_id,
                "profile": one.profile,
                "station": one.station,
                "cause": one.cause,
                "open": one.open,
                "lost": one.lost,
            }
            for one in missing
        ],
        "gaps_opened": opened,
    }
