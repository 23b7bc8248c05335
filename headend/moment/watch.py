"""Who waits for jobs is told when they change: one listening connection in a process, for all who wait.

What is told while nobody listens is lost. So whoever waits looks first, is woken whenever the connection is
made anew, and looks again every few seconds in any case.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Final

from headend.store import jobs
from headend.store.errors import UnavailableError
from headend.store.jobs import Job
from headend.store.notices import Notice
from headend.store.results import Result, page
from headend.store.sql import Connection

log = logging.getLogger(__name__)

#: The channel: its payload is the number of a job.
CHANNEL: Final = "headend_jobs"
#: Who waits looks again after so many seconds at the latest; each wait is drawn from the upper half.
LOOK_S: Final = 4.0
#: Longest wait before the connection is made anew, drawn from [0, bound]; the first bound is the shortest.
_SHORTEST_RETRY_S: Final = 0.2
_LONGEST_RETRY_S: Final = 10.0

Connect = Callable[[], AbstractAsyncContextManager[Connection]]
#: Notices of a channel as long as the context lasts (`headend.store.notices.listening`).
Listen = Callable[[], AbstractAsyncContextManager[AsyncIterator[Notice]]]


class Waiter:
    """One who waits for a job to change. What came between two waits ends the next one at once.

    ``look_s``: after so many seconds at the latest it is time to look in any case.
    """

    def __init__(self, look_s: float = LOOK_S) -> None:
        self._look_s = look_s
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """It has changed."""
        self._changed.set()

    async def wait(self, longest_s: float | None = None) -> None:
        """Until it has changed, or it is time to look in any case."""
        try:
            drawn = self._look_s * random.uniform(0.5, 1)  # noqa: S311 - jitter, not a secret
            async with asyncio.timeout(drawn if longest_s is None else min(longest_s, drawn)):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()


class Watch:
    """Listens as long as `run` goes on; without it, whoever waits still looks by himself."""

    def __init__(self, connect: Connect, listen: Listen) -> None:
        self._connect = connect
        self._listen = listen
        self._waiters: dict[int, set[Waiter]] = {}

    async def run(self) -> None:
        """Listen until cancelled; a lost connection is made anew."""
        bound = _SHORTEST_RETRY_S
        while True:
            try:
                async with self._listen() as notices:
                    bound = _SHORTEST_RETRY_S
                    self.wake_all()
                    async for notice in notices:
                        self._wake(notice.payload)
            except UnavailableError as error:
                told = str(error).split("\n", 1)[0]
            else:
                told = "the connection ended"
            wait = random.uniform(0, bound)  # noqa: S311 - jitter, not a secret
            log.warning("nobody tells of jobs for now, listening again in %.1f s: %s", wait, told)
            await asyncio.sleep(wait)
            bound = min(2 * bound, _LONGEST_RETRY_S)

    @contextmanager
    def of(self, job_id: int) -> Iterator[Waiter]:
        """Somebody who waits for this job. Whoever waits looks after he has come and before he waits."""
        waiter = Waiter()
        self._waiters.setdefault(job_id, set()).add(waiter)
        try:
            yield waiter
        finally:
            waiting = self._waiters[job_id]
            waiting.discard(waiter)
            if not waiting:
                del self._waiters[job_id]

    async def until_end(
        self, job_id: int, waiter: Waiter, longest_s: float, *, most: int
    ) -> tuple[Job | None, list[Result]]:
        """The job when it has ended, or as it is after ``longest_s`` (None where there is none), with what
        came of its requests, ``most`` at most. ``waiter`` has waited since before the job could change.

        Raises UnavailableError.
        """
        ends = time.monotonic() + longest_s
        while True:
            await waiter.wait(max(0.0, ends - time.monotonic()))
            async with self._connect() as connection:
                job = await look(connection, job_id)
                if job is None:
                    return None, []
                if job.ended_at is not None or time.monotonic() >= ends:
                    return job, await page(connection, job_id, limit=most)

    def wake_all(self) -> None:
        """Everybody looks."""
        for waiting in self._waiters.values():
            for waiter in waiting:
                waiter.wake()

    def _wake(self, payload: str) -> None:
        for waiter in self._waiters.get(int(payload), ()):
            waiter.wake()


async def look(connection: Connection, job_id: int) -> Job | None:
    """The job as it is now. One whose last requests two lanes closed at once, neither seeing the other's, is
    ended here."""
    job = await jobs.find(connection, job_id)
    if job is not None and job.ended_at is None and await jobs.end(connection, [job_id]):
        job = await jobs.find(connection, job_id)
    return job
