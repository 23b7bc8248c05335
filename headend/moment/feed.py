"""Jobs followed as they go on: however many follow one job, it is looked at once, and not too often.

::

    headend_jobs ─> Watch ─> one look at the job ─> news ─> every client
                              at most every REST_S, and for a twentieth of the time

Everybody begins with the job as it is and all results that there are; after that, what is new. Results are
told of jobs with at most `SMALL` requests; for larger ones there are pages.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from typing import Final

from headend.moment.progress import Progress, progress
from headend.moment.watch import Connect, Watch, look
from headend.store.errors import UnavailableError
from headend.store.results import Result, page, tally

log = logging.getLogger(__name__)

#: Results are told of jobs with at most so many requests.
SMALL: Final = 500
#: Followers in one process at most.
MOST: Final = 1_000
#: Seconds between two looks at one job, at least; and a look that takes long is followed by a rest of so many
#: times as long.
REST_S: Final = 0.25
_REST_FACTOR: Final = 20


class TooMany(Exception):
    """As many follow jobs in this process as may."""


class _Feed:
    """One job that is followed: what is known of it, and who is told."""

    def __init__(self) -> None:
        self.clients = 0
        self.number = 0
        self.progress: Progress | None = None
        self.results: list[Result] = []
        self.known: set[int] = set()
        self.is_over = False
        self.changed = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def tell(self) -> None:
        told, self.changed = self.changed, asyncio.Event()
        told.set()


class Feeds:
    """All jobs that somebody follows in this process."""

    def __init__(self, connect: Connect, watch: Watch, clock: Callable[[], datetime]) -> None:
        self._connect = connect
        self._watch = watch
        self._clock = clock
        self._feeds: dict[int, _Feed] = {}
        self._is_closed = False

    @property
    def clients(self) -> int:
        """Who follows a job now."""
        return sum(feed.clients for feed in self._feeds.values())

    def close(self) -> None:
        """End whatever is followed: the service stops."""
        self._is_closed = True
        for feed in self._feeds.values():
            feed.tell()

    def check_room(self) -> None:
        """Raises TooMany."""
        if self.clients >= MOST:
            raise TooMany(f"{MOST} follow jobs already")

    async def follow(self, job_id: int) -> AsyncGenerator[Progress | Result, None]:
        """The job as it is, then every change; results each once. Ends with the job, and when the service
        stops. To be closed by whoever stops earlier."""
        feed = self._enter(job_id)
        try:
            number = place = 0
            while not self._is_closed:
                changed = feed.changed
                fresh, place = feed.results[place:], len(feed.results)
                for one in fresh:
                    yield one
                if feed.number != number and feed.progress is not None:
                    number = feed.number
                    yield feed.progress
                if changed.is_set():
                    continue
                if feed.is_over:
                    if feed.task is not None and feed.task.done():
                        feed.task.result()  # a defect of ours is told to whoever follows
                    return
                await changed.wait()
        finally:
            self._leave(job_id, feed)

    def _enter(self, job_id: int) -> _Feed:
        feed = self._feeds.get(job_id)
        if feed is None:
            feed = self._feeds[job_id] = _Feed()
            feed.task = asyncio.create_task(self._run(job_id, feed), name=f"feed of job {job_id}")
        feed.clients += 1
        return feed

    def _leave(self, job_id: int, feed: _Feed) -> None:
        feed.clients -= 1
        if feed.clients == 0:
            del self._feeds[job_id]
            if feed.task is not None:
                feed.task.cancel()

    async def _run(self, job_id: int, feed: _Feed) -> None:
        try:
            with self._watch.of(job_id) as waiter:
                while feed.clients > 0:  # a pool may lose a cancellation (before Python 3.12)
                    began = time.monotonic()
                    await self._look(job_id, feed)
                    if feed.is_over:
                        return
                    feed.tell()
                    await asyncio.sleep(max(REST_S, _REST_FACTOR * (time.monotonic() - began)))
                    await waiter.wait()
        finally:
            feed.is_over = True
            feed.tell()

    async def _look(self, job_id: int, feed: _Feed) -> None:
        now = self._clock()
        fresh: list[Result] = []
        try:
            async with self._connect() as connection:
                job = await look(connection, job_id)
                counted = await tally(connection, job_id, now=now)
                if counted.counts.total <= SMALL:
                    fresh = await page(connection, job_id, limit=SMALL, only_ended=True, known=feed.known)
        except UnavailableError as error:
            log.warning("job %d cannot be looked at: %s", job_id, str(error).split("\n", 1)[0])
            return
        if job is None:
            feed.is_over = True
            return
        feed.results += fresh
        feed.known.update(one.request_id for one in fresh)
        found = progress(job, counted, now=now)
        if feed.progress is None or (found.job, found.tally) != (feed.progress.job, feed.progress.tally):
            feed.progress = found
            feed.number += 1
        feed.is_over = job.ended_at is not None
