"""Finds silent meters back: those whose breaker may be probed are collected, between the rounds.

A round lets silent meters be, so that it takes no longer for them; a nightly one alone would find a meter
back nights after it answers again. What is due of it is read in the same conversation that finds it back.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from headend.clock import utc_now
from headend.collect.collector import Collector
from headend.links.breaker import Breakers
from headend.store.errors import UnavailableError

log = logging.getLogger(__name__)

#: How often it is looked whose time has come, in seconds.
PERIOD_S: Final = 10.0
#: Meters that are probed at once: behind one station it is one, so these are as many stations.
MOST: Final = 200


async def probing(
    collector: Collector, breakers: Breakers, *, days: int, now: Callable[[], datetime] = utc_now
) -> None:
    """Collect the last ``days`` of meters whose breaker may be probed, again and again; ends by cancellation.

    ``collector`` is one for this alone, with a single attempt, so that no round waits for silent meters.
    """
    while True:
        await asyncio.sleep(PERIOD_S * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        due = breakers.due(MOST)
        if not due:
            continue
        until = now()
        try:
            outcome = await collector.collect(until - timedelta(days=days), until, meter_ids=due)
        except UnavailableError as error:
            log.error("silent meters are not probed, the database is away: %s", str(error).split("\n", 1)[0])  # noqa: TRY400
        else:
            if outcome.read:
                log.info("%d meters that were silent answer again", outcome.read)
