"""Whose turn is next within a lane. A pure function of what waits.

The more urgent first, then the earlier deadline. Second and further attempts take turns with first ones: at
most 30 % of the turns while a first attempt of the same urgency waits, so that a feeder that is down does not
keep those from being asked that were not asked yet.
"""

from heapq import heappop, heappush
from itertools import count
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

#: Share of the turns that further attempts get while first ones wait.
AGAIN_SHARE: Final = 0.3


class Rank(NamedTuple):
    """The order of one turn; the smaller goes first. ``due`` is any number that grows with the deadline."""

    urgency: int
    due: float


class Order(Generic[T]):
    """What waits for its turn."""

    def __init__(self) -> None:
        self._first: list[tuple[Rank, int, T]] = []
        self._again: list[tuple[Rank, int, T]] = []
        self._numbers = count()
        self._turns = self._turns_again = 0

    def __len__(self) -> int:
        return len(self._first) + len(self._again)

    def add(self, one: T, rank: Rank, *, again: bool) -> None:
        """Have it wait; ``again``: it was attempted before."""
        heappush(self._again if again else self._first, (rank, next(self._numbers), one))

    def next(self) -> T:
        """Take out the one whose turn it is. Raises IndexError where nobody waits."""
        first, again = self._first, self._again
        if not again:
            return heappop(first)[2]
        if not first:
            return heappop(again)[2]
        urgent, other = first[0][0], again[0][0]
        if urgent.urgency != other.urgency:
            return heappop(first if urgent.urgency < other.urgency else again)[2]
        may = self._turns_again + 1 <= AGAIN_SHARE * (self._turns + 1)
        self._turns += 1
        if may and other < urgent:
            self._turns_again += 1
            return heappop(again)[2]
        return heappop(first)[2]
