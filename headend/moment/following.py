"""Something followed as it goes on: however many follow one, it is looked at once, and not too often.

::

    Waiter ─> one look ─> news ─> every client
               at most every REST_S, and for a twentieth of the time

Everybody begins with it as it is and all results that there are; after that, what is new.
"""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from typing import Final, Generic, TypeVar

from headend.moment.watch import Waiter
from headend.store.errors import UnavailableError

log = logging.getLogger(__name__)

#: Followers of one sort in one process at most.
MOST: Final = 1_000
#: Seconds between two looks at one of them, at least; and a look that takes long is followed by a rest of so
#: many times as long.
REST_S: Final = 0.25
_REST_FACTOR: Final = 20

P = TypeVar("P")
R = TypeVar("R")


class TooMany(Exception):
    """As many follow in this process as may."""


class Feed(Generic[P, R]):
    """One that is followed: what is known of it, and who is told. ``number`` grows with ``progress``."""

    def __init__(self) -> None:
        self.clients = 0
        self.number = 0
        self.progress: P | None = None
        self.results: list[R] = []
        self.known: set[int] = set()
        self.is_over = False
        self.changed = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def tell(self) -> None:
        """Whoever follows looks what is new."""
        told, self.changed = self.changed, asyncio.Event()
        told.set()


class Following(ABC, Generic[P, R]):
    """All of one sort that somebody follows in this process, by number. ``noun`` is for the log."""

    noun = "job"

    def __init__(self) -> None:
        self._feeds: dict[int, Feed[P, R]] = {}
        self._is_closed = False

    @abstractmethod
    def _waiting(self, number: int) -> AbstractContextManager[Waiter]:
        """Somebody who is woken when it changes."""

    @abstractmethod
    async def _look(self, number: int, feed: Feed[P, R]) -> None:
        """Put into the feed what is new. Raises UnavailableError, which costs a look."""

    @property
    def clients(self) -> int:
        """Who follows now."""
        return sum(feed.clients for feed in self._feeds.values())

    def close(self) -> None:
        """End whatever is followed: the service stops."""
        self._is_closed = True
        for feed in self._feeds.values():
            feed.tell()

    def check_room(self) -> None:
        """Raises TooMany."""
        if self.clients >= MOST:
            raise TooMany(f"{MOST} follow {self.noun}s already")

    async def follow(self, number: int) -> AsyncGenerator[P | R, None]:
        """It as it is, then every change; results each once. Ends with it, and when the service stops. To be
        closed by whoever stops earlier."""
        feed = self._enter(number)
        try:
            version = place = 0
            while not self._is_closed:
                changed = feed.changed
                fresh, place = feed.results[place:], len(feed.results)
                for one in fresh:
                    yield one
                if feed.number != version and feed.progress is not None:
                    version = feed.number
                    yield feed.progress
                if changed.is_set():
                    continue
                if feed.is_over:
                    if feed.task is not None and feed.task.done():
                        feed.task.result()  # a defect of ours is told to whoever follows
                    return
                await changed.wait()
        finally:
            self._leave(number, feed)

    def _enter(self, number: int) -> Feed[P, R]:
        feed = self._feeds.get(number)
        if feed is None:
            feed = self._feeds[number] = Feed()
            feed.task = asyncio.create_task(self._run(number, feed), name=f"feed of {self.noun} {number}")
        feed.clients += 1
        return feed

    def _leave(self, number: int, feed: Feed[P, R]) -> None:
        feed.clients -= 1
        if feed.clients == 0:
            del self._feeds[number]
            if feed.task is not None:
                feed.task.cancel()

    async def _run(self, number: int, feed: Feed[P, R]) -> None:
        try:
            with self._waiting(number) as waiter:
                while feed.clients > 0:  # a pool may lose a cancellation (before Python 3.12)
                    began = time.monotonic()
                    try:
                        await self._look(number, feed)
                    except UnavailableError as error:
                        told = str(error).split("\n", 1)[0]
                        log.warning("%s %d cannot be looked at: %s", self.noun, number, told)
                    if feed.is_over:
                        return
                    feed.tell()
                    await asyncio.sleep(max(REST_S, _REST_FACTOR * (time.monotonic() - began)))
                    await waiter.wait()
        finally:
            feed.is_over = True
            feed.tell()
