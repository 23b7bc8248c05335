"""Takes campaigns on: all of them each minute, and those that tell that they may go on soon after.

A meter that ends and a person who decides notify (`campaign_course.GOES_ON`); what is missed by that, such as
a request that expired or a window that opens, the next minute finds.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from headend.clock import utc_now
from headend.programs.waves import advance
from headend.session.access import Connect
from headend.store import campaign_course
from headend.store.errors import UnavailableError
from headend.store.notices import listening
from headend.store.pool import Pool

log = logging.getLogger(__name__)

#: Ends of meters are gathered for so long, in seconds, and longer where taking a campaign on takes long.
GATHER_S: Final = 0.3
#: Of the time at most one in so many parts goes to it.
_SHARE: Final = 10
_LISTEN_AGAIN_S: Final = 5.0


async def advance_all(connect: Connect, now: datetime) -> None:
    """Take on every campaign of which something may be due. Raises UnavailableError."""
    async with connect() as connection:
        found = await campaign_course.active(connection)
    await _advance(connect, found, now)


async def campaigning(pool: Pool, *, now: Callable[[], datetime] = utc_now) -> None:
    """Take campaigns on as they tell that they may go on, in this process or in another that does the same.
    Ends by cancellation."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            async with listening(pool, [campaign_course.GOES_ON]) as notices, asyncio.TaskGroup() as group:
                due: set[int] = set()
                something = asyncio.Event()

                async def gather() -> None:
                    async for notice in notices:
                        due.add(int(notice.payload))  # noqa: B023 - the group ends within the turn
                        something.set()  # noqa: B023

                group.create_task(gather(), name="campaigns that tell")
                await advance_all(pool.connection, now())
                while True:
                    await something.wait()
                    await asyncio.sleep(GATHER_S)
                    something.clear()
                    some, began = sorted(due), loop.time()
                    due.clear()
                    await _advance(pool.connection, some, now())
                    await asyncio.sleep((loop.time() - began) * _SHARE)
        except* UnavailableError as several:
            told = str(several.exceptions[0]).split("\n", 1)[0]
            log.warning("campaigns go on with the next minute, the database is away: %s", told)
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError  # before Python 3.13 the group's error takes its place
        await asyncio.sleep(random.uniform(0, _LISTEN_AGAIN_S))  # noqa: S311 - jitter, not a secret


async def _advance(connect: Connect, numbers: Iterable[int], now: datetime) -> None:
    for number in numbers:
        try:
            async with connect() as connection:
                await advance(connection, number, now)
        except UnavailableError:
            raise
        except Exception:  # the boundary: a defect met at one campaign must not hold up all others
            log.exception("campaign %d is not taken on, by a defect", number)
