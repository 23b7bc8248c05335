"""The lanes that this process holds: one task renews all leases, another hears who rings for them.

A lease that cannot be renewed until its end is given up here, whatever the database would say: somebody else
may hold the lane by then and talk with its meters. What was read and is still on its way to the database is
stored under its fence or not at all.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self

from headend.store import lanes, queue
from headend.store.errors import UnavailableError
from headend.store.lanes import Lease
from headend.store.notices import listening
from headend.store.pool import Pool, aside
from headend.store.requests import WAITED_FOR
from headend.store.sql import Connection

log = logging.getLogger(__name__)

#: A lease is renewed so many times within its length.
_RENEWALS: Final = 3
#: Pause before it is listened anew, each drawn below it, in seconds.
_LISTEN_AGAIN_S: Final = 2.0


class Held:
    """A lane that this process holds. ``bell`` is set when somebody added requests to it."""

    __slots__ = ("bell", "is_lost", "lease", "on_lost", "users")

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.users = 0
        self.bell = asyncio.Event()
        self.is_lost = False
        #: called once when it is lost
        self.on_lost: Callable[[], object] = lambda: None


class LaneKeeper:
    """``async with LaneKeeper(pool, holder) as keeper:`` gives back what it holds when it ends.

    Args:
        pool: the database.
        holder: this process, as others shall see it.
        lease_s: length of a lease: what is held is taken over by others so long after it was last renewed.
    """

    def __init__(self, pool: Pool, holder: str, *, lease_s: float) -> None:
        self.holder: Final = holder
        self.lease_s: Final = lease_s
        self._pool = pool
        self._held: dict[str, Held] = {}
        self._renewed_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        #: called with a lane that is rung for and not held here
        self.on_ring: Callable[[str], object] = lambda lane: None

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._renewing(), name="leases of lanes"),
            asyncio.create_task(self._listening(), name="bell of lanes"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self.give_back(list(self._held.values()))

    @property
    def tasks(self) -> "Sequence[asyncio.Task[None]]":
        """To be watched: they end only by cancellation."""
        return self._tasks

    def __len__(self) -> int:
        """Lanes that are held."""
        return len(self._held)

    def held(self, lane: str) -> Held | None:
        """The lane, if this process holds it."""
        return self._held.get(lane)

    async def take(self, names: Sequence[str]) -> list[Held]:
        """Those of these lanes that nobody holds. Raises UnavailableError."""
        if not self._held:
            self._renewed_at = asyncio.get_running_loop().time()
        async with self._pool.connection() as connection:
            leases = await lanes.take(connection, names, holder=self.holder, lease_s=self.lease_s)
        found = [Held(lease) for lease in leases]
        self._held.update((one.lease.lane, one) for one in found)
        return found

    @asynccontextmanager
    async def holding(self, name: str) -> AsyncIterator[Held | None]:
        """The lane for as long as the context lasts; None where somebody else holds it."""
        found = await self.take([name])
        async with self._used(found[0] if found else None) as held:
            yield held

    @asynccontextmanager
    async def borrowing(self, name: str) -> AsyncIterator[Held | None]:
        """As `holding`, and beside somebody of this process who holds it: what both do, permits keep apart.
        It is given back when the last of them has ended."""
        held = self._held.get(name)
        if held is None:
            found = await self.take([name])
            held = found[0] if found else None
        async with self._used(held):
            yield held

    @asynccontextmanager
    async def _used(self, held: Held | None) -> AsyncIterator[Held | None]:
        if held is None:
            yield None
            return
        held.users += 1
        try:
            yield held
        finally:
            held.users -= 1
            if not held.users:
                await asyncio.shield(self.give_back([held]))

    async def give_back(self, several: Sequence[Held]) -> None:
        """Let others have them, and have those woken in which requests are due. A database that is away does
        that by itself, when the leases end."""
        mine = [one for one in several if self._held.pop(one.lease.lane, None) is one]
        if not mine:
            return
        try:
            async with asyncio.timeout(self.lease_s), self._pool.connection() as connection:
                due = await lanes.give_back(connection, [one.lease for one in mine])
                urgent = [one.lane for one in due if one.urgency <= WAITED_FOR]
                await queue.wake(connection, urgent, priority=1)
                await queue.wake(connection, [one.lane for one in due if one.urgency > WAITED_FOR])
        except (UnavailableError, TimeoutError) as error:
            log.warning("%d lanes are not given back, their leases end by themselves: %s", len(mine), error)

    # ---- leases ---------------------------------------------------------------------------------------

    async def _renewing(self) -> None:
        """Over a connection of their own: a busy night must not keep leases from being renewed."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with aside(self._pool) as connection:
                    await self._renew_over(connection)
            except (UnavailableError, TimeoutError) as error:
                told = str(error).split("\n", 1)[0] or "no answer in time"
                log.warning("leases of %d lanes are not renewed: %s", len(self._held), told)
            if loop.time() - self._renewed_at >= self.lease_s - self.lease_s / _RENEWALS:
                for lane in list(self._held):
                    self._lose(lane)
            await asyncio.sleep(random.uniform(0, self.lease_s / 10))  # noqa: S311 - jitter, not a secret

    async def _renew_over(self, connection: Connection) -> None:
        """Until it fails: UnavailableError, TimeoutError."""
        pause_s = self.lease_s / _RENEWALS
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.0))  # noqa: S311 - jitter, not a secret
            if not self._held:
                continue
            began = loop.time()
            leases = [one.lease for one in self._held.values()]
            async with asyncio.timeout(pause_s):
                lost = await lanes.renew(connection, leases, lease_s=self.lease_s)
            self._renewed_at = began
            for lane in lost:
                self._lose(lane)

    def _lose(self, lane: str) -> None:
        one = self._held.pop(lane, None)
        if one is not None:
            log.warning("lane %s is lost: its lease was not renewed in time", lane)
            one.is_lost = True
            one.on_lost()

    # ---- the bell -------------------------------------------------------------------------------------

    async def _listening(self) -> None:
        """Ring for the lanes that others add requests to; for all of them where something may have been
        missed."""
        while True:
            try:
                async with listening(self._pool, [queue.BELL]) as notices:
                    for one in self._held.values():
                        one.bell.set()
                    async for notice in notices:
                        if (held := self._held.get(notice.payload)) is not None:
                            held.bell.set()
                        else:
                            self.on_ring(notice.payload)
            except UnavailableError as error:
                log.warning("the bell of lanes is silent: %s", str(error).split("\n", 1)[0])
            await asyncio.sleep(random.uniform(0, _LISTEN_AGAIN_S))  # noqa: S311 - jitter, not a secret
