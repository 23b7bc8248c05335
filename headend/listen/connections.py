"""The connections of this process among those of all: a meter that dials in is where it proved itself last.

::

    proven here ──> row · others fenced off · all told ──> its due lane is worked at, here
    told of a meter that is elsewhere ──> its line here is ended: it is dead, and nobody noticed

The database comes behind: a meter's line is used at once. While the database is away nothing is told, and
leases on lanes keep two processes from one meter all the same.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

from headend.listen.inbound_meters import InboundMeters
from headend.store import connections
from headend.store.errors import UnavailableError
from headend.store.notices import listening
from headend.store.pool import Pool

log = logging.getLogger(__name__)

#: Meters come in crowds: so long is waited for more of them, in seconds.
_LINGER_S: Final = 0.05
#: Bound of waits while the database is away, in seconds.
_AGAIN_S: Final = 2.0
_LAST_WORDS_S: Final = 5.0


class Connections:
    """``async with Connections(pool, meters, worker, ring):`` tells of the lines of ``meters`` inside.

    Args:
        pool: the database.
        meters: the lines of this process.
        worker: this process, as holder of lanes.
        ring: called with a lane in which something is due and whose meter is here.
    """

    def __init__(self, pool: Pool, meters: InboundMeters, worker: str, ring: Callable[[str], object]) -> None:
        self._pool = pool
        self._meters = meters
        self._worker = worker
        self._ring = ring
        self._changed: set[int] = set()
        self._some = asyncio.Event()
        self.tasks: tuple[asyncio.Task[None], ...] = ()

    async def __aenter__(self) -> Self:
        self._meters.on_change = self._note
        for meter_id in self._meters.connected:
            self._note(meter_id)
        self.tasks = (
            asyncio.create_task(self._telling(), name="connections told"),
            asyncio.create_task(self._hearing(), name="connections heard of"),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._meters.on_change = None
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)
        try:
            async with asyncio.timeout(_LAST_WORDS_S), self._pool.connection() as connection:
                await connections.gone(connection, self._meters.connected, self._worker)
        except (UnavailableError, TimeoutError):
            log.warning("connections of meters are not signed off: the database is away")

    def _note(self, meter_id: int) -> None:
        self._changed.add(meter_id)
        self._some.set()

    async def _telling(self) -> None:
        while True:
            await self._some.wait()
            await asyncio.sleep(_LINGER_S)
            self._some.clear()
            changed = set(self._changed)
            try:
                await self._tell(changed)
                if not self._some.is_set():
                    self._changed.clear()
            except UnavailableError as error:
                log.warning("connections of meters are not told: %s", str(error).split("\n", 1)[0])
                self._some.set()
                await asyncio.sleep(random.uniform(0, _AGAIN_S))  # noqa: S311 - jitter, not a secret

    async def _tell(self, changed: set[int]) -> None:
        here = sorted(meter_id for meter_id in changed if meter_id in self._meters)
        gone = sorted(changed.difference(here))
        due: list[str] = []
        async with self._pool.connection() as connection:
            if gone:
                await connections.gone(connection, gone, self._worker)
            if here:
                due = await connections.came(connection, here, self._worker)
        for lane in due:
            self._ring(lane)

    async def _hearing(self) -> None:
        """End lines of meters that are elsewhere; of all of them, where something may have been missed."""
        while True:
            try:
                async with listening(self._pool, [connections.MOVED]) as notices:
                    await self._end_those_elsewhere(self._meters.connected)
                    async for notice in notices:
                        number, _, worker = notice.payload.partition(" ")
                        if worker != self._worker and int(number) in self._meters:
                            await self._end_those_elsewhere([int(number)])
            except UnavailableError as error:
                log.warning("it is not heard where meters are: %s", str(error).split("\n", 1)[0])
            await asyncio.sleep(random.uniform(0, _AGAIN_S))  # noqa: S311 - jitter, not a secret

    async def _end_those_elsewhere(self, meter_ids: Sequence[int]) -> None:
        """A notice may be older than a line: the table tells where a meter is. A line that has just come is
        not in it yet."""
        asked = [meter_id for meter_id in meter_ids if meter_id not in self._changed]
        async with self._pool.connection() as connection:
            found = await connections.elsewhere(connection, asked, self._worker)
        for meter_id in found:
            if meter_id not in self._changed and self._meters.end(meter_id, "it dialled in elsewhere"):
                log.info("meter number %d dialled in to another process: its line here is ended", meter_id)
