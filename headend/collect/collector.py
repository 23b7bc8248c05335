"""Collects load curves: what is due of all meters, many meters at a time, each to its own end.

::

    wanted ranges − coverage ──> due, by meter ──> chunks of a thousand: keys, counters, replay bars at once
                                                        │
        one task per meter ──> links (permits) ──> conversation, in the meter's language
                │                                        │
                └ again after a random wait         batch ──> pipeline ──> committed

A meter that is silent occupies its permits for as long as its deadlines say and costs nobody else more.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

from headend.clock import utc_now
from headend.collect.outcome import Failure, Outcome
from headend.drivers.contract import Target
from headend.drivers.registry import Drivers, Reachable
from headend.drivers.targets import targets_of
from headend.ingest.pipeline import Pipeline, PipelineClosed
from headend.jobs.ranges import joined, older, wanted_ranges
from headend.keys.seal import SealError
from headend.links.links import Links
from headend.links.opened import BreakerOpen
from headend.observe.metrics import Metrics
from headend.session.access import Connect
from headend.session.retry import RetryPolicy, retrying
from headend.store import coverage
from headend.store.coverage import Due
from headend.store.errors import UnavailableError
from headend.store.writer import UnknownMeter, Written
from protocols.errors import CommunicationError
from schemas.meter import Meter
from schemas.model import ModelError
from schemas.reading import ReadingBatch

log = logging.getLogger(__name__)

#: Meters whose keys are opened and counters reserved at once.
CHUNK: Final = 1000
#: Longest range of one request: what was read of a long backlog is kept when the rest fails.
LONGEST: Final = timedelta(days=7)

OnProgress = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """Meters that are read, or wait for a permit, a try or the database, at once."""

    meters: int = 2256
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(slots=True)
class _Run:
    """What belongs to one collection."""

    outcome: Outcome
    on_progress: OnProgress | None
    transactions: set[int] = field(default_factory=set)
    refused: list[tuple[Meter, Reachable, list[Due], BreakerOpen]] = field(default_factory=list)

    def tell(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self.outcome)


class Collector:
    """Reads what is due. Collections follow one another: a second one waits for the first to end.

    Args:
        connect: gives a database connection.
        drivers: the languages.
        links: the ways to the meters.
        pipeline: takes what was read.
        forwarded: how long a concentrator has to hand on what it keeps, until its meter is asked itself.
        now: aware, UTC.
        metrics: where collections are counted.
    """

    def __init__(
        self,
        connect: Connect,
        drivers: Drivers,
        links: Links,
        pipeline: Pipeline,
        *,
        limits: Limits | None = None,
        forwarded: timedelta = timedelta(0),
        now: Callable[[], datetime] = utc_now,
        metrics: Metrics | None = None,
    ) -> None:
        self._forwarded = forwarded
        self._now = now
        self._connect = connect
        self._drivers = drivers
        self._links = links
        self._pipeline = pipeline
        self._limits = Limits() if limits is None else limits
        self._metrics = Metrics() if metrics is None else metrics
        self._room = asyncio.Semaphore(self._limits.meters)
        self._one = asyncio.Lock()

    async def collect(
        self,
        since: datetime,
        until: datetime,
        *,
        meter_ids: Sequence[int] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Outcome:
        """Read the load curves of all commissioned meters, or of those named, where [since, until) is not
        covered; aware times. ``on_progress`` is called when a meter has answered and when it is finished.

        Ends when everything that was read is committed. A meter's failure is in the outcome and costs nobody
        else. Raises UnavailableError while the database is away.
        """
        run = _Run(Outcome(), on_progress)
        loop = asyncio.get_running_loop()
        async with self._one:
            began = loop.time()
            due = {
                meter_id: joined(ranges)
                for meter_id, ranges in groupby(
                    await self._due(since, until, meter_ids), key=lambda one: one.meter_id
                )
            }
            run.outcome.due = len(due)
            run.tell()
            numbers = list(due)
            async with asyncio.TaskGroup() as group:
                for first in range(0, len(numbers), CHUNK):
                    for target, way in await self._ways(numbers[first : first + CHUNK]):
                        meter = target.meter
                        wanted = self._its_own(target, due[meter.meter_id])
                        if not wanted:
                            run.outcome.due -= 1
                            run.tell()
                            continue
                        if isinstance(way, Reachable) and way.is_away:
                            run.outcome.away += 1
                            run.tell()
                            continue
                        await self._room.acquire()
                        group.create_task(self._meter(meter, way, wanted, run), name=f"read {meter.asset_id}")
            await self._once_more(run)
            run.outcome.seconds = loop.time() - began
        self._metrics.collection_seconds.set(run.outcome.seconds)
        for name in ("read", "failed", "away"):
            self._metrics.collected.labels(name).inc(getattr(run.outcome, name))
        return run.outcome

    async def _once_more(self, run: _Run) -> None:
        """Of the meters that were not tried, those whose station has answered since; the rest have failed."""
        refused, run.refused = run.refused, []
        async with asyncio.TaskGroup() as group:
            for meter, way, due, why in refused:
                if not self._links.expects_answer(way.way):
                    self._not_read(meter, why, 1, run)
                    continue
                await self._room.acquire()
                group.create_task(self._meter(meter, way, due, run), name=f"read {meter.asset_id}")
        for meter, _, _, why in run.refused:
            self._not_read(meter, why, 1, run)

    async def _due(self, since: datetime, until: datetime, meter_ids: Sequence[int] | None) -> list[Due]:
        """What is due, by meter. Meters whose model cannot be loaded are left out, and the log says so."""
        async with self._connect() as connection:
            wanted = []
            for name in await coverage.models_in_use(connection, meter_ids):
                try:
                    wanted += wanted_ranges(name, self._drivers.of(name).curves(name), since, until)
                except ModelError as error:
                    log.error("meters of model %s are not read: %s", name, error)  # noqa: TRY400
            return await coverage.due(connection, wanted, meter_ids) if wanted else []

    def _its_own(self, target: Target, due: list[Due]) -> list[Due]:
        """What the meter itself is asked for: not what a concentrator keeps of it and will yet hand on."""
        if not self._drivers.forwards(target.place.station_model):
            return due
        return older(due, self._now() - self._forwarded)

    async def _ways(self, meter_ids: Sequence[int]) -> list[tuple[Target, Reachable | Exception]]:
        """Meters with the way to each, or why there is none."""
        async with self._connect() as connection:
            targets = await targets_of(connection, meter_ids)
        ways = await self._drivers.prepare(targets)
        return [(one, ways[one.meter.meter_id]) for one in targets]

    # ---- one meter ----------------------------------------------------------------------------------

    async def _meter(self, meter: Meter, way: Reachable | Exception, due: list[Due], run: _Run) -> None:
        """Read one meter to its end, whatever comes: this is where a failure stops."""
        attempts = 1

        def again(attempt: int, error: BaseException) -> None:
            nonlocal attempts
            attempts = attempt + 1
            run.outcome.retries += 1
            log.debug("%s: again after attempt %d: %s", meter.asset_id, attempt, error)

        commits: list[asyncio.Future[Written]] = []
        todo = deque(due)
        try:
            if isinstance(way, Exception):
                raise way
            await retrying(lambda: self._attempt(way, todo, commits, run), self._limits.retry, on_retry=again)
            self._count(await asyncio.gather(*commits), run)
            run.outcome.read += 1
        except (CommunicationError, SealError, UnavailableError, UnknownMeter, PipelineClosed) as error:
            if isinstance(error, BreakerOpen) and isinstance(way, Reachable) and attempts == 1:
                run.refused.append((meter, way, due, error))
            else:
                self._not_read(meter, error, attempts, run)
                self._count([one.result() for one in commits if one.done() and not one.exception()], run)
        except Exception as error:  # the boundary: a defect met at one meter must not end all others
            run.outcome.fail(Failure.of(meter.asset_id, error, attempts))
            log.exception("%s: not read, by a defect", meter.asset_id)
        finally:
            self._room.release()
        run.tell()

    def _not_read(self, meter: Meter, error: Exception, attempts: int, run: _Run) -> None:
        failure = Failure.of(meter.asset_id, error, attempts)
        run.outcome.fail(failure)
        log.info("%s: not read (%s): %s", meter.asset_id, failure.stage or "no conversation", error)
        run.tell()

    async def _attempt(
        self, way: Reachable, todo: deque[Due], commits: "list[asyncio.Future[Written]]", run: _Run
    ) -> None:
        """One try. What was read is handed on even where the rest fails, and is not asked for again."""
        got: list[ReadingBatch] = []
        failed: CommunicationError | None = None
        try:
            await self._talk(way, todo, got)
        except CommunicationError as error:
            failed = error
        for batch in got:
            run.outcome.intervals += len(batch)
            run.outcome.values += int(batch.valid.sum())
            commits.append(await self._pipeline.submit(batch))
        if failed is not None:
            raise failed
        run.outcome.answered += 1
        run.tell()

    async def _talk(self, way: Reachable, todo: deque[Due], got: list[ReadingBatch]) -> None:
        """Read ``todo`` from its front in one conversation, taking off what was read."""
        async with self._links.conversation(way.driver, way.way) as conversation:
            while todo:
                one = todo[0]
                until = min(one.until, one.since + LONGEST)
                batch = await conversation.read_load_curve(one.profile, one.since, until)
                got.append(batch)
                if until < one.until:
                    todo[0] = one._replace(since=until)
                else:
                    todo.popleft()

    @staticmethod
    def _count(committed: Sequence[Written], run: _Run) -> None:
        """Count each transaction once: it may have carried other meters' batches too."""
        for written in committed:
            if written.batch_id is not None and written.batch_id not in run.transactions:
                run.transactions.add(written.batch_id)
                run.outcome.written = run.outcome.written.plus(written)
