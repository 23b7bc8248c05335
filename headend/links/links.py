"""The one door to meters: whoever talks with one does it in a conversation that is opened here."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from headend.drivers.contract import Conversation, Driver, Way


class Links:
    """One conversation at a time with a meter, and on a line or bus that several share; ``most`` in all."""

    def __init__(self, most: int = 256) -> None:
        self._slots = asyncio.Semaphore(most)
        self._locks: WeakValueDictionary[object, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def conversation(self, driver: Driver, way: Way) -> AsyncIterator[Conversation]:
        """A conversation with the meter at the end of ``way``, when its link is free.

        Raises the tree of `protocols.errors`.
        """
        name = way.address.line or (way.target.meter.meter_id,)
        async with (
            self._locks.setdefault(name, asyncio.Lock()),
            self._slots,
            driver.open(way) as conversation,
        ):
            yield conversation
