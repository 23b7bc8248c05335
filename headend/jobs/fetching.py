"""Fetching jobs of one queue, for as long as the process lives: procrastinate's worker stops where its
heartbeat or its listener fails, as when the database restarts, and is started again."""

import asyncio
import logging
import random
from typing import Final

from procrastinate import App
from procrastinate.exceptions import ConnectorException

log = logging.getLogger(__name__)

#: Bound of the wait before a worker is started again, in seconds; each is drawn below it.
_AGAIN_S: Final = 5.0


async def fetching(app: App, queue: str, *, concurrency: int = 1, drain_s: float) -> None:
    """Work at the jobs of ``queue``, ``concurrency`` at once, until cancelled; what is under way then may end
    within ``drain_s`` seconds."""
    while True:
        try:
            await app.run_worker_async(
                name=queue,
                queues=[queue],
                concurrency=concurrency,
                install_signal_handlers=False,
                shutdown_graceful_timeout=drain_s,
                delete_jobs="always",
            )
        except ConnectorException as error:
            task = asyncio.current_task()
            if (
                task is not None and task.cancelling()
            ):  # its farewell failed, and took the cancellation's place
                raise asyncio.CancelledError from error
            log.warning("queue %s: the database is away: %s", queue, str(error).split("\n", 1)[0])
        await asyncio.sleep(random.uniform(0, _AGAIN_S))  # noqa: S311 - jitter, not a secret
