"""What other connections notify: LISTEN as an iterator."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from psycopg import sql as composed

from headend.store.pool import Pool, aside


class Notice(NamedTuple):
    """A notification."""

    channel: str
    payload: str


@asynccontextmanager
async def listening(pool: Pool, channels: Sequence[str]) -> AsyncIterator[AsyncIterator[Notice]]:
    """Notices of these channels from now on, over a connection of their own, not one of the pool's.

    The iterator ends by no cause but an error: UnavailableError when the connection is lost; what was
    notified meanwhile is lost too, and whoever listens anew looks first.
    """
    async with aside(pool) as connection:
        for channel in channels:
            await connection.execute(composed.SQL("LISTEN {}").format(composed.Identifier(channel)))
        yield (Notice(one.channel, one.payload) async for one in connection.notifies())
