"""Whose turn is next within a lane. A pure function of what waits.

What somebody waits for goes first. Then readings and programs take turns: programs get 20 % of them while
readings wait, neither more nor less, so that a campaign does not cost the night, nor the night the campaign.
Their turns are longer; where a lane has several slots they also have no more than 20 % of these then.
Within each the more urgent go first, then the earlier deadline; second and further attempts take turns with
first ones: at most 30 % while a first attempt of the same urgency waits, so that a feeder that is down does
not keep those from being asked that were not asked yet. Those of programs take no turn of a reading, and the
other way round.
"""

from heapq import heappop, heappush
from itertools import count
from typing import Final, Generic, NamedTuple, TypeVar

from headend.links.permits import Urgency

T = TypeVar("T")

#: Share of the turns that further attempts get while first ones wait.
AGAIN_SHARE: Final = 0.3
#: One turn in so many, and of several slots one in so many, is a program's while readings wait.
PROGRAM_TURNS: Final = 5
#: Urgencies from here on are of programs, and of the other one somebody waits for it: plain numbers, which
#: are looked up faster than members of an enumeration.
PROGRAMS: Final = int(Urgency.PROGRAM)
_WAITED_FOR: Final = int(Urgency.ON_DEMAND)


class Rank(NamedTuple):
    """The order of one turn; the smaller goes first. ``due`` is any number that grows with the deadline."""

    urgency: int
    due: float


class Order(Generic[T]):
    """What waits for its turn."""

    def __init__(self) -> None:
        numbers = count()
        self._readings: _Line[T] = _Line(numbers)
        self._programs: _Line[T] = _Line(numbers)
        self._turns_of_readings = 0  # since a program had one, while programs wait

    def __len__(self) -> int:
        return len(self._readings) + len(self._programs)

    @property
    def readings(self) -> int:
        """How many that are no programs, or somebody waits for."""
        return len(self._readings)

    @property
    def programs(self) -> int:
        """How many that are programs, and nobody waits for."""
        return len(self._programs)

    def add(self, one: T, rank: Rank, *, again: bool) -> None:
        """Have it wait; ``again``: it was attempted before."""
        (self._readings if rank.urgency < PROGRAMS else self._programs).add(one, rank, again=again)

    def next(self, *, programs: bool = True) -> T:
        """Take out the one whose turn it is, no program while readings wait where it shall be none. Raises
        IndexError where nobody waits."""
        if not self._programs or (self._readings and not programs):
            return self._readings.next()
        if not self._readings:
            return self._programs.next()
        if self._readings.urgency == _WAITED_FOR:
            return self._readings.next()
        if self._turns_of_readings >= PROGRAM_TURNS - 1:
            self._turns_of_readings = 0
            return self._programs.next()
        self._turns_of_readings += 1
        return self._readings.next()


class _Line(Generic[T]):
    """Those of one kind: first attempts, and further ones."""

    def __init__(self, numbers: "count[int]") -> None:
        self._first: list[tuple[Rank, int, T]] = []
        self._again: list[tuple[Rank, int, T]] = []
        self._numbers = numbers
        self._contested: int | None = None  # the urgency of which first and further attempts take turns
        self._turns = self._turns_again = 0

    def __len__(self) -> int:
        return len(self._first) + len(self._again)

    @property
    def urgency(self) -> int:
        """Of the most urgent. Raises ValueError where nobody waits."""
        return min(heap[0][0].urgency for heap in (self._first, self._again) if heap)

    def add(self, one: T, rank: Rank, *, again: bool) -> None:
        heappush(self._again if again else self._first, (rank, next(self._numbers), one))

    def next(self) -> T:
        first, again = self._first, self._again
        if not again:
            return heappop(first)[2]
        if not first:
            return heappop(again)[2]
        urgent, other = first[0][0], again[0][0]
        if urgent.urgency != other.urgency:
            return heappop(first if urgent.urgency < other.urgency else again)[2]
        if urgent.urgency != self._contested:  # turns that those of another urgency left are no credit
            self._contested, self._turns, self._turns_again = urgent.urgency, 0, 0
        may = self._turns_again + 1 <= AGAIN_SHARE * (self._turns + 1)
        self._turns += 1
        if may and other < urgent:
            self._turns_again += 1
            return heappop(again)[2]
        return heappop(first)[2]
