"""Permits: how many conversations there may be at once with a meter, on a line, behind a station, in a cell.

A conversation needs several permits and is given all of them at once or none: nobody holds one while waiting
for another, so that nobody can wait in a circle, and a meter whose line is busy keeps no station from others.

Who waits is parked at one permit of his that is used up, in the order of urgency, then of arrival. When that
permit is given back, the first in line gets all of his, or is parked at the next one that he lacks, in his
old place. A later one overtakes an earlier one only where they do not lack the same permit; and since lines
lie within stations, and stations within cells, whoever gives back the permit that the first one lacks gives
back those around it as well: nobody is overtaken for ever by others of his urgency.
"""

import asyncio
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple


class Urgency(IntEnum):
    """Who goes first when a permit becomes free: the smaller number."""

    ON_DEMAND = 0  # a person waits
    PROBE = 10  # whether a silent meter is back: there is one at a time, and it runs beside the others
    SCHEDULED = 20


class Permit(NamedTuple):
    """One of ``limit`` uses of what ``name`` names. The first limit that is told for a name holds while it
    is used."""

    name: Hashable
    limit: int


@dataclass(slots=True, order=True)
class _Waiter:
    urgency: int
    number: int
    wanted: tuple[Permit, ...] = field(compare=False)
    granted: asyncio.Future[None] = field(compare=False)


@dataclass(slots=True)
class _Use:
    """``held`` of ``limit``, and who is parked here because they are all held."""

    limit: int
    held: int = 0
    parked: list[_Waiter] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        return self.held >= self.limit


class Permits:
    """All permits of one head-end. Names that nobody holds take no memory."""

    def __init__(self) -> None:
        self._uses: dict[Hashable, _Use] = {}
        self._numbers = count()
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Who wait now."""
        return self._waiting

    def held(self, name: Hashable) -> int:
        """How many hold a permit of this name."""
        use = self._uses.get(name)
        return 0 if use is None else use.held

    def __len__(self) -> int:
        """Names that are held or waited for."""
        return len(self._uses)

    @asynccontextmanager
    async def hold(
        self, wanted: Sequence[Permit], urgency: Urgency = Urgency.SCHEDULED
    ) -> AsyncIterator[None]:
        """Hold all of ``wanted`` inside; a name that is there twice counts once.

        The wait has no deadline of its own: it ends because every conversation has one. Whoever has less
        patience cancels it. Raises ValueError for a limit below 1, for which one would wait for ever.
        """
        each = {permit.name: permit for permit in wanted}
        for permit in each.values():
            if permit.limit < 1:
                raise ValueError(f"a limit of {permit.limit} for {permit.name} lets nobody through")
        mine = tuple(each.values())
        if not self._take(mine):
            await self._wait(_Waiter(urgency, next(self._numbers), mine, _future()))
        try:
            yield
        finally:
            self._give_back(mine)

    async def _wait(self, waiter: _Waiter) -> None:
        self._park(waiter)
        self._waiting += 1
        try:
            await waiter.granted
        except BaseException:
            if not waiter.granted.cancelled():  # granted and cancelled in the same turn of the loop
                self._give_back(waiter.wanted)
            raise
        finally:
            self._waiting -= 1

    def _take(self, wanted: Sequence[Permit]) -> bool:
        """All of them, or False and none."""
        if any(use.is_full for permit in wanted if (use := self._uses.get(permit.name)) is not None):
            return False
        for permit in wanted:
            self._uses.setdefault(permit.name, _Use(permit.limit)).held += 1
        return True

    def _park(self, waiter: _Waiter) -> None:
        full = next(
            use
            for permit in waiter.wanted
            if (use := self._uses.get(permit.name)) is not None and use.is_full
        )
        heappush(full.parked, waiter)

    def _give_back(self, mine: Sequence[Permit]) -> None:
        for permit in mine:
            self._uses[permit.name].held -= 1
        while self._serve_first(mine):
            pass
        for permit in mine:
            use = self._uses.get(permit.name)
            if use is not None and use.held == 0:  # then nobody is parked here: it is not full
                del self._uses[permit.name]

    def _serve_first(self, freed: Sequence[Permit]) -> bool:
        """Serve the first of all who are parked where there is room now; False where there is nobody."""
        rooms = [
            use
            for permit in freed
            if (use := self._uses.get(permit.name)) is not None and use.parked and not use.is_full
        ]
        if not rooms:
            return False
        waiter = heappop(min(rooms, key=lambda use: use.parked[0]).parked)
        if waiter.granted.done():  # cancelled meanwhile
            return True
        if self._take(waiter.wanted):
            waiter.granted.set_result(None)
        else:
            self._park(waiter)
        return True


def _future() -> "asyncio.Future[None]":
    return asyncio.get_running_loop().create_future()
