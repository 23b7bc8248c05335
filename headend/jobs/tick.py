"""The tick of each minute: procrastinate defers it once on all hosts, and one process takes it."""

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from headend.clock import utc_now
from headend.jobs.fetching import fetching
from headend.store.errors import UnavailableError
from headend.store.pool import Pool
from headend.store.queue import open_app

log = logging.getLogger(__name__)

#: The queue of the tick, and its task.
TICK: Final = "tick"
Tick = Callable[[datetime], Awaitable[object]]


async def ticking(pool: Pool, tick: Tick, *, drain_s: float, now: Callable[[], datetime] = utc_now) -> None:
    """Call ``tick`` with the time, aware UTC, once at the start and then each minute, in this process or in
    another that ticks. A tick that fails is logged; the next one finds what it left.

    Ends by cancellation; a tick under way may end within ``drain_s`` seconds.
    """
    app = await open_app(pool)

    async def safely() -> None:
        try:
            await tick(now())
        except UnavailableError as error:
            log.warning("a tick is lost, the database is away: %s", str(error).split("\n", 1)[0])
        except Exception:  # the boundary: a tick comes again
            log.exception("a tick failed")

    @app.periodic(cron="* * * * *")
    @app.task(name=TICK, queue=TICK, queueing_lock=TICK)
    async def minute(timestamp: int) -> None:
        await safely()

    await safely()
    await fetching(app, TICK, drain_s=drain_s)
