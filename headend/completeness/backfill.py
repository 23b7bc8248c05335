"""Back-fill: gaps become requests with exact ranges, the first to be lost first, within bounds.

::

    gaps whose turn it is ──> parts that the meter itself may be asked for ──> one request a meter
                                     │ (what its concentrator may yet hand on waits)      │
                                     └──> postponed                       due by when its memory wraps

Pure functions make the plan; `plan_backfill` carries it out in the caller's transaction. A gap is tried again
after a pause that doubles, drawn at random: gaps of a whole station must not come back in step.
"""

import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from headend.links.permits import Urgency
from headend.store import audit, gaps, jobs, network
from headend.store.gaps import DueGap
from headend.store.jobs import NewJob
from headend.store.sql import Connection
from schemas.job import CurveRange, JobKind, Retry, Work
from schemas.network import NOWHERE, Place

#: Gaps that one round takes up, and requests of back-fills that may be open at once.
GAPS_A_ROUND: Final = 5_000
MOST_OPEN: Final = 20_000
#: Ranges of one request; what is beyond has its turn later.
MOST_RANGES: Final = 16
#: No attempt of a round's job begins later than so long after it: the gaps' next round follows.
LASTS: Final = timedelta(hours=6)
#: Where nobody knows when the memory wraps, a gap is due so late: fresh work goes before it.
UNHURRIED: Final = timedelta(days=7)
#: Bounds of the pause before a gap is tried again.
FIRST_PAUSE: Final = timedelta(minutes=30)
LONGEST_PAUSE: Final = timedelta(hours=24)
#: The least of all priorities.
PRIORITY: Final = 0
_RETRY: Final = Retry(attempts=3, first_s=30, longest_s=900)
_BUCKET: Final = timedelta(hours=1)
_ACTOR: Final = "backfill"

#: Called in the transaction that adds requests: wakes their lanes.
Wake = Callable[[Connection, Sequence[str]], Awaitable[None]]


@dataclass(slots=True)
class Plan:
    """``works`` by the moment until which they are due and by meter; ``taken`` gaps with when each is tried
    again; ``postponed`` gaps with when they may be tried at all."""

    works: dict[datetime, dict[int, tuple[Work, ...]]] = field(default_factory=dict)
    taken: dict[int, datetime] = field(default_factory=dict)
    postponed: dict[int, datetime] = field(default_factory=dict)


def pause(tries: int, draw: Callable[[], float] = random.random) -> timedelta:
    """Before a gap that was tried ``tries`` times is tried again: between half of the bound and the bound."""
    bound: timedelta = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(tries, 16))
    return bound * (0.5 + draw() / 2)


def due_by(wraps_at: datetime | None, now: datetime) -> datetime:
    """Until when a gap shall be asked for, in whole hours, so that requests with one due time go together."""
    latest = now + UNHURRIED if wraps_at is None else min(wraps_at, now + UNHURRIED)
    return now + (max(latest, now) - now) // _BUCKET * _BUCKET


def make_plan(
    due: Sequence[DueGap],
    now: datetime,
    *,
    keeps: Mapping[int, timedelta],
    draw: Callable[[], float] = random.random,
) -> Plan:
    """What is asked of whom. ``keeps``: by meter, how long its concentrator has to hand on an interval before
    the meter is asked itself."""
    plan = Plan()
    by_meter: dict[int, list[DueGap]] = defaultdict(list)
    for gap in due:
        by_meter[gap.meter_id].append(gap)
    for meter_id, its in by_meter.items():
        limit = now - keeps.get(meter_id, timedelta(0))
        works: list[Work] = []
        soonest = None
        for gap in its:
            ranges = [(since, min(until, limit)) for since, until in gap.missing if since < limit]
            if not ranges:
                plan.postponed[gap.gap_id] = gap.missing[0][1] + keeps.get(meter_id, timedelta(0))
            elif len(works) < MOST_RANGES:
                works += [
                    CurveRange(profile=gap.profile, since=since, until=until)
                    for since, until in ranges[: MOST_RANGES - len(works)]
                ]
                plan.taken[gap.gap_id] = now + pause(gap.tries, draw)
                soonest = (
                    due_by(gap.wraps_at, now) if soonest is None else min(soonest, due_by(gap.wraps_at, now))
                )
        if works and soonest is not None:
            plan.works.setdefault(soonest, {})[meter_id] = tuple(works)
    return plan


async def plan_backfill(
    connection: Connection,
    now: datetime,
    wake: Wake,
    *,
    forwards: Callable[[str | None], bool],
    forwarded: timedelta,
) -> int:
    """Make one round's job in the caller's transaction; how many meters it asks."""
    room = MOST_OPEN - await gaps.asked(connection)
    due = await gaps.due(connection, now=now, limit=min(GAPS_A_ROUND, max(0, room)))
    if not due:
        return 0
    places = await network.places(connection, sorted({gap.meter_id for gap in due}))
    plan = make_plan(due, now, keeps=_keeps(due, places, forwards, forwarded))
    await gaps.postponed(connection, plan.postponed)
    if not plan.works:
        return 0
    meters = sum(len(works) for works in plan.works.values())
    job_id = await jobs.create(
        connection,
        NewJob(
            kind=JobKind.BACKFILL,
            title=f"back-fill of {len(plan.taken)} gaps",
            work=(),
            priority=PRIORITY,
            deadline=now + LASTS,
            drop_dead=now + LASTS,
            actor=_ACTOR,
            correlation_id=str(uuid4()),
            retry=_RETRY,
        ),
    )
    if job_id is None:  # only a schedule's job can be there already
        return 0
    lanes: set[str] = set()
    for moment, works in sorted(plan.works.items()):
        lanes.update(
            await jobs.add_requests(
                connection,
                job_id,
                list(works),
                urgency=Urgency.SCHEDULED,
                due_by=moment,
                next_at=now,
                drop_dead=now + LASTS,
                works=list(works.values()),
            )
        )
    await gaps.planned(connection, job_id, plan.taken)
    await audit.record(
        connection,
        actor=_ACTOR,
        action="job.created",
        object_=f"job:{job_id}",
        detail={"gaps": len(plan.taken), "meters": meters},
    )
    await wake(connection, sorted(lanes))
    return meters


def _keeps(
    due: Sequence[DueGap],
    places: Mapping[int, Place],
    forwards: Callable[[str | None], bool],
    forwarded: timedelta,
) -> dict[int, timedelta]:
    return {
        gap.meter_id: forwarded for gap in due if forwards(places.get(gap.meter_id, NOWHERE).station_model)
    }
