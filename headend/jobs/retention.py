"""Jobs are kept for a while after their end, with what they asked of each meter and every attempt; then they
go, a portion at a time, so that nobody waits for it. Readings of clocks go two years later."""

import asyncio
import logging
from datetime import datetime, timedelta
from typing import Final

from headend.session.access import Connect
from headend.store import attempts, clocks, jobs

log = logging.getLogger(__name__)

#: How long one portion may take, in seconds; the next comes with the next tick.
_PORTION_S: Final = 5.0
#: Attempts that one statement takes.
_ATTEMPTS: Final = 50_000
#: Readings of clocks are kept so much longer than jobs: a crystal ages by the year.
_CLOCKS_LONGER: Final = timedelta(days=730)


async def _forget_clocks(connect: Connect, before: datetime, until: float) -> None:
    while True:
        async with connect() as connection:
            number = await clocks.forget(connection, before=before, limit=_ATTEMPTS)
        if number < _ATTEMPTS or asyncio.get_running_loop().time() > until:
            return


async def prune(connect: Connect, *, before: datetime, portion_s: float = _PORTION_S) -> tuple[int, int]:
    """Forget jobs that ended ``before`` (aware) with their requests, and attempts that began before it, for
    about ``portion_s`` seconds; how many of each. Raises UnavailableError."""
    loop = asyncio.get_running_loop()
    until, gone, tried = loop.time() + portion_s, 0, 0
    while True:
        async with connect() as connection:
            found = await jobs.forget_one(connection, before=before)
        gone += found
        if not found or loop.time() > until:
            break
    while True:
        async with connect() as connection:
            number = await attempts.forget(connection, before=before, limit=_ATTEMPTS)
        tried += number
        if number < _ATTEMPTS or loop.time() > until:
            break
    await _forget_clocks(connect, before - _CLOCKS_LONGER, until)
    if gone or tried:
        log.info("%d jobs and %d attempts from before %s are forgotten", gone, tried, f"{before:%F %R}Z")
    return gone, tried
