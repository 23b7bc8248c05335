"""Samples meters that keep no load curve: each is read around the boundary of its interval, or never.

::

          boundary - tolerance             boundary             boundary + tolerance
    ──────────────┼───────────────────────────┼────────────────────────────┼────────>
      due meters, by line      each line's turn lies around it        what was not read
                                                                      is missing for good

A reading keeps its own time; the driver decides whether it counts for the boundary. What nobody read in time
is claimed as covered without a row: asked for, and there is no more to be had. So are boundaries that passed
while the head-end was away.
"""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from headend.clock import utc_now
from headend.drivers.contract import Curve, Recall
from headend.drivers.registry import Drivers, Reachable
from headend.drivers.targets import targets_of
from headend.ingest.pipeline import Pipeline, PipelineClosed
from headend.jobs.here import has_device
from headend.jobs.lanes import LaneKeeper
from headend.links.failures import stage_of
from headend.links.links import Links
from headend.links.opened import BreakerOpen
from headend.session.access import Connect
from headend.session.retry import Verdict, classify
from headend.store import coverage, lanes
from headend.store.coverage import Due, Wanted
from headend.store.errors import UnavailableError
from headend.store.lanes import LaneLost
from headend.store.settlement import NOTHING, Settlement
from headend.store.sql import Connection
from headend.store.writer import UnknownMeter
from protocols.errors import CommunicationError
from schemas.model import ModelError
from schemas.reading import ReadingBatch, registers_only

log = logging.getLogger(__name__)

SOURCE: Final = "sampler"
#: Without sampled meters, it is looked again for some after this many seconds.
IDLE_S: Final = 60.0
#: Boundaries that passed while we were away are claimed as missing this far back.
BACK: Final = timedelta(days=7)
#: Lists of meters and their ways are made this long before the first of them is read, in seconds.
_AHEAD_S: Final = 2.0
#: What is still under way this long after the tolerance is given up: its answer would not count.
_GRACE_S: Final = 2.0
_SECOND: Final = timedelta(seconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)
#: Asking again would be later still.
_LATE: Final = "its answer came too late for the boundary"
#: Weight of the newest round in what a line is expected to take.
_NEWEST: Final = 0.3


_NO_TIME: Final = "its line had no time for it"


@dataclass(slots=True)
class Round:
    """What came of one boundary. ``due`` meters' curves; each ends among ``sampled`` or ``missed``.

    ``failures`` says why, by asset id, of what was missed.
    """

    boundary: datetime
    due: int = 0
    sampled: int = 0
    missed: int = 0
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Task:
    """One meter's curve at one boundary."""

    due: Due
    tolerance: timedelta
    asset_id: str
    way: Reachable
    lane: str | None
    failed: str = _NO_TIME
    under: Settlement = NOTHING


class Sampler:
    """``await Sampler(...).run()`` ends by cancellation only.

    Args:
        connect: gives a database connection.
        drivers: the languages.
        links: the ways to the meters.
        pipeline: takes what was read.
        now: aware, UTC.
        on_round: told of each boundary.
        keeper: lines are sampled by who holds their lane, or finds it free; None: there are no others.
    """

    def __init__(
        self,
        connect: Connect,
        drivers: Drivers,
        links: Links,
        pipeline: Pipeline,
        *,
        now: Callable[[], datetime] = utc_now,
        on_round: Callable[[Round], None] = lambda _: None,
        keeper: LaneKeeper | None = None,
    ) -> None:
        self._connect = connect
        self._drivers = drivers
        self._links = links
        self._pipeline = pipeline
        self._now = now
        self._on_round = on_round
        self._keeper = keeper
        self._took: dict[object, float] = {}
        self._silent: set[int] = set()
        self._caught_up = False
        #: the last boundary that was sampled: a round may end before its boundary has come
        self._last = _EPOCH

    async def run(self) -> None:
        """One boundary after another. A database that is away costs boundaries, which are told."""
        while True:
            try:
                curves = await self._curves()
                boundary = self._next(curves)
                if boundary is None:
                    await asyncio.sleep(IDLE_S)
                    continue
                at = [one for one in curves if _falls_on(boundary, one[1])]
                earliest = max(curve.tolerance_s for _, curve in at) + _AHEAD_S
                # new meters and models are seen within the idle time, however far the boundary is
                wait = (boundary - self._now()).total_seconds() - earliest
                if wait > IDLE_S:
                    await asyncio.sleep(IDLE_S)
                    continue
                await asyncio.sleep(max(0.0, wait))
                self._on_round(await self.sample(boundary, at))
                self._last = boundary
            except UnavailableError as error:
                log.error("nothing is sampled, the database is away: %s", str(error).split("\n", 1)[0])  # noqa: TRY400
                await asyncio.sleep(1.0)

    async def sample(self, boundary: datetime, curves: Sequence[tuple[str, Curve]]) -> Round:
        """Sample all commissioned meters of these models for one boundary; ends when it has passed, and what
        was read is committed or in the log."""
        done = Round(boundary)
        async with self._connect() as connection:
            due = await coverage.due(
                connection,
                [
                    Wanted(model, curve.number, boundary - curve.period_s * _SECOND, boundary)
                    for model, curve in curves
                ],
            )
            lane_of: dict[int, str] = {}
            tolerances = {(model, curve.number): curve.tolerance_s * _SECOND for model, curve in curves}
            targets = await targets_of(connection, [one.meter_id for one in due])
            passed = [] if self._caught_up else await self._passed(connection, boundary, curves)
            if self._keeper is not None:
                behind = {one.meter.meter_id: one.place.station_id for one in targets}
                lane_of = await lanes.of_meters(connection, behind)
                await lanes.ensure(connection, list(lane_of.values()))
        self._caught_up = True
        await self._claim(passed)
        meters = {one.meter.meter_id: one.meter for one in targets}
        ways = await self._drivers.prepare(targets)
        lines: dict[object, list[_Task]] = defaultdict(list)
        for one in due:
            meter, way = meters[one.meter_id], ways[one.meter_id]
            done.due += 1
            if isinstance(way, Exception):
                _miss(done, meter.asset_id, str(way))
                await self._claim([one])
                continue
            line: object = way.way.address.line or (one.meter_id,)
            tolerance = tolerances[meter.model, one.profile]
            lines[line].append(_Task(one, tolerance, meter.asset_id, way, lane_of.get(one.meter_id)))
        async with asyncio.TaskGroup() as group:
            for line, tasks in lines.items():
                group.create_task(self._held_line(line, tasks, boundary, done), name=f"sample {line}")
        self._took = {line: self._took[line] for line in lines if line in self._took}
        return done

    # ---- one line -----------------------------------------------------------------------------------

    async def _held_line(self, line: object, tasks: list[_Task], boundary: datetime, done: Round) -> None:
        """A line, unless somebody else holds its lane: he samples it then."""
        lane = tasks[0].lane
        if self._keeper is None or lane is None:
            await self._line(line, tasks, boundary, done)
            return
        if not has_device(lane):
            done.due -= len(tasks)  # it is another host's
            return
        async with self._keeper.borrowing(lane) as held:
            if held is None:
                done.due -= len(tasks)
                return
            under = Settlement(frozenset([held.lease]), lease_s=self._keeper.lease_s)
            for one in tasks:
                one.under = under
            await self._line(line, tasks, boundary, done)

    async def _line(self, line: object, tasks: list[_Task], boundary: datetime, done: Round) -> None:
        """All meters of one line, one after another; who was silent last time comes last."""
        tasks.sort(key=lambda one: one.due.meter_id in self._silent)
        tolerance = max(one.tolerance for one in tasks)
        lead = min(tolerance, timedelta(seconds=self._took.get(line, 0.0) / 2))
        await asyncio.sleep(max(0.0, (boundary - lead - self._now()).total_seconds()))
        began = self._now()
        todo = deque(tasks)
        again: list[_Task] = []
        while todo:
            one = todo.popleft()
            if not await self._one(one, boundary, done):
                again.append(one)
        took = (self._now() - began).total_seconds()
        self._took[line] = took + (1 - _NEWEST) * (self._took.get(line, took) - took)
        for one in again:
            if one.failed == _LATE or not await self._one(one, boundary, done):
                self._silent.add(one.due.meter_id)
                _miss(done, one.asset_id, one.failed)
                log.info("%s: not sampled for %s: %s", one.asset_id, boundary.isoformat(), one.failed)
                await self._claim([one.due], one.under)

    async def _one(self, one: _Task, boundary: datetime, done: Round) -> bool:
        """Read one meter; whether it gave what counts for the boundary."""
        left = (boundary + one.tolerance - self._now()).total_seconds()
        if left <= 0:
            return False
        try:
            async with asyncio.timeout(left + _GRACE_S):
                async with self._links.conversation(one.way.driver, one.way.way) as conversation:
                    batch = await conversation.read_load_curve(one.due.profile, one.due.since, one.due.until)
            if len(batch) or batch.registers:  # what came too late to count is kept as registers
                await (await self._pipeline.submit(batch, one.under))
            if not len(batch):
                one.failed = _LATE
                return False
        except TimeoutError:
            one.failed = "no answer in time"
        except BreakerOpen as refused:
            if one.failed == _NO_TIME:  # else what it failed of is the better reason
                one.failed = str(refused)
        except CommunicationError as error:
            one.failed = f"{stage_of(error)}: {error}".split("\n", 1)[0]
            if classify(error) is Verdict.FATAL:
                log.info("%s: %s", one.asset_id, one.failed)
        except (UnavailableError, UnknownMeter, PipelineClosed, LaneLost) as error:
            log.error("%s: read and not stored: %s", one.asset_id, str(error).split("\n", 1)[0])  # noqa: TRY400
            one.failed = str(error).split("\n", 1)[0]
        except Exception as error:  # the boundary: a defect met at one meter must not end all others
            log.exception("%s: not sampled, by a defect", one.asset_id)
            one.failed = f"a defect of ours: {error}"
        else:
            self._silent.discard(one.due.meter_id)
            done.sampled += 1
            return True
        return False

    # ---- boundaries, and what is missing ------------------------------------------------------------

    async def _curves(self) -> list[tuple[str, Curve]]:
        """Sampled curves of the models in use."""
        async with self._connect() as connection:
            models = await coverage.models_in_use(connection)
        found = []
        for model in models:
            try:
                curves = self._drivers.of(model).curves(model)
            except ModelError as error:
                log.error("meters of model %s are not sampled: %s", model, error)  # noqa: TRY400
                continue
            found += [(model, curve) for curve in curves if curve.recall is Recall.SAMPLED]
        return found

    def _next(self, curves: Sequence[tuple[str, Curve]]) -> datetime | None:
        """The next boundary of any of the curves that can still be sampled."""
        behind = max(self._now(), self._last)
        return min((_boundary_after(behind, curve) for _, curve in curves), default=None)

    async def _passed(
        self, connection: Connection, boundary: datetime, curves: Sequence[tuple[str, Curve]]
    ) -> list[Due]:
        """Ranges behind a meter's first sample that nobody was there to read."""
        since = boundary - BACK
        gaps = await coverage.due(
            connection,
            [
                Wanted(model, curve.number, since, boundary - curve.period_s * _SECOND)
                for model, curve in curves
            ],
        )
        # what begins with the window lies before the first sample, as far as we know
        return [one for one in gaps if one.since > since]

    async def _claim(self, ranges: Sequence[Due], under: Settlement = NOTHING) -> None:
        """Have it stored that of these ranges nothing more is to be had."""
        if not ranges:
            return
        covered = tuple(
            (one.meter_id, one.profile, (one.since - _EPOCH) // _US, (one.until - _EPOCH) // _US)
            for one in ranges
        )
        empty: ReadingBatch = replace(registers_only((), source=SOURCE), covered_us=covered)
        try:
            await (await self._pipeline.submit(empty, under))
        except (UnavailableError, UnknownMeter, PipelineClosed, LaneLost) as error:
            log.error("what was not sampled is not noted: %s", str(error).split("\n", 1)[0])  # noqa: TRY400


def _miss(done: Round, asset_id: str, why: str) -> None:
    done.missed += 1
    done.failures[asset_id] = why


def _falls_on(boundary: datetime, curve: Curve) -> bool:
    return (boundary - _EPOCH) % (curve.period_s * _SECOND) == timedelta()


def _boundary_after(now: datetime, curve: Curve) -> datetime:
    """The next boundary whose tolerance has not begun to end: periods are counted from midnight UTC."""
    period = curve.period_s * _SECOND
    return now + (period - (now - _EPOCH) % period)
