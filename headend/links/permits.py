"""Permits: how many conversations there may be at once with a meter, on a line, behind a station, in a cell.

A conversation needs several permits and is given all of them at once or none: nobody holds one while waiting
for another, so that nobody can wait in a circle, and a meter whose line is busy keeps no station from others.

Who waits is parked at one permit of his that is used up, in the order of urgency, then of arrival. When that
permit is given back, the first in line gets all of his, or is parked at the next one that he lacks, in his
old place. A later one overtakes an earlier one only where they do not lack the same permit; and since lines
lie within stations, and stations within cells, whoever gives back the permit that the first one lacks gives
back those around it as well: nobody is overtaken for ever by others of his urgency.

A tenth of each permit, at least one, is for people who wait: the rest never takes the last ones. It is theirs
also while more is held than a limit that shrank. What cannot be shared, a meter or a line, has no tenth:
there whoever holds it is told that it is `Holding.wanted`. Programs, which hold what they have for long, look
whether it is `Holding.crowded`.
"""

import asyncio
from collections.abc import Hashable, Sequence
from enum import IntEnum
from heapq import heappop, heappush
from types import TracebackType
from typing import Final, Protocol, Self

#: One permit in so many is for people who wait.
RESERVED_SHARE: Final = 10


class Urgency(IntEnum):
    """Who goes first when a permit becomes free: the smaller number."""

    ON_DEMAND = 0  # a person waits
    PROBE = 10  # whether a silent meter is back: there is one at a time, and it runs beside the others
    SCHEDULED = 20
    PROGRAM = 30  # campaigns: readings first, and a share of the turns for these


#: Looking up a member of an enumeration costs 0.2 us in Python 3.11: not in each conversation.
_ON_DEMAND: Final = Urgency.ON_DEMAND
_PROGRAM: Final = Urgency.PROGRAM


class Limited(Protocol):
    """How many may hold a permit at once, now: ``limit``, 1 or more, and of them ``for_all`` whoever comes.

    The numbers may move at any time. Where they grew, who waits is served when somebody gives that permit
    back.
    """

    limit: int
    for_all: int


class Fixed:
    """A limit that stays as it is. Raises ValueError below 1, for which one would wait for ever."""

    __slots__ = ("for_all", "limit")

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"a limit of {limit} lets nobody through")
        self.limit = limit
        self.for_all = for_all(limit)


#: One use of what the name names. The limit that is told first for a name holds while it is used.
Permit = tuple[Hashable, Limited]


def for_all(limit: int) -> int:
    """How many of ``limit`` permits are not kept for people who wait: all of one, else nine in ten, rounded
    down."""
    return limit if limit < 2 else limit - (limit + RESERVED_SHARE - 1) // RESERVED_SHARE


class _Use:
    """How many hold it, and who is parked here because it is used up for them. People are those who wait
    themselves, `Urgency.ON_DEMAND`."""

    __slots__ = ("called", "held", "held_by_people", "limited", "name", "parked", "people", "readings")

    def __init__(self, name: Hashable, limited: Limited) -> None:
        self.name = name
        self.limited = limited
        self.held = 0
        self.held_by_people = 0
        self.parked: list[tuple[int, int, Holding]] = []
        self.people = 0  # of those who are parked
        self.readings = 0  # of those who are parked: neither people nor programs
        self.called = 0  # holders who were told to give way to them and have not yet

    def has_room(self, urgency: int) -> bool:
        limited, held = self.limited, self.held
        if held < limited.for_all:
            return True
        if urgency != _ON_DEMAND:
            return False
        return held < limited.limit or self.held_by_people < limited.limit - limited.for_all


class Permits:
    """All permits of one head-end. Names that nobody holds take no memory."""

    def __init__(self) -> None:
        self._uses: dict[Hashable, _Use] = {}
        self._number = 0
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

    def hold(self, wanted: Sequence[Permit], urgency: Urgency = Urgency.SCHEDULED) -> "Holding":
        """``async with`` it: all of ``wanted``, whose names differ, are held inside.

        The wait has no deadline of its own: it ends because every conversation has one. Whoever has less
        patience cancels it.
        """
        return Holding(self, wanted, urgency)

    async def wait(self, holding: "Holding", lacking: _Use) -> None:
        """Until all of them are free and taken; ``lacking`` is one that is not."""
        self._number += 1
        holding.number = self._number
        holding.granted = asyncio.get_running_loop().create_future()
        self._park(holding, lacking)
        self._waiting += 1
        try:
            await holding.granted
        except BaseException:
            self._unpark(holding)
            if not holding.granted.cancelled():  # granted and cancelled in the same turn of the loop
                self.give_back(holding)
            raise
        finally:
            self._waiting -= 1

    def take(self, holding: "Holding") -> _Use | None:
        """All of them; else none, and the first that is used up."""
        uses, urgency = self._uses, holding.urgency
        found: list[_Use] = []
        for name, limited in holding.permits:
            use = uses.get(name)
            if use is None:
                use = _Use(name, limited)  # there is room
            elif use.held >= limited.for_all and not use.has_room(urgency):
                return use
            found.append(use)
        for use in found:
            if use.held == 0:
                uses[use.name] = use
            use.held += 1
            if urgency == _ON_DEMAND:
                use.held_by_people += 1
        holding.uses = found
        return None

    def _park(self, holding: "Holding", lacking: _Use) -> None:
        holding.parked_at = lacking
        if holding.urgency == _ON_DEMAND:
            lacking.people += 1
        elif holding.urgency < _PROGRAM:
            lacking.readings += 1
        heappush(lacking.parked, (holding.urgency, holding.number, holding))

    def _unpark(self, holding: "Holding") -> None:
        if (use := holding.parked_at) is not None:
            if holding.urgency == _ON_DEMAND:
                use.people -= 1
            elif holding.urgency < _PROGRAM:
                use.readings -= 1
        holding.parked_at = None

    def give_back(self, holding: "Holding") -> None:
        """Give all back, and serve who waits for them."""
        uses, holding.uses = holding.uses, []
        if holding.called_by is not None:
            holding.called_by.called -= 1
            holding.called_by = None
        for use in uses:
            use.held -= 1
            if holding.urgency == _ON_DEMAND:
                use.held_by_people -= 1
        if self._waiting:
            while self._serve_first(uses):
                pass
        for use in uses:
            if use.held == 0:  # then nobody is parked here: there is room
                del self._uses[use.name]

    def _serve_first(self, freed: Sequence[_Use]) -> bool:
        """Serve the first of all who are parked where there is room now; False where there is nobody."""
        best: _Use | None = None
        for use in freed:
            parked = use.parked
            while parked and parked[0][2].is_gone:
                self._unpark(heappop(parked)[2])
            if parked and use.has_room(parked[0][0]) and (best is None or parked[0] < best.parked[0]):
                best = use
        if best is None:
            return False
        holding = heappop(best.parked)[2]
        self._unpark(holding)
        lacking = self.take(holding)
        if lacking is None:
            holding.grant()
        else:
            self._park(holding, lacking)
        return True


class Holding:
    """What one conversation holds, or waits for. Made by `Permits.hold`, and used once."""

    __slots__ = ("_all", "called_by", "granted", "number", "parked_at", "permits", "urgency", "uses")

    def __init__(self, all_: Permits, permits: Sequence[Permit], urgency: Urgency) -> None:
        self._all = all_
        self.permits = permits
        self.urgency = urgency
        self.number = 0  # in the order of arrival, of those who wait
        self.granted: asyncio.Future[None] | None = None
        self.parked_at: _Use | None = None
        self.uses: list[_Use] = []
        self.called_by: _Use | None = None

    async def __aenter__(self) -> Self:
        lacking = self._all.take(self)
        if lacking is not None:
            await self._all.wait(self, lacking)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._all.give_back(self)

    @property
    def is_gone(self) -> bool:
        """Whether who waited has been cancelled."""
        return self.granted is not None and self.granted.done()

    def grant(self) -> None:
        """The wait is over."""
        if self.granted is not None:
            self.granted.set_result(None)

    @property
    def wanted(self) -> bool:
        """Whether a person waits for something that is held here, and it is this holder's turn to end.

        As many are told as there are people; who was told is told again until he ends, or is not needed any
        more. Of constant cost.
        """
        if self.called_by is not None:
            if self.called_by.people >= self.called_by.called:
                return True
            self.called_by.called -= 1
            self.called_by = None
        if self.urgency == _ON_DEMAND:
            return False
        for use in self.uses:
            if use.people > use.called:
                use.called += 1
                self.called_by = use
                return True
        return False

    @property
    def crowded(self) -> bool:
        """Whether a reading, or a person, waits for something that is held here. Of constant cost."""
        return any(use.readings or use.people for use in self.uses)
