"""What the jobs of all processes have before them, in figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from headend.store import sql
from headend.store.sql import Connection
from headend.store.workers import SILENT_S

_QUERIES: Final = sql.load("backlog")


@dataclass(frozen=True, slots=True)
class Backlog:
    """``waiting`` requests and seconds by which the first is ``late``, by urgency (the smaller goes first);
    ``lanes`` that are held; ``attempts`` of the last so many seconds by stage (None: no failure); ``workers``
    that live, by kind."""

    waiting: Mapping[int, int]
    late_s: Mapping[int, float]
    lanes: int
    attempts: Mapping[str | None, int]
    workers: Mapping[str, int]


async def backlog(connection: Connection, *, seconds: float) -> Backlog:
    """As it is now, with the attempts of the last ``seconds``."""
    requests = await (await connection.execute(_QUERIES["requests"])).fetchall()
    ((lanes,),) = await (await connection.execute(_QUERIES["lanes"])).fetchall()
    attempts = await (await connection.execute(_QUERIES["attempts"], {"seconds": seconds})).fetchall()
    workers = await (await connection.execute(_QUERIES["workers"], {"silent_s": SILENT_S})).fetchall()
    return Backlog(
        {urgency: number for urgency, number, _ in requests},
        {urgency: late_s for urgency, _, late_s in requests},
        lanes,
        dict(attempts),
        dict(workers),
    )
