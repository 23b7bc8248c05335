"""Collection again and again."""

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from headend.clock import utc_now
from headend.collect.collector import Collector, OnProgress
from headend.collect.outcome import Outcome
from headend.store.errors import UnavailableError

log = logging.getLogger(__name__)

#: A round begins up to this part of the period early or late: head-ends must not call in step.
JITTER: Final = 0.05


async def periodically(
    collector: Collector,
    *,
    days: int,
    period_s: float,
    on_round: Callable[[Outcome], None],
    on_progress: OnProgress | None = None,
    now: Callable[[], datetime] = utc_now,
) -> None:
    """Collect the last ``days`` every ``period_s`` seconds, for the first time after one period; ends by
    cancellation. A database that is away costs a round."""
    while True:
        await asyncio.sleep(period_s * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311 - no secret
        until = now()
        try:
            outcome = await collector.collect(until - timedelta(days=days), until, on_progress=on_progress)
        except UnavailableError as error:
            log.error("this round is left out, the database is away: %s", str(error).split("\n", 1)[0])  # noqa: TRY400
        else:
            on_round(outcome)
