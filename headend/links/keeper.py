"""Keeps open breakers in the database, behind the conversations: people see them there, and a new start finds
them again."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final, Self

from headend.links.breaker import Breakers
from headend.links.opened import Kind, Opened, Subject
from headend.store import link_states
from headend.store.errors import UnavailableError
from headend.store.link_states import LinkState
from headend.store.sql import Connection
from schemas.failure import Stage

log = logging.getLogger(__name__)

#: How far the database is behind, in seconds.
PERIOD_S: Final = 2.0
#: Breakers that a new start takes over.
MOST: Final = 200_000

Connect = Callable[[], AbstractAsyncContextManager[Connection]]


class Keeper:
    """``async with Keeper(...)`` takes over what is stored, keeps it up to date, and stores the last at its
    end.

    Two services that keep the breakers of the same meters overwrite each other's rows: what is shown is then
    what the last of them met, and each goes by its own.
    """

    def __init__(self, connect: Connect, breakers: Breakers, *, period_s: float = PERIOD_S) -> None:
        self._connect = connect
        self._breakers = breakers
        self._period_s = period_s
        self._seen = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        async with self._connect() as connection:
            self._seen = await link_states.last_reset(connection)
            for one in await link_states.stored(connection, limit=MOST):
                opened = Opened(one.since, one.until, one.failures, Stage(one.stage), one.reason)
                self._breakers.restore(Subject(Kind(one.kind), one.id), opened, one.probes)
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

    async def flush(self) -> None:
        """Close what people asked to close, and store what changed. Raises UnavailableError; nothing is lost
        then."""
        async with self._connect() as connection:
            for number, kind, id_ in await link_states.resets(connection, self._seen):
                if self._breakers.reset(Subject(Kind(kind), id_)):
                    log.info("%s %s: its breaker is closed, as asked", kind, id_)
                self._seen = number
            changed = list(self._breakers.changed)
            opened, closed = [], []
            for subject in changed:
                found = self._breakers.opened(subject)
                if found is None:
                    closed.append((subject.kind.value, subject.id))
                else:
                    opened.append(_stored(subject, found, self._breakers.probes(subject)))
            self._breakers.changed.difference_update(changed)
            try:
                if changed:
                    await link_states.keep(connection, opened, closed)
            except BaseException:
                self._breakers.changed.update(changed)
                raise

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            try:
                await self.flush()
            except UnavailableError as error:
                log.warning("open breakers wait to be stored: %s", str(error).split("\n", 1)[0])


def _stored(subject: Subject, opened: Opened, probes: int) -> LinkState:
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
