"""The bar against replayed pushes: each invocation counter of a sender passes once.

The last counter that came is in the database, and is moved on only after what came with it is committed.
Until then the counter is held here, so that the same message cannot pass twice meanwhile. A crash in between
forgets what is held: the message may come again, and the store knows a push that it has.
"""

from typing import NamedTuple

from headend.listen.directory import Connect
from headend.store import keyring


class Counter(NamedTuple):
    """The sender's invocation counter, to be accepted once: (key id, system title, value)."""

    key_id: bytes
    title: bytes
    value: int


class ReplayBar:
    """Counters of all senders. What is held is bounded by the messages that wait for their commit.

    A counter that `hold` let through is given back by `settle` or by `release`. Both `hold` and `settle`
    raise UnavailableError while the database is away, and may be asked again.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._held: dict[tuple[bytes, bytes], int] = {}

    async def hold(self, counter: Counter) -> bool:
        """Whether the counter is greater than all before it; then nobody else passes with it."""
        peer = (counter.key_id, counter.title)
        if counter.value <= self._held.get(peer, -1):
            return False
        self._held[peer] = counter.value  # before the database is asked: it answers two at a time
        fresh = False
        try:
            async with self._connect() as connection:
                last = await keyring.peer_counters(connection, [peer])
            fresh = counter.value > last.get(peer, -1)
        finally:
            if not fresh:
                self.release(counter)
        return fresh

    async def settle(self, counter: Counter) -> None:
        """What came with the counter is committed: no restart may let it through again."""
        peer = (counter.key_id, counter.title)
        async with self._connect() as connection:
            await keyring.advance_peers(connection, {peer: counter.value})
        self.release(counter)

    def release(self, counter: Counter) -> None:
        """Hold the counter no longer."""
        peer = (counter.key_id, counter.title)
        if self._held.get(peer) == counter.value:
            del self._held[peer]
