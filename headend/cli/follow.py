"""A job followed on the terminal until it ends: a bar with stages of failures, results as they come, Ctrl-C.

Where no process reads meters, the job's lanes are worked at here, by the same code.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC
from enum import Enum, auto
from functools import partial
from typing import Final

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from headend.cli.acting import acting_on_job
from headend.cli.terminal import err
from headend.clock import utc_now
from headend.foundation import Base
from headend.house import open_house
from headend.jobs.queue import Queue
from headend.moment import reads
from headend.moment.feed import Feeds
from headend.moment.progress import Progress
from headend.moment.watch import CHANNEL, Watch
from headend.processes.presence import this_process
from headend.processes.tasks import cancelled
from headend.store import workers
from headend.store.notices import listening
from headend.store.pool import Pool
from headend.store.requests import WAITED_FOR
from headend.store.results import Result
from headend.store.sql import Connection
from headend.store.workers import Kind

#: Invocation counters that one command takes per key: it asks for little.
_COUNTERS: Final = 64
#: Lanes that are worked at here at once, and how often it is looked which have something due, in seconds.
_LANES: Final = 64
_LOOK_S: Final = 0.3


class Ending(Enum):
    """How following a job ended."""

    ENDED = auto()
    LEFT = auto()  # it goes on without us


OnResult = Callable[[Result], None]
#: Names of the lanes in which something is due.
Due = Callable[[Connection], Awaitable[Sequence[str]]]


async def is_served(pool: Pool) -> bool:
    """Whether a process is there that reads meters."""
    async with pool.connection() as connection:
        return await workers.read_meters(connection)


@asynccontextmanager
async def worked_at(opened: Base, due: Due, *, urgency: int = WAITED_FOR) -> AsyncIterator[None]:
    """Work here, for as long as the context lasts, at the lanes that are ``due``, as far as what waits in
    them is at least so urgent. Raises SealError where keys are stored and no master key opens them."""
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(open_house(opened, counter_block=_COUNTERS))
        queue = await stack.enter_async_context(house.at_work(this_process(Kind.WORKER).worker))
        task = asyncio.create_task(_work(queue, opened.pool, due, urgency), name="lanes worked at here")
        stack.push_async_callback(cancelled, task)
        yield


async def _work(queue: Queue, pool: Pool, due: Due, urgency: int) -> None:
    room = asyncio.Semaphore(_LANES)
    busy: dict[str, asyncio.Task[None]] = {}

    async def lane(name: str) -> None:
        async with room:
            await queue.lane(name, urgency=urgency)

    try:
        while True:
            async with pool.connection() as connection:
                for name in await due(connection):
                    if name not in busy or busy[name].done():
                        busy[name] = asyncio.create_task(lane(name), name=f"lane {name}")
            await asyncio.sleep(_LOOK_S)
    finally:
        for task in busy.values():
            task.cancel()
        if busy:
            await asyncio.wait(busy.values())


async def follow(
    opened: Base, job_id: int, on_result: OnResult, *, quiet: bool = False, may_leave: bool = True
) -> tuple[Ending, Progress | None]:
    """Show the job until it ends, and what it came to. Ctrl-C asks whether it shall be cancelled or, if
    ``may_leave``, go on without us; without a terminal to ask at, the one that harms less is done. Raises
    CommandError where whoever acts may not cancel it."""
    pool = opened.pool
    watch = Watch(pool.connection, partial(listening, pool, [CHANNEL]))
    listening_ = asyncio.create_task(watch.run(), name="watch of jobs")
    view = _View(on_result, quiet=quiet)
    try:
        with _interrupts() as asked, view:
            showing = asyncio.create_task(view.show(Feeds(pool.connection, watch, utc_now), job_id))
            while not showing.done():
                waiting = asyncio.create_task(_until(asked))
                await asyncio.wait([showing, waiting], return_when=asyncio.FIRST_COMPLETED)
                await cancelled(waiting)
                if not asked.is_set() or showing.done():
                    continue
                asked.clear()
                with view.hidden():
                    answer = await _ask(job_id, may_leave=may_leave)
                if answer == "l":
                    await cancelled(showing)
                    return Ending.LEFT, view.last
                if answer == "c":
                    async with pool.connection() as connection:
                        who = await acting_on_job(connection, opened, job_id)
                        await reads.cancel(connection, job_id, actor=who.actor)
            showing.result()
    finally:
        await cancelled(listening_)
    return Ending.ENDED, view.last


def bar(*, quiet: bool) -> Bar:
    """A bar on standard error that goes when it is over; none where that is no terminal. Its tasks have a
    field ``told``."""
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=quiet or not err.is_terminal,
    )


class _View:
    """The bar and what stands above it."""

    def __init__(self, on_result: OnResult, *, quiet: bool) -> None:
        self.last: Progress | None = None
        self._on_result = on_result
        self._bar = bar(quiet=quiet)
        self._task: TaskID | None = None

    def __enter__(self) -> "_View":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Without the bar: somebody is asked something."""
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()

    async def show(self, feeds: Feeds, job_id: int) -> None:
        """Everything of the job, until it ends."""
        async with contextlib.aclosing(feeds.follow(job_id)) as news:
            async for one in news:
                if isinstance(one, Result):
                    self._on_result(one)
                else:
                    self._progress(one)

    def _progress(self, found: Progress) -> None:
        self.last = found
        counts = found.tally.counts
        if self._task is None:
            self._task = self._bar.add_task(f"job {found.job.job_id}", total=counts.total, told="")
        self._bar.update(self._task, completed=counts.total - counts.open, told=stages(found))


def stages(found: Progress) -> str:
    """What fails, and when it will be done, in a few words."""
    told = [
        f"{stage} {one.ended + one.open}" + (f" ({one.open} again)" if one.open else "")
        for stage, one in found.tally.failures.items()
    ]
    if found.eta is not None:
        told.append(f"until {found.eta.astimezone(UTC):%H:%M:%SZ}")
    return "  ".join(told)


@contextlib.contextmanager
def _interrupts() -> Iterator[asyncio.Event]:
    """An event that Ctrl-C sets; the second one, while we ask, ends the command."""
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    asked = asyncio.Event()

    def interrupt() -> None:
        if asked.is_set() and main is not None:
            main.cancel()
        asked.set()

    before = signal.getsignal(signal.SIGINT)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield asked
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)


async def _until(event: asyncio.Event) -> None:
    await event.wait()


async def _ask(job_id: int, *, may_leave: bool) -> str:
    """``c``, ``l`` or ``w``."""
    if not sys.stdin.isatty():
        return "l" if may_leave else "c"
    choices = "cancel it (c), leave it running (l)" if may_leave else "cancel it (c)"
    err.print(f"job {job_id}: {choices} or wait on (w)? ", end="", markup=False)
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()
    descriptor = sys.stdin.fileno()

    def read() -> None:
        if not line.done():
            line.set_result(sys.stdin.readline())

    loop.add_reader(descriptor, read)
    try:
        answer = (await line).strip().lower()[:1]
    finally:
        loop.remove_reader(descriptor)
    return answer if answer == "c" or (answer == "l" and may_leave) else "w"
