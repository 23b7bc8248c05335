"""Figures of all processes together, asked of the database: what waits, who works, what came of it lately.

Each process of the API has them, so that one scrape tells of the whole; its own figures are beside them.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from headend.links.permits import Urgency
from headend.observe.metrics import ANSWERED, Metrics
from headend.store.backlog import Backlog, backlog
from headend.store.errors import UnavailableError
from headend.store.sql import Connection

log = logging.getLogger(__name__)

#: How old the figures are at most, in seconds, and over how long attempts are counted.
PERIOD_S: Final = 15.0
LATELY_S: Final = 900.0

Connect = Callable[[], AbstractAsyncContextManager[Connection]]


class Watch:
    """Keeps the figures of ``metrics`` up to date while `run` runs."""

    def __init__(self, connect: Connect, metrics: Metrics) -> None:
        self._connect = connect
        self._now = Backlog({}, {}, 0, {}, {})
        metrics.watch(
            "headend_requests_waiting",
            "Open requests of all jobs, by urgency",
            lambda: {name: self._now.waiting.get(urgency, 0) for urgency, name in _URGENCIES.items()},
            label="urgency",
        )
        metrics.watch(
            "headend_requests_late_seconds",
            "By how much the open request that is due first is late, by urgency",
            lambda: {name: self._now.late_s.get(urgency, 0.0) for urgency, name in _URGENCIES.items()},
            label="urgency",
        )
        metrics.watch("headend_lanes_held", "Lanes that some process works at", lambda: self._now.lanes)
        metrics.watch(
            "headend_attempts_lately",
            "Attempts at meters of the last 15 minutes, by the stage at which they failed, or answered",
            lambda: {stage or ANSWERED: number for stage, number in self._now.attempts.items()},
            label="outcome",
        )
        metrics.watch(
            "headend_workers", "Processes that live, by kind", lambda: self._now.workers, label="kind"
        )

    async def run(self) -> None:
        """Ask again and again; ends by cancellation. A database that is away leaves them as they were."""
        while True:
            try:
                await self.look()
            except UnavailableError as error:
                log.warning("figures are not asked for: %s", str(error).split("\n", 1)[0])
            await asyncio.sleep(PERIOD_S * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret

    async def look(self) -> None:
        """Ask once. Raises UnavailableError."""
        async with self._connect() as connection:
            self._now = await backlog(connection, seconds=LATELY_S)


_URGENCIES: Final = {urgency.value: urgency.name.lower() for urgency in Urgency}
