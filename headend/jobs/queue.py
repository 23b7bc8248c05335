"""The queue's side of a worker: procrastinate jobs that wake lanes.

::

    wake(lanes) ──> "lanes"   ──> take the lane ──> work at all that is due
               └──> "moment"  ──> take the lane ──> work at what somebody waits for

Two queues, each with its own number at once: what somebody waits for, in a lane that nobody holds, does not
wait behind lanes with bulk work. A job whose lane is held by somebody ends at once: he was told.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from procrastinate import App

from headend.jobs.fetching import fetching
from headend.jobs.here import Here
from headend.jobs.lanes import Held, LaneKeeper
from headend.jobs.work import LaneWorker
from headend.store.errors import UnavailableError
from headend.store.pool import Pool
from headend.store.queue import BULK, MOMENT, TASK, open_app, wake
from headend.store.requests import WAITED_FOR

__all__ = ["Queue", "wake"]

log = logging.getLogger(__name__)

_ALL: Final = 32_767
#: A lane in which a defect was met is kept from everybody for so long, in seconds.
_DEFECT_S: Final = 5.0


class Queue:
    """Fetches jobs and works at them.

    Args:
        pool: the database.
        keeper: the lanes of this process.
        worker: works at them.
        lanes: lanes with bulk work at once.
        moments: lanes at once that somebody waits for.
        is_connected: whether a meter that dials in has its connection here.
    """

    def __init__(
        self,
        pool: Pool,
        keeper: LaneKeeper,
        worker: LaneWorker,
        *,
        lanes: int = 64,
        moments: int = 16,
        is_connected: Callable[[int], bool] = lambda meter_id: False,
    ) -> None:
        self._pool = pool
        self._keeper = keeper
        self._worker = worker
        self._numbers = {BULK: lanes, MOMENT: moments}
        self._here = Here(is_connected, self.lane)
        keeper.on_ring = self._here.ring

    @property
    def tasks(self) -> "Sequence[asyncio.Task[None]]":
        """Of the lanes that are held, to be watched: they end only by cancellation."""
        return self._keeper.tasks

    @property
    def keeper(self) -> LaneKeeper:
        """The lanes of this process."""
        return self._keeper

    async def run(self, *, drain_s: float) -> None:
        """Until it is cancelled: then no visit is begun any more, and what is under way may end within
        ``drain_s`` seconds."""
        app = await open_app(self._pool)
        self._tasks(app)
        workers = [
            asyncio.create_task(
                fetching(app, queue, concurrency=number, drain_s=drain_s), name=f"queue {queue}"
            )
            for queue, number in self._numbers.items()
        ]
        try:
            done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._worker.stop()
            for task in workers:
                task.cancel()
            await asyncio.gather(asyncio.wait(workers), self._here.close(drain_s))

    def ring(self, lane: str) -> None:
        """Something is due in a lane that is bound to a place: work at it if that is here."""
        self._here.ring(lane)

    async def lane(self, name: str, *, urgency: int = _ALL) -> None:
        """Work at a lane, unless somebody else holds it."""
        try:
            async with self._keeper.holding(name) as held:
                if held is not None:
                    await self._work(held, urgency)
        except UnavailableError as error:
            log.warning("lane %s is left, the database is away: %s", name, str(error).split("\n", 1)[0])

    async def _work(self, held: Held, urgency: int) -> None:
        try:
            await self._worker.work(held, urgency=urgency)
        except UnavailableError:
            raise
        except Exception:  # the boundary: what is due in the lane is due again as soon as it is given back
            log.exception("lane %s is left, by a defect", held.lease.lane)
            await asyncio.sleep(_DEFECT_S)

    def _tasks(self, app: App) -> None:
        @app.task(name=TASK[BULK], queue=BULK)
        async def bulk(lane: str) -> None:
            await self.lane(lane)

        @app.task(name=TASK[MOMENT], queue=MOMENT)
        async def moment(lane: str) -> None:
            await self.lane(lane, urgency=WAITED_FOR)
