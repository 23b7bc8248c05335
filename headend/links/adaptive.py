"""How many conversations at once a shared medium carries, found from how long its round trips take.

::

    round trips ──> strain of each: (it − floor) / slack ──> mean of a window ──> limit
                                          ^                                        │
                                          └── the smallest mean that was seen      └──> conversations at once

The idea is that of Vegas (Brakmo, Peterson) and LEDBAT (RFC 6817): what a round trip takes beyond what it
takes on an idle medium is time in a queue, and more conversations only make that longer. The limit grows
while it is used and round trips stay near the floor, and shrinks by `SHRINK` where they do not. Until it has
shrunk for the first time it doubles; then it grows by an eighth, and by one where half of the slack is taken.

The slack is a share of the floor, or a time where that is longer: on a medium of k at once whose round trips
may take half as long again it is found between k and 1.5 k; on one that is fast the time is what counts.

A time-out is taken as the longest round trip: a quarter of time-outs in a window shrinks the limit.

Round trips also become longer without any queue of ours. Where a shrunk limit did not make them shorter the
floor goes up half of the way: some windows later the limit grows again.
"""

from typing import Final

from headend.links.permits import for_all

#: A strained window leaves so much of the limit.
SHRINK: Final = 0.7
#: No single round trip is taken for more strain: one that took for ever is one of many.
MOST_STRAIN: Final = 4.0
#: Round trips of one window at least, once the limit has shrunk for the first time.
WINDOW: Final = 16
#: The same before.
FIRST_WINDOW: Final = 4
#: Shrinking has not helped where the mean is between so much of what it was and its inverse: where it still
#: rises nothing can be said yet.
_HELPED: Final = 0.85


class Adaptive:
    """A `headend.links.permits.Limited` between 1 and ``most``. Without I/O and without a clock.

    Args:
        most: the limit is never above it.
        first: the limit before anything is measured; the floor is what round trips take then.
        slack_s, slack: round trips may be longer than the floor by so many seconds, or by that share of it,
            whichever is longer.
    """

    __slots__ = (
        "_before_s",
        "_count",
        "_draining",
        "_long_s",
        "_most",
        "_own",
        "_own_s",
        "_ramping",
        "_slack",
        "_slack_s",
        "_strain",
        "_used",
        "_window",
        "floor_s",
        "for_all",
        "limit",
    )

    def __init__(self, most: int, *, first: int, slack_s: float, slack: float) -> None:
        self.limit = min(first, most)
        self.for_all = for_all(self.limit)
        #: seconds of a round trip where nobody else is there, as far as it was seen; None: nothing measured
        self.floor_s: float | None = None
        self._most = most
        self._slack_s = slack_s
        self._slack = slack
        self._long_s = slack_s / slack  # of a floor that is longer the share is longer than the seconds
        self._ramping = True
        self._before_s: float | None = None  # the mean of the window after which the limit shrank
        self._draining = False  # these conversations began under a larger limit and are not judged
        self._begin(max(FIRST_WINDOW, self.limit))

    def _begin(self, window: int) -> None:
        self._window = window
        self._count = self._own = self._used = 0
        self._strain = self._own_s = 0.0

    def answered(self, round_trip_s: float, used: int, floor_s: float | None = None) -> None:
        """A conversation ended whose round trips took ``round_trip_s`` on average, while ``used`` were under
        way.

        ``floor_s``: what they take on an idle medium is known better; it is not this limit's own floor then.
        """
        if floor_s is None:
            self._own += 1
            self._own_s += round_trip_s
            floor_s = self.floor_s
            if floor_s is None:
                floor_s = round_trip_s
        slack_s = floor_s * self._slack if floor_s > self._long_s else self._slack_s
        self._take((round_trip_s - floor_s) / slack_s, used)

    def timed_out(self, used: int) -> None:
        """A conversation ended without an answer, where one was expected."""
        self._take(MOST_STRAIN, used)

    def unmeasured(self, used: int) -> None:
        """A conversation ended of which no round trip is known: that speaks neither for nor against."""
        self._take(0.0, used)

    def _take(self, strain: float, used: int) -> None:
        self._strain += min(strain, MOST_STRAIN)
        if used > self._used:
            self._used = used
        self._count += 1
        if self._count < self._window:
            return
        if self._draining:
            self._draining = False
        else:
            self._decide(self._strain / self._count, self._own_s / self._own if self._own else None)
        if self._draining:
            self._begin(self._used)
        else:
            self._begin(max(FIRST_WINDOW, self.limit) if self._ramping else max(WINDOW, 2 * self.limit))

    def _decide(self, strain: float, mean_s: float | None) -> None:
        if mean_s is not None:
            self._learn(mean_s)
        if strain <= 1:
            self._before_s = None
            if self._used >= self.for_all:
                self._grow(strain)
            return
        self._before_s = mean_s
        if 2 * self._used >= self.limit:  # else it is not the limit that makes them many
            self._shrink()

    def _learn(self, mean_s: float) -> None:
        before_s = self._before_s
        if self.floor_s is None:
            self.floor_s = mean_s
        elif mean_s < self.floor_s or (
            before_s is not None and before_s * _HELPED < mean_s < before_s / _HELPED
        ):
            # shorter than ever; or shrinking did not help: it is not our queue, or not that alone
            self.floor_s = (self.floor_s + mean_s) / 2

    def _shrink(self) -> None:
        self._ramping = False
        self._draining = True
        self._set(max(1, min(self.limit - 1, round(self.limit * SHRINK))))

    def _grow(self, strain: float) -> None:
        if self._ramping:
            step = self.limit
        elif strain < 0.5:
            step = max(1, self.limit // 8)
        else:
            step = 1
        self._set(min(self._most, self.limit + step))

    def _set(self, limit: int) -> None:
        self.limit, self.for_all = limit, for_all(limit)
