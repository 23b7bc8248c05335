"""The bounded way from drivers and listeners to the store: gather small batches, write, acknowledge.

::

    submit(batch) ──> queue (bounded) ──> merged by rows and age ──> write (one transaction) ──> future done
         │  │               │                                             │
         │  │               └ pushes back while the database is away      └ a bad batch fails alone
         │  └ urgent: a queue of its own, written at once and beside the other
         └ waits for room

The future that `Pipeline.submit` gives is done when the batch is committed: that is the moment to
acknowledge to where it came from. While the database is away nothing is lost and nothing is taken on: writes
are repeated after random waits, and submitters wait for room.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from headend.store.errors import DatabaseError, RefusedError, is_transient
from headend.store.lanes import LaneLost
from headend.store.settlement import NOTHING, Settlement, together
from headend.store.writer import UnknownMeter, Written
from schemas.reading import ReadingBatch, concatenate

log = logging.getLogger(__name__)

#: Longest wait before a write is tried again while the database is away; each is drawn from [0, bound].
LONGEST_RETRY_S: Final = 5.0
#: Batches that came while the first lingered from which on many are coming: then it pays to wait for more. A
#: meter's day costs 85 us and PostgreSQL 300 in transactions of 70, 30 and 190 in those of 1,000 (measured).
BUSY: Final = 16

Write = Callable[[ReadingBatch, Settlement], Awaitable[Written]]


class PipelineClosed(Exception):
    """The pipeline ended before this batch was committed: it is not stored, ask its source again."""


@dataclass(slots=True)
class Totals:
    """What has passed since the start. ``refused`` counts batches that the store would not have."""

    batches: int = 0
    refused: int = 0
    retries: int = 0
    written: Written = field(default_factory=lambda: Written(None))

    def add(self, written: Written, batches: int) -> None:
        """Count a committed write of ``batches`` batches."""
        self.batches += batches
        self.written = self.written.plus(written)


@dataclass(slots=True, eq=False)
class _Item:
    batch: ReadingBatch
    settlement: Settlement
    done: "asyncio.Future[Written]"

    @property
    def weight(self) -> int:
        return max(1, len(self.batch) + len(self.batch.registers) + len(self.batch.events))


@dataclass(slots=True, eq=False)
class _Line:
    """A queue that is written in its order. ``held`` came, and did not fit into the last transaction."""

    queue: "asyncio.Queue[_Item]"
    linger_s: float = 0.0
    busy_s: float = 0.0
    held: _Item | None = None


class Pipeline:
    """``async with Pipeline(write) as pipeline:`` takes batches inside and drains behind.

    Args:
        write: stores one batch in one transaction (`headend.store.writer.write` with a pool).
        merge_rows: rows that one transaction holds at most, but for a single batch that is larger. More
            would save little, and urgent batches wait for what is being written under their lane.
        room: batches that wait at most; `submit` waits beyond that.
        linger_s: how long the first of a merge waits for company.
        busy_s: how long it waits where at least `BUSY` have come in that time.
        drain_s: how long closing waits for what is queued.
    """

    def __init__(
        self,
        write: Write,
        *,
        merge_rows: int = 32_768,
        room: int = 2_000,
        linger_s: float = 0.05,
        busy_s: float = 0.4,
        drain_s: float = 20.0,
    ) -> None:
        self._write = write
        self._merge_rows = merge_rows
        self._drain_s = drain_s
        self._usual = _Line(asyncio.Queue(room), linger_s, max(busy_s, linger_s))
        self._urgent = _Line(asyncio.Queue(room))
        self._lines = (self._usual, self._urgent)
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self.totals: Final = Totals()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._work(), name="ingest")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write what is queued, for ``drain_s`` at most; what is left then fails with PipelineClosed."""
        self._closed = True
        task = self._task
        if task is None:
            return
        try:
            async with asyncio.timeout(self._drain_s):
                for line in self._lines:
                    await line.queue.join()
        except TimeoutError:
            log.error(  # noqa: TRY400 - a deadline, no traceback to learn from
                "%d batches are not written: the database did not take them in time", self.waiting
            )
        finally:
            task.cancel()
            await asyncio.wait([task])
            self._fail_rest()

    @property
    def task(self) -> "asyncio.Task[None]":
        """The writing task, to be watched: it ends only by cancellation. Raises RuntimeError before start."""
        if self._task is None:
            raise RuntimeError("the pipeline is not started")
        return self._task

    @property
    def waiting(self) -> int:
        """Batches that wait to be stored."""
        return sum(line.queue.qsize() for line in self._lines)

    async def submit(
        self, batch: ReadingBatch, settlement: Settlement = NOTHING, *, urgent: bool = False
    ) -> "asyncio.Future[Written]":
        """Hand a batch over, waiting for room; ``settlement`` is committed with it, or neither is. The future
        is done when it is committed; what it holds counts the whole transaction, which may have carried other
        batches too. What is ``urgent``, since somebody waits for it, overtakes what is not.

        The future fails with UnknownMeter or ValueError (RefusedError: by the database itself) where the
        store refuses the batch, with LaneLost where somebody else has taken the lane under which it was read,
        and with PipelineClosed. Raises PipelineClosed at once after the end.
        """
        if self._closed:
            raise PipelineClosed("the pipeline is closed")
        item = _Item(batch, settlement, asyncio.get_running_loop().create_future())
        # somebody who does not wait for the outcome must not get "exception was never retrieved"
        item.done.add_done_callback(_seen)
        await (self._urgent if urgent else self._usual).queue.put(item)
        if self.task.done():  # it closed while we waited for room
            self._fail_rest()
        return item.done

    async def _work(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for line in self._lines:
                    group.create_task(self._run(line))
        except ExceptionGroup as several:
            raise several.exceptions[0] from several

    async def _run(self, line: _Line) -> None:
        while True:
            items = await self._gather(line)
            try:
                await self._store(items)
            finally:
                for item in items:
                    if not item.done.done():
                        item.done.set_exception(PipelineClosed("the service stopped before this was written"))
                    line.queue.task_done()

    async def _gather(self, line: _Line) -> list[_Item]:
        """The next items, in order, as many as fit into one transaction."""
        queue = line.queue
        first, line.held = line.held or await queue.get(), None
        items, weight = [first], first.weight
        loop = asyncio.get_running_loop()
        until = loop.time() + line.linger_s
        longest = loop.time() + line.busy_s
        while weight < self._merge_rows:
            if queue.empty():
                now = loop.time()
                if self._closed or now >= until:
                    break
                # Not woken by each that comes: of many, that would be a good part of what they cost.
                await asyncio.sleep(min(until - now, line.linger_s))
                if len(items) + queue.qsize() >= BUSY:
                    until = longest
                continue
            item = queue.get_nowait()
            if weight + item.weight > self._merge_rows:
                line.held = item
                break
            items.append(item)
            weight += item.weight
        return items

    async def _store(self, items: list[_Item]) -> None:
        sources = {item.batch.source for item in items}
        source = (
            next(iter(sources))
            if len(sources) == 1
            else f"{len(items)} batches, {items[0].batch.source} first"
        )
        try:
            merged = (
                items[0].batch if len(items) == 1 else concatenate([i.batch for i in items], source=source)
            )
            written = await self._persist(merged, together(item.settlement for item in items))
        except LaneLost as error:
            log.warning("what was read is not stored: %s", error)
            rest = []
            for item in items:
                if any(lease.lane in error.lanes for lease in item.settlement.leases):
                    if not item.done.done():
                        item.done.set_exception(error)
                else:
                    rest.append(item)
            if rest:
                await self._store(rest)
            return
        except (UnknownMeter, ValueError) as error:
            if len(items) == 1:
                # what only the database found is a defect of ours: drivers and listeners let nothing through
                defect = isinstance(error, RefusedError)
                level = logging.ERROR if defect else logging.WARNING
                log.log(level, "a batch of %s is refused: %s", items[0].batch.source, error, exc_info=defect)
                self.totals.refused += 1
                if not items[0].done.done():
                    items[0].done.set_exception(error)
                return
            # one of them is bad: each by itself, so that it harms nobody else
            for item in items:
                await self._store([item])
            return
        self.totals.add(written, len(items))
        for item in items:
            if not item.done.done():
                item.done.set_result(written)

    async def _persist(self, batch: ReadingBatch, settlement: Settlement) -> Written:
        """Write, again and again while the database is away. Raises RefusedError for its other errors."""
        bound = 0.1
        while True:
            try:
                return await self._write(batch, settlement)
            except DatabaseError as error:
                told = str(error).split("\n", 1)[0]
                if not is_transient(error):
                    raise RefusedError(f"{type(error).__name__}: {told}") from error
                self.totals.retries += 1
                wait = random.uniform(0, bound)  # noqa: S311 - jitter, not a secret
                log.warning("the database is away, again in %.1f s: %s", wait, told)
                await asyncio.sleep(wait)
                bound = min(2 * bound, LONGEST_RETRY_S)

    def _fail_rest(self) -> None:
        for line in self._lines:
            items = [] if line.held is None else [line.held]
            line.held = None
            while not line.queue.empty():
                items.append(line.queue.get_nowait())
            for item in items:
                line.queue.task_done()
                if not item.done.done():
                    item.done.set_exception(PipelineClosed("the service stopped before this was written"))


def _seen(future: "asyncio.Future[Written]") -> None:
    if not future.cancelled():
        future.exception()
