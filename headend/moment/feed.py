"""Jobs followed as they go on.

::

    headend_jobs ─> Watch ─> one look at the job ─> news ─> every client

Results are told of jobs with at most `SMALL` requests; for larger ones there are pages.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Final

from headend.moment.following import Feed, Following, TooMany
from headend.moment.progress import Progress, progress
from headend.moment.watch import Connect, Waiter, Watch, look
from headend.store.results import Result, page, tally

__all__ = ["SMALL", "Feeds", "TooMany"]

#: Results are told of jobs with at most so many requests.
SMALL: Final = 500


class Feeds(Following[Progress, Result]):
    """All jobs that somebody follows in this process."""

    def __init__(self, connect: Connect, watch: Watch, clock: Callable[[], datetime]) -> None:
        super().__init__()
        self._connect = connect
        self._watch = watch
        self._clock = clock

    def _waiting(self, number: int) -> AbstractContextManager[Waiter]:
        return self._watch.of(number)

    async def _look(self, number: int, feed: Feed[Progress, Result]) -> None:
        now = self._clock()
        fresh: list[Result] = []
        async with self._connect() as connection:
            job = await look(connection, number)
            counted = await tally(connection, number, now=now)
            if counted.counts.total <= SMALL:
                fresh = await page(connection, number, limit=SMALL, only_ended=True, known=feed.known)
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
