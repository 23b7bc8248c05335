"""Works at a lane: reads what is due of it, visits meters in turn, until nothing is due any more.

::

    requests of the lane ──> order (by meter) ──> prepared, some hundred at once ──> slots: a visit each
          ^                                                                             │
          └── bell: what somebody waits for is visited at once <──── committed <────────┘

A lane has as many slots as conversations can be of use at once; how many there may be is for the links'
permits to say. A request is known here from when it is read until what became of it is committed, so that no
other slot takes it; the database says nothing of that.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from headend.ingest.pipeline import Pipeline, PipelineClosed
from headend.jobs.asked import Asked, Preparer, Visit
from headend.jobs.backoff import told
from headend.jobs.lanes import Held
from headend.jobs.order import PROGRAM_TURNS, PROGRAMS, Order, Rank
from headend.jobs.visit import Visitor
from headend.links.keeper import Keeper, Part
from headend.session.access import Connect
from headend.store import requests
from headend.store.errors import UnavailableError
from headend.store.lanes import LaneLost
from headend.store.requests import WAITED_FOR, Settled, Waiting
from headend.store.settlement import Settlement
from headend.store.writer import UnknownMeter, Written
from schemas.job import RequestState
from schemas.reading import registers_only

log = logging.getLogger(__name__)

#: Requests that are read at once, of first attempts and of further ones each.
CLAIM: Final = 1000
#: Meters that are prepared at once.
CHUNK: Final = 250
#: What somebody waits for is visited at once, so many at most; the rest is next in turn.
URGENT_AT_ONCE: Final = 64
#: A lane in which nothing is due is kept for so long, where something will be by then, in seconds.
LINGER_S: Final = 3.0
#: While a slot is busy and others are idle, it is looked so often whether something is due, in seconds.
POLL_S: Final = 2.0
#: Conversations that are of use at once in a lane, by its kind.
SLOTS: Final[Mapping[str, int]] = {"lot": 32, "station": 8, "line": 1, "inbound": 1}


class LaneWorker:
    """Works at lanes that are held.

    Args:
        connect: gives a database connection.
        preparer: makes visits of requests.
        visitor: makes them.
        pipeline: takes what became of requests whose rows the store refused.
        keeper: knows which of the meters were silent for whoever held the lane before.
    """

    def __init__(
        self,
        connect: Connect,
        preparer: Preparer,
        visitor: Visitor,
        pipeline: Pipeline,
        keeper: Keeper | None = None,
    ) -> None:
        self._connect = connect
        self._preparer = preparer
        self._visitor = visitor
        self._pipeline = pipeline
        self._keeper = keeper
        self._stopping = False
        self._runs: set[_Run] = set()

    def stop(self) -> None:
        """Begin no further visits: lanes end when what is under way is committed."""
        self._stopping = True
        for run in self._runs:
            run.stop()

    async def work(self, held: Held, *, urgency: int = 32_767) -> None:
        """Work at the lane until nothing at least so urgent is due, or it is lost.

        Raises UnavailableError while the database is away.
        """
        if self._stopping:
            return
        part = None if self._keeper is None else Part(self._keeper)
        run = _Run(self._connect, self._preparer, self._visitor, self._pipeline, part, held, urgency)
        self._runs.add(run)
        task = asyncio.create_task(run.run(), name=f"lane {held.lease.lane}")
        held.on_lost = task.cancel
        try:
            await asyncio.wait([task])
        finally:
            self._runs.discard(run)
            held.on_lost = lambda: None
            while not task.done():
                task.cancel()
                await asyncio.wait([task])
            if part is not None:
                await part.leave()
        if task.cancelled() and held.is_lost:
            return
        try:
            task.result()
        except LaneLost as lost:
            log.warning("lane %s is given up: %s", held.lease.lane, lost)
        except ExceptionGroup as several:
            raise several.exceptions[0] from several


class _Run:
    """One lane, from when it is taken to when it is given back."""

    def __init__(
        self,
        connect: Connect,
        preparer: Preparer,
        visitor: Visitor,
        pipeline: Pipeline,
        part: Part | None,
        held: Held,
        urgency: int,
    ) -> None:
        self._connect = connect
        self._preparer = preparer
        self._visitor = visitor
        self._pipeline = pipeline
        self._part = part
        self._held = held
        self._urgency = urgency
        self._lane = held.lease.lane
        self._order: Order[list[Waiting]] = Order()
        self._ready: deque[Visit] = deque()
        self._held_back: deque[Visit] = deque()  # programs whose turn came while others had their share
        self._known: set[int] = set()
        self._filling = asyncio.Lock()
        self._something = asyncio.Event()
        self._look = True  # whether something may be due that was not read yet
        self._came = False  # whether somebody told of it: readings, it may be
        self._looked_at = 0.0
        self._slots = SLOTS.get(self._lane.partition(":")[0], 1)
        self._share = max(1, self._slots // PROGRAM_TURNS)  # slots of programs, while readings wait
        self._running = self._programs = 0
        self._committing = 0
        self._ended = False
        self._failed: BaseException | None = None

    def stop(self) -> None:
        """Begin no further visit."""
        self._ended = True
        self._something.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            urgent = group.create_task(self._serve_urgent(group), name=f"bell of {self._lane}")
            slots = [
                group.create_task(self._slot(), name=f"slot of {self._lane}") for _ in range(self._slots)
            ]
            await asyncio.wait(slots)
            urgent.cancel()
        while self._committing:
            await self._pause(POLL_S)
        if self._failed is not None:
            raise self._failed

    async def _slot(self) -> None:
        while (visit := await self._next()) is not None:
            await self._visit(visit)

    async def _serve_urgent(self, group: asyncio.TaskGroup) -> None:
        """What somebody waits for is visited beside the slots: permits let it overtake."""
        while True:
            await self._held.bell.wait()
            self._held.bell.clear()
            found: list[list[Waiting]] = []
            try:
                self._look = self._came = True
                found = await self._read(WAITED_FOR, URGENT_AT_ONCE)
                for visit in await self._prepare(found) if found else ():
                    self._running += 1
                    group.create_task(self._visit(visit), name=f"visit in {self._lane}")
            except UnavailableError as error:
                log.warning("%s: nobody looks who waits: %s", self._lane, told(error))
                self._known -= {one.request_id for group in found for one in group}
            self._something.set()

    # ---- whose turn it is -------------------------------------------------------------------------------

    async def _next(self) -> Visit | None:
        """The next visit; None where there is nothing to be done any more."""
        while not self._ended:
            visit = self._pick()
            if visit is None:
                async with (
                    self._filling
                ):  # one looks for all; what he found may be enough for the next as well
                    visit = self._pick()
                    if visit is None and not self._ended:
                        self._something.clear()
                        await self._fill()
                        visit = self._pick()
                        if visit is None:
                            await self._wait_or_end()
            if visit is not None:
                self._running += 1
                self._programs += _is_program(visit)
                return visit
        return None

    def _pick(self) -> Visit | None:
        """The first that is prepared; a program no more than so many at once while readings wait, since its
        turn is long. None once nothing further is to be begun."""
        if self._ended:
            return None
        may = self._programs < self._share or not self._readings_wait()
        if self._held_back and may:
            return self._held_back.popleft()
        while self._ready:
            visit = self._ready.popleft()
            if may or not _is_program(visit):
                return visit
            self._held_back.append(visit)
        return None

    async def _fill(self) -> None:
        if (self._look and not self._order) or self._is_long_since():
            self._look = self._came = False
            self._looked_at = asyncio.get_running_loop().time()
            for group in sorted(await self._read(self._urgency, CLAIM), key=_place):
                urgency, due_by = min((one.urgency, one.due_by.timestamp()) for one in group)
                self._order.add(group, Rank(urgency, due_by), again=all(one.attempts for one in group))
        if self._order:
            self._ready.extend(await self._prepare(self._turns()))

    def _is_long_since(self) -> bool:
        """Whether programs wait here, which take long, and readings may have become due meanwhile."""
        if not self._order.programs:
            return False
        return self._came or asyncio.get_running_loop().time() >= self._looked_at + POLL_S

    def _turns(self) -> list[list[Waiting]]:
        """Whose turns are next: so few of programs that who comes meanwhile does not wait long for his."""
        some: list[list[Waiting]] = []
        programs = self._order.programs
        while self._order and len(some) < CHUNK and programs - self._order.programs < 2 * self._slots:
            some.append(self._order.next(programs=len(self._held_back) < 2 * self._slots))
        return some

    def _readings_wait(self) -> bool:
        """Whether readings wait for a turn here, or may: then programs give way sooner."""
        return self._came or self._order.readings > 0 or any(not _is_program(visit) for visit in self._ready)

    async def _prepare(self, groups: Sequence[list[Waiting]]) -> list[Visit]:
        visits = await self._preparer.prepare(groups)
        if self._part is not None:
            await self._part.adopt(visit.way.way for visit in visits if not isinstance(visit.way, Exception))
        return visits

    async def _wait_or_end(self) -> None:
        """Nothing is due. End where nothing is under way and nothing will be due soon."""
        if self._running or self._committing:
            self._look |= not await self._pause(POLL_S)
            return
        async with self._connect() as connection:
            due_in = await requests.due_in(connection, self._lane, urgency=self._urgency)
        if due_in is None or due_in.total_seconds() > LINGER_S:
            self._ended = not self._something.is_set()
        else:
            await self._pause(due_in.total_seconds())
            self._look = True

    async def _read(self, urgency: int, limit: int) -> list[list[Waiting]]:
        """What is due and not known here yet, by meter."""
        before = set(self._known)
        async with self._connect() as connection:
            found = await requests.waiting(connection, self._lane, limit=limit + len(before), urgency=urgency)
        self._look |= len(found) >= limit
        by_meter: dict[tuple[int, bool], list[Waiting]] = {}
        for one in found:
            # what was committed while we read is known no more, and yet was among what we read
            if one.request_id not in before and one.request_id not in self._known:
                # a reading that took a program along would cost the turns of many
                by_meter.setdefault((one.meter_id, one.urgency >= PROGRAMS), []).append(one)
                self._known.add(one.request_id)
        return list(by_meter.values())

    async def _pause(self, longest_s: float) -> bool:
        """Until something happens, or, then False, the time is over."""
        try:
            async with asyncio.timeout(longest_s):
                await self._something.wait()
        except TimeoutError:
            return False
        self._something.clear()
        return True

    # ---- visits -----------------------------------------------------------------------------------------

    async def _visit(self, visit: Visit) -> None:
        try:
            for future, over in await self._visitor.visit(
                visit, self._held.lease, crowded=self._readings_wait
            ):
                self._track(future, over)
        except PipelineClosed:
            self.stop()
        finally:
            self._running -= 1
            self._programs -= _is_program(visit)
            if not self._running or self._held_back:
                self._something.set()

    def _track(self, future: "asyncio.Future[Written]", over: list[Asked]) -> None:
        self._committing += 1
        future.add_done_callback(lambda done: self._committed(done, over))

    def _committed(self, done: "asyncio.Future[Written]", over: Iterable[Asked]) -> None:
        self._committing -= 1
        error = None if done.cancelled() else done.exception()
        if isinstance(error, UnknownMeter | ValueError):
            self._refused(error, list(over))
        else:
            self._known.difference_update(one.waiting.request_id for one in over)
        if isinstance(error, LaneLost):
            self._failed = error
            self._ended = True
        elif error is not None and not isinstance(error, UnknownMeter | ValueError):
            self._ended = True
        if self._ended or not self._committing:
            self._something.set()

    def _refused(self, error: BaseException, over: list[Asked]) -> None:
        """The store would not have the rows: the requests failed, without them."""
        settled = [
            Settled(one.waiting.request_id, RequestState.FAILED, reason=f"not stored: {told(error)}")
            for one in over
        ]
        settlement = Settlement(frozenset([self._held.lease]), tuple(settled))
        self._committing += 1

        async def submit() -> None:
            try:
                future = await self._pipeline.submit(registers_only((), source="lane"), settlement)
            except PipelineClosed:
                self.stop()
            else:
                self._track(future, over)
            finally:
                self._committing -= 1

        task = asyncio.create_task(submit(), name=f"refused in {self._lane}")
        task.add_done_callback(lambda _: self._something.set())


def _is_program(visit: Visit) -> bool:
    return visit.asked[0].waiting.urgency >= PROGRAMS


def _place(group: list[Waiting]) -> int:
    """Where it stands among those that are due alike: neighbours, which have neighbouring numbers and share a
    cell, far from one another, so that they do not wait for its permits in all slots at once."""
    return group[0].meter_id * 2_654_435_761 & 0xFFFF_FFFF  # Knuth's multiplicative hash
