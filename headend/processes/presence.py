"""That a process is there: a row of its own in the database, refreshed as long as it lives."""

import asyncio
import logging
import os
import random
import socket
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from types import TracebackType
from typing import Final, Self

from headend.store import workers
from headend.store.errors import UnavailableError
from headend.store.sql import Connection
from headend.store.workers import Kind, Told

log = logging.getLogger(__name__)

#: How often a process says that it is there, in seconds; each pause is drawn around it.
PERIOD_S: Final = 5.0
#: A process of which nothing was heard for so long is forgotten by any other: until then people see it.
_FORGET_S: Final = 86_400.0
_LAST_WORDS_S: Final = 5.0

Connect = Callable[[], AbstractAsyncContextManager[Connection]]


def this_process(kind: Kind, concurrency: int = 0) -> Told:
    """What this process says of itself. Its name, host:pid:start, no other process ever has: a number of a
    process comes again, but not in the same millisecond."""
    host = socket.gethostname()
    name = f"{host}:{os.getpid()}:{time.time_ns() // 1_000_000:x}"
    return Told(name, host, kind, version("headend"), concurrency)


class Presence:
    """``async with Presence(connect, told):`` has the process seen inside, and forgotten behind.

    A process that is killed, stopped or cut off is silent: what it holds ends by leases, whatever is here.
    """

    def __init__(self, connect: Connect, told: Told, *, period_s: float = PERIOD_S) -> None:
        self.told: Final = told
        self._connect = connect
        self._period_s = period_s
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._say()
        self._task = asyncio.create_task(self._keep(), name="presence")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        try:
            async with asyncio.timeout(_LAST_WORDS_S), self._connect() as connection:
                await workers.left(connection, self.told.worker)
        except (UnavailableError, TimeoutError):
            log.warning("this process is not signed off: the database is away")

    @property
    def task(self) -> "asyncio.Task[None]":
        """To be watched: it ends only by cancellation. Raises RuntimeError before start."""
        if self._task is None:
            raise RuntimeError("the presence is not started")
        return self._task

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._period_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
            try:
                await self._say()
            except UnavailableError as error:
                log.warning("this process cannot be seen: %s", str(error).split("\n", 1)[0])

    async def _say(self) -> None:
        async with self._connect() as connection:
            await workers.seen(connection, self.told)
            for lost in await workers.forget(connection, silent_s=_FORGET_S):
                log.warning("process %s is forgotten: it was silent for a day", lost)
