"""The queue that tells ends of jobs: procrastinate wakes for one job each; what is due stands in webhooks."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from headend.jobs.fetching import fetching
from headend.store.errors import UnavailableError
from headend.store.pool import Pool
from headend.store.queue import open_app
from headend.store.webhooks import QUEUE, TASK

log = logging.getLogger(__name__)

#: Webhooks that are told at once.
_AT_ONCE: Final = 4


async def telling(pool: Pool, deliver: Callable[[int], Awaitable[object]], *, drain_s: float) -> None:
    """Call ``deliver`` with the number of each job whose end is to be told, in this process or in another
    that tells. Ends by cancellation; what is under way may end within ``drain_s`` seconds."""
    app = await open_app(pool)

    @app.task(name=TASK, queue=QUEUE)
    async def webhook(job_id: int) -> None:
        try:
            await deliver(job_id)
        except UnavailableError as error:  # it is overdue then, and a janitor queues it again
            log.warning("the end of job %d is not told: %s", job_id, str(error).split("\n", 1)[0])

    await fetching(app, QUEUE, concurrency=_AT_ONCE, drain_s=drain_s)
