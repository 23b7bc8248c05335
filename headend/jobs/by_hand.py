"""Jobs that are started here and followed to their end: the commands ``collect`` and ``stations``, a start of
the service, benchmarks.

Where no other process works at lanes, this one does, at those of the job. What can only be waited for (a
meter's call, a breaker's time) is not: it is told, and cancelled with the rest of the job.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from headend.clock import utc_now
from headend.drivers.registry import Drivers
from headend.drivers.targets import targets_of
from headend.jobs.asked import its_own
from headend.jobs.queue import Queue
from headend.jobs.ranges import wanted_ranges
from headend.links.permits import Urgency
from headend.session.access import Connect
from headend.store import coverage, jobs, lanes, network, progress, queue, requests
from headend.store.coverage import Due
from headend.store.errors import UnknownError
from headend.store.jobs import NewJob
from headend.store.progress import Course, Failure
from headend.store.sql import Connection
from schemas.failure import Stage
from schemas.job import CurveRange, Forwarded, JobKind, Retry, Work
from schemas.model import ModelError

log = logging.getLogger(__name__)

#: Failures that are kept one by one; all are counted.
MOST_FAILURES: Final = 1000
#: How often it is looked how a job goes, in seconds.
LOOK_S: Final = 0.5
#: Lanes that are worked at here at once.
LANES: Final = 64
#: How long a job by hand may take.
_LONGEST: Final = timedelta(hours=24)
_PRIORITY: Final = 5


@dataclass(slots=True)
class Outcome:
    """What came of a job. Each of ``due`` requests ends among ``read``, ``failed`` or ``away`` (the meter
    dials in and is not connected); ``retries`` are attempts beyond the first, ``intervals`` rows that came.
    ``stages`` counts failures by stage. ``seconds`` is the whole time.
    """

    job_id: int | None = None
    due: int = 0
    read: int = 0
    failed: int = 0
    away: int = 0
    retries: int = 0
    intervals: int = 0
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list)
    stages: dict[Stage | None, int] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Those that need not be waited for any more."""
        return self.read + self.failed + self.away

    def look(self, course: Course) -> None:
        """Take over how the job goes."""
        self.due, self.read = course.total, course.done
        self.failed, self.away = course.failed + course.held_off, course.away
        self.retries, self.intervals = course.retries, course.intervals


@dataclass(frozen=True, slots=True)
class StationRound:
    """What came of one concentrator's round: the figures of `StationOutcome`; ``failure`` says why it did not
    come to its end."""

    station: str
    figures: dict[str, Any]
    failure: str | None
    seconds: float


OnProgress = Callable[[Outcome], None]


class ByHand:
    """Starts jobs and follows them.

    Args:
        connect: gives a database connection.
        drivers: the languages.
        queue: works at lanes in this process; None: others do.
        retry: policy of the jobs.
        forwarded: how long a concentrator has to hand on what it keeps, until its meter is asked itself.
        actor: who starts them.
        now: aware, UTC.
    """

    def __init__(
        self,
        connect: Connect,
        drivers: Drivers,
        queue: Queue | None,
        *,
        retry: Retry,
        actor: str,
        forwarded: timedelta = timedelta(0),
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._connect = connect
        self._drivers = drivers
        self._queue = queue
        self._retry = retry
        self._forwarded = forwarded
        self._actor = actor
        self._now = now

    async def collect(
        self,
        since: datetime,
        until: datetime,
        *,
        meter_ids: Sequence[int] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Outcome:
        """Read the load curves of all commissioned meters, or of those named, where [since, until) is not
        covered; aware times. Ends when all that was read is committed. Raises UnavailableError.
        """
        async with self._connect() as connection:
            works = await self._due(connection, since, until, meter_ids)
            job_id = None
            if works:
                title = f"collect {since:%F %R} to {until:%F %R}"
                job_id = await self._start(connection, title, list(works), list(works.values()))
        if job_id is None:
            outcome = Outcome()
            if on_progress is not None:
                on_progress(outcome)
            return outcome
        return await self.follow(job_id, on_progress)

    async def read(self, meter_ids: Sequence[int], *works: Work) -> Outcome:
        """Read ``works`` of these meters. Raises UnavailableError."""
        async with self._connect() as connection:
            title = ", ".join(one.kind for one in works)
            job_id = await self._start(connection, title, list(meter_ids), [works] * len(meter_ids))
        return await self.follow(job_id)

    async def stations(self, codes: Collection[str] = ()) -> list[StationRound]:
        """One round of each store-and-forward concentrator, or of those of these ``codes``.

        Raises UnknownError for a code that is no such concentrator's, UnavailableError.
        """
        async with self._connect() as connection:
            nodes = [
                node
                for node in await network.stations(connection)
                if node.address is not None and self._drivers.forwards(node.model)
            ]
            if codes:
                nodes = [node for node in nodes if node.code in codes]
                if missing := set(codes) - {node.code for node in nodes}:
                    raise UnknownError(
                        f"no concentrator that stores and forwards: {', '.join(sorted(missing))}"
                    )
            if not nodes:
                return []
            job_id = await self._start(
                connection, "stations", [-node.node_id for node in nodes], [(Forwarded(),)] * len(nodes)
            )
        await self.follow(job_id)
        async with self._connect() as connection:
            by_node = {
                -one.meter_id: one for one in await requests.of_job(connection, job_id, limit=len(nodes))
            }
            took = await progress.took_s(connection, job_id)
        return [
            StationRound(
                node.code,
                by_node[node.node_id].result or {},
                by_node[node.node_id].reason,
                took.get(-node.node_id, 0.0),
            )
            for node in nodes
        ]

    async def follow(
        self, job_id: int, on_progress: OnProgress | None = None, *, leave: bool = False
    ) -> Outcome:
        """Look on, and work at it where nobody else does, until nothing of the job is to be waited for any
        more; what is still open then is cancelled, but for ``leave``. Raises UnavailableError.
        """
        outcome = Outcome(job_id)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self._look_on(job_id, outcome, on_progress)
            async with self._connect() as connection:
                outcome.failures = await progress.failures(connection, job_id, limit=MOST_FAILURES)
                outcome.stages = await progress.by_stage(connection, job_id)
        finally:
            if not leave:
                await asyncio.shield(self._end(job_id))
        outcome.seconds = loop.time() - began
        return outcome

    async def _look_on(self, job_id: int, outcome: Outcome, on_progress: OnProgress | None) -> None:
        soon_s = self._retry.longest_s + LOOK_S
        working: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                async with self._connect() as connection:
                    course = await progress.course(connection, job_id, soon_s=soon_s)
                    due = await lanes.due(connection, await progress.lanes(connection, job_id))
                outcome.look(course)
                if on_progress is not None:
                    on_progress(outcome)
                if course.settled >= course.total and not working:
                    return
                if self._queue is not None:
                    for lane in [one.lane for one in due if one.lane not in working][: LANES - len(working)]:
                        working[lane] = group.create_task(self._queue.lane(lane), name=f"by hand {lane}")
                if working:
                    await asyncio.wait(working.values(), timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                    working = {lane: task for lane, task in working.items() if not task.done()}
                else:
                    await asyncio.sleep(LOOK_S)

    async def _end(self, job_id: int) -> None:
        async with self._connect() as connection:
            await jobs.cancel(connection, job_id)
            await jobs.end(connection, [job_id])

    async def _start(
        self, connection: Connection, title: str, numbers: list[int], works: list[tuple[Work, ...]]
    ) -> int:
        now = self._now()
        job_id = await jobs.create(
            connection,
            NewJob(
                kind=JobKind.SCHEDULED, title=title, work=(), priority=_PRIORITY, deadline=now + _LONGEST,
                drop_dead=now + _LONGEST, actor=self._actor, correlation_id=str(uuid4()), retry=self._retry,
            ),
        )  # fmt: skip
        if job_id is None:
            raise AssertionError("a job of no schedule is always made")
        names = await jobs.add_requests(
            connection, job_id, numbers, urgency=Urgency.SCHEDULED, due_by=now, next_at=now,
            drop_dead=now + _LONGEST, works=works,
        )  # fmt: skip
        await queue.wake(connection, names)
        return job_id

    async def _due(
        self, connection: Connection, since: datetime, until: datetime, meter_ids: Sequence[int] | None
    ) -> dict[int, tuple[Work, ...]]:
        """What is due, as ranges by meter. Meters whose model cannot be loaded are left out, and the log says
        so."""
        wanted = []
        for name in await coverage.models_in_use(connection, meter_ids):
            try:
                curves = self._drivers.of(name).curves(name)
            except ModelError as error:
                log.error("meters of model %s are not read: %s", name, error)  # noqa: TRY400
                continue
            wanted += wanted_ranges(name, curves, since, until)
        by_meter: dict[int, list[Due]] = defaultdict(list)
        for due in await coverage.due(connection, wanted, meter_ids) if wanted else ():
            by_meter[due.meter_id].append(due)
        found: dict[int, tuple[Work, ...]] = {}
        for target in await targets_of(connection, list(by_meter)):
            meter_id = target.meter.meter_id
            own = its_own(self._drivers, target, by_meter[meter_id], self._now() - self._forwarded)
            if own:
                found[meter_id] = tuple(
                    CurveRange(profile=one.profile, since=one.since, until=one.until) for one in own
                )
        return found
