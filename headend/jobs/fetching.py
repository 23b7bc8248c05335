"""Fetching jobs of one queue, for as long as the process lives: procrastinate's worker stops where its
heartbeat or its listener fails, as when the database restarts, and is started again."""

import asyncio
import logging
import random
from typing import Final

from procrastinate import App
from procrastinate.exceptions import ConnectorException
from procrastinate.worker import Worker

log = logging.getLogger(__name__)

#: Bound of the wait before a worker is started again, in seconds; each is drawn below it.
_AGAIN_S: Final = 5.0
#: A worker that is to stop is told so this often, in seconds: what it is told before it has begun it forgets.
_TOLD_S: Final = 0.5


async def fetching(app: App, queue: str, *, concurrency: int = 1, drain_s: float) -> None:
    """Work at the jobs of ``queue``, ``concurrency`` at once, until cancelled; what is under way then may end
    within ``drain_s`` seconds.

    The worker is told to stop and never cancelled: a cancellation that comes while it registers itself is
    lost below psycopg in Python 3.11 (`asyncio.wait_for`), and it would fetch for ever.
    """
    while True:
        worker = Worker(
            app,
            [queue],
            queue,
            concurrency,
            install_signal_handlers=False,
            shutdown_graceful_timeout=drain_s,
            delete_jobs="always",
        )
        running = asyncio.create_task(worker.run(), name=f"worker of {queue}")  # type: ignore[no-untyped-call]
        try:
            await asyncio.wait([running])
        finally:
            while not running.done():
                worker.stop()  # type: ignore[no-untyped-call]
                await asyncio.wait([running], timeout=_TOLD_S)
            error = running.exception()
        if isinstance(error, ConnectorException):
            log.warning("queue %s: the database is away: %s", queue, str(error).split("\n", 1)[0])
        elif error is not None:
            raise error
        await asyncio.sleep(random.uniform(0, _AGAIN_S))  # noqa: S311 - jitter, not a secret
