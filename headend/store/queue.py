"""The queue on our PostgreSQL: procrastinate's jobs, which only wake lanes.

A job of the queue says "somebody look after this lane" and carries nothing else: what is to be done stands
in requests, who does it in lanes. So a job that is lost costs a round of the janitor, and one too many costs
a look.
"""

import re
from collections.abc import Sequence
from typing import Final

from procrastinate import App, PsycopgConnector

from headend.store import sql, webhooks
from headend.store.pool import Pool
from headend.store.sql import Connection

_QUERIES: Final = sql.load("queue")
#: Queues and tasks: lanes with work of schedules, and lanes that nobody holds and for which somebody waits.
BULK: Final = "lanes"
MOMENT: Final = "moment"
TASK: Final = {BULK: "lane", MOMENT: "lane_now"}
#: Channel on which holders of lanes are told of new requests, and the one on which jobs tell that they go on.
BELL: Final = "headend_lanes"
PROGRESS: Final = "headend_jobs"
#: Lanes that only some processes can work at: a meter that dials in, a device of a host.
_BOUND: Final = re.compile(r"inbound:|line:([a-z0-9]+\+serial|modbus\+rtu):")


def is_bound(lane: str) -> bool:
    """Whether only a process can work at the lane that has the meter's connection, or the device."""
    return _BOUND.match(lane) is not None


async def wake(connection: Connection, lanes: Sequence[str], *, priority: int = 0) -> None:
    """Have these lanes looked after when this transaction is committed: holders are told, lanes that nobody
    holds are queued; of those that are bound to a place all are told. A ``priority`` above 0 is for what
    somebody waits for.

    To be called at the end of the transaction that adds the requests.
    """
    if not lanes:
        return
    cursor = await connection.execute(_QUERIES["look"], {"lanes": list(lanes)})
    looked = await cursor.fetchall()
    free, told = (
        [lane for lane, is_held in looked if not (is_held or is_bound(lane))],
        [lane for lane, is_held in looked if is_held or is_bound(lane)],
    )
    if told:
        await connection.execute(_QUERIES["ring"], {"lanes": told})
    if free:
        queue = MOMENT if priority > 0 else BULK
        await connection.execute(
            _QUERIES["defer"],
            {"lanes": free, "queue": queue, "task": TASK[queue], "priority": priority},
        )


async def drop_stalled(connection: Connection, *, silent_s: float) -> int:
    """Forget what workers were at that have not been heard of for ``silent_s``; how many jobs that were."""
    cursor = await connection.execute(
        _QUERIES["drop_stalled"], {"silent_s": silent_s, "tasks": [*TASK.values(), webhooks.TASK]}
    )
    return cursor.rowcount


async def open_app(pool: Pool) -> App:
    """A procrastinate app without tasks over our pool, which stays the caller's to close."""
    app = App(connector=PsycopgConnector())
    await app.open_async(pool)
    return app
