"""Looks after what nobody else does any more, on each host: lanes whose holder is gone, requests whose time
has passed, jobs that are through.

It is allowed to come late, twice, or at the same time as others: each of its steps is one statement that does
nothing where another janitor has done it.
"""

import asyncio
import logging
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from headend.clock import utc_now
from headend.session.access import Connect
from headend.store import campaign_views, jobs, lanes, on_demand, queue, requests, webhooks
from headend.store.errors import UnavailableError
from headend.store.requests import WAITED_FOR

log = logging.getLogger(__name__)

#: Between two rounds, in seconds; each is drawn from half to one and a half of it.
PERIOD_S: Final = 5.0
#: Workers of the queue that were not heard of for so long are forgotten (their heartbeat comes every 10 s).
SILENT_S: Final = 45.0
#: A webhook that is so much overdue is in nobody's hands any more.
_OVERDUE: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Tidied:
    """What a round did: requests expired, jobs ended, lanes woken, jobs of the queue dropped."""

    expired: int
    ended: int
    woken: int
    dropped: int


async def tidy(connect: Connect) -> Tidied:
    """One round. Raises UnavailableError."""
    async with connect() as connection:
        expired = await jobs.expire(connection)
        ended = await jobs.end(connection)
        await requests.tell(connection, ended)
        now = utc_now()
        await webhooks.queue(connection, await webhooks.forgotten(connection, before=now - _OVERDUE))
        await on_demand.forget(connection, now=now)
        await campaign_views.forget(connection, now=now)
    async with connect() as connection:
        dropped = await queue.drop_stalled(connection, silent_s=SILENT_S)
        unserved = await lanes.unserved(connection)
        urgent = [one.lane for one in unserved if one.urgency <= WAITED_FOR]
        await queue.wake(connection, urgent, priority=1)
        await queue.wake(connection, [one.lane for one in unserved if one.urgency > WAITED_FOR])
    return Tidied(expired, len(ended), len(unserved), dropped)


async def tidying(connect: Connect) -> None:
    """Round after round; ends by cancellation. A database that is away costs a round."""
    while True:
        await asyncio.sleep(PERIOD_S * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        try:
            done = await tidy(connect)
        except UnavailableError as error:
            log.warning("nothing is tidied, the database is away: %s", str(error).split("\n", 1)[0])
        else:
            if done.expired or done.dropped:
                log.info("%d requests expired, %d stalled jobs dropped", done.expired, done.dropped)
