"""When the customer of a meter was cut off, and what its registers did not count meanwhile.

Registers are functions of time (`concentrator_sim.generator`); a cut takes out of them what would have been
counted from its begin to its end. Most meters of a field were never cut off and have none of this.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from concentrator_sim.shapes import I8

_NOTHING: Final = (0, 0, 0, 0)


class Cuts:
    """Spans [begin, end) in Unix seconds in which nothing flowed, in order; the last may still last.

    ``metered`` gives all four registers at a moment, as they would be had there been no cut.
    """

    __slots__ = ("_begins", "_begun", "_ends", "_metered", "_missing")

    def __init__(self, metered: Callable[[int], Sequence[int]]) -> None:
        self._metered = metered
        self._begins: list[int] = []
        self._ends: list[int] = []
        #: by cut: registers at its begin, and what all cuts up to its end have taken out
        self._begun: list[Sequence[int]] = []
        self._missing: list[Sequence[int]] = []

    def begin(self, at_s: int) -> None:
        """Cut off from now on, unless he is. Raises ValueError outside of the years 2020 to 2069."""
        if len(self._begins) == len(self._ends):
            at_s = max(at_s, self._ends[-1] if self._ends else at_s)
            self._begun.append(self._metered(at_s))
            self._begins.append(at_s)

    def end(self, at_s: int) -> None:
        """Connected again, unless he is. Raises as `begin`."""
        if len(self._begins) > len(self._ends):
            at_s = max(at_s, self._begins[-1])
            now, begun = self._metered(at_s), self._begun[-1]
            before = self._missing[-1] if self._missing else _NOTHING
            self._missing.append([old + is_ - was for old, is_, was in zip(before, now, begun, strict=True)])
            self._ends.append(at_s)

    def lasts(self, at_s: int) -> bool:
        """Whether he is cut off at a moment."""
        place = bisect_right(self._begins, at_s) - 1
        return place >= 0 and (place == len(self._ends) or at_s < self._ends[place])

    def missing(self, quantity: int, at_s: int, metered: int) -> int:
        """What was not counted up to a moment, of a register that would be ``metered`` then."""
        place = bisect_right(self._begins, at_s) - 1
        if place < 0:
            return 0
        if place < len(self._ends) and at_s >= self._ends[place]:
            return self._missing[place][quantity]
        before = self._missing[place - 1][quantity] if place else 0
        return before + metered - self._begun[place][quantity]

    def missing_at(self, moments: I8, metered: I8) -> I8:
        """`missing` for all registers at rising ``moments``; a row for each register, as in ``metered``."""
        missing = np.zeros_like(metered)
        if not len(moments):
            return missing
        first = max(0, bisect_right(self._ends, int(moments[0])) - 1)
        for place in range(first, bisect_right(self._begins, int(moments[-1]))):
            begin = int(np.searchsorted(moments, self._begins[place]))
            end = len(moments)
            if place < len(self._ends):
                end = int(np.searchsorted(moments, self._ends[place]))
                missing[:, end:] = np.array(self._missing[place])[:, None]
            before = np.array(self._missing[place - 1] if place else _NOTHING)
            missing[:, begin:end] = metered[:, begin:end] + (before - self._begun[place])[:, None]
        return missing
