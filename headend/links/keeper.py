"""Keeps open breakers in the database, behind the conversations: people see them there, and a new start finds
them again."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from headend.drivers.contract import Way
from headend.links.breaker import Breakers
from headend.links.links import subjects_of
from headend.links.opened import Kind, Opened, Subject
from headend.store import link_states
from headend.store.errors import UnavailableError
from headend.store.link_states import Change, LinkState
from headend.store.sql import Connection
from schemas.failure import Stage

log = logging.getLogger(__name__)

#: How far the database is behind, in seconds.
PERIOD_S: Final = 2.0
#: Breakers that a new start takes over.
MOST: Final = 200_000

Connect = Callable[[], AbstractAsyncContextManager[Connection]]


class Keeper:
    """``async with Keeper(...)`` stores what opens and closes inside, every ``period_s`` seconds and at its
    end.

    Who keeps alone takes over at its start what is stored. Of several that share the work, ``shared``, each
    takes over the breakers of what it holds, and stores only those that it met itself: `adopt` when it begins
    to hold meters and stations, `leave` when it ends. What somebody else told later is never overwritten, so
    that a holder that was paused cannot bring back what it knew before.
    """

    def __init__(
        self, connect: Connect, breakers: Breakers, *, shared: bool = False, period_s: float = PERIOD_S
    ) -> None:
        self._connect = connect
        self._breakers = breakers
        self._shared = shared
        self._period_s = period_s
        self._seen = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        async with self._connect() as connection:
            self._seen = await link_states.last_reset(connection)
            if not self._shared:
                for state in await link_states.stored(connection, limit=MOST):
                    self._restore(state)
        self._task = asyncio.create_task(self._keep(), name="breakers")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        try:
            await self.flush()
        except UnavailableError as away:
            # a new start then meets some silent meters once more
            log.warning("open breakers are not stored: %s", str(away).split("\n", 1)[0])

    @property
    def task(self) -> "asyncio.Task[None]":
        """The keeping task, to be watched: it ends only by cancellation. Raises RuntimeError before start."""
        if self._task is None:
            raise RuntimeError("the keeper is not started")
        return self._task

    async def adopt(self, subjects: Iterable[Subject]) -> None:
        """Take over the breakers of these, as whoever held them last told: one query, and none where the work
        is not shared. Raises UnavailableError.

        What of them has changed here since then, and is not stored yet, stays as it is here.
        """
        if not self._shared:
            return
        wanted = list(subjects)
        async with self._connect() as connection:
            told = await link_states.of(connection, [(one.kind.value, one.id) for one in wanted])
        stored = {(change.kind, change.id): change for change in told}
        for subject in wanted:
            change, ours = stored.get((subject.kind.value, subject.id)), self._breakers.changed.get(subject)
            if ours is not None and (change is None or change.at <= ours):
                continue
            if change is None or change.state is None:
                self._breakers.forget(subject)
            else:
                self._restore(change.state)

    def leave(self, subjects: Iterable[Subject]) -> None:
        """Know nothing of these any more: somebody else holds them, or will.

        Who still holds them flushes before. What is not stored by then is not stored at all.
        """
        if self._shared:
            for subject in subjects:
                self._breakers.forget(subject)

    async def flush(self) -> None:
        """Close what people asked to close, and store what changed. Raises UnavailableError; nothing is lost
        then."""
        async with self._connect() as connection:
            for number, kind, id_ in await link_states.resets(connection, self._seen):
                if self._breakers.reset(Subject(Kind(kind), id_)):
                    log.info("%s %s: its breaker is closed, as asked", kind, id_)
                self._seen = number
            changed = dict(self._breakers.changed)
            if not changed:
                return
            await link_states.keep(connection, [self._change(changed[one], one) for one in sorted(changed)])
        for subject, at in changed.items():
            if self._breakers.changed.get(subject) == at:  # else it changed again meanwhile
                del self._breakers.changed[subject]

    def _restore(self, state: LinkState) -> None:
        opened = Opened(state.since, state.until, state.failures, Stage(state.stage), state.reason)
        self._breakers.restore(Subject(Kind(state.kind), state.id), opened, state.probes)

    def _change(self, at: datetime, subject: Subject) -> Change:
        opened = self._breakers.opened(subject)
        state = None if opened is None else _state(subject, opened, self._breakers.probes(subject))
        return Change(at, subject.kind.value, subject.id, state)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            try:
                await self.flush()
            except UnavailableError as error:
                log.warning("open breakers wait to be stored: %s", str(error).split("\n", 1)[0])


class Part:
    """The breakers of what one lane holds, where several share the work: adopted as the lane comes to them,
    left when it ends."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._subjects: set[Subject] = set()

    async def adopt(self, ways: Iterable[Way]) -> None:
        """Take over what stands on these ways and is not taken over yet. Raises UnavailableError."""
        met = {subject for way in ways for subject in subjects_of(way) if subject is not None}
        if new := met - self._subjects:
            await self._keeper.adopt(sorted(new))
            self._subjects |= new

    async def leave(self) -> None:
        """Store what is not stored yet, and know nothing of it any more. Where the database is away, or
        somebody who has the lane now told later, it is not stored."""
        try:
            await self._keeper.flush()
        except UnavailableError as away:
            log.warning("breakers of a lane are not stored: %s", str(away).split("\n", 1)[0])
        finally:
            self._keeper.leave(self._subjects)


def _state(subject: Subject, opened: Opened, probes: int) -> LinkState:
    return LinkState(
        subject.kind.value,
        subject.id,
        opened.since,
        opened.until,
        opened.failures,
        probes,
        opened.stage.value,
        opened.reason,
    )
