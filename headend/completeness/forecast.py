"""How complete it will be by the deadline: a pure function of what is under way.

The method, in three factors for each group of open requests (one lane, one number of their next attempt):

- *served*: the part of the lane's open requests that will be settled by the deadline, at the pace at which
  the lane settled requests lately; a lane that settled too few is taken to be as fast as others on average;
- *success*: that one of the attempts that are left gives everything: 1 - product of (1 - p_n), where p_n is
  the observed part of good attempts of number n; one with too few attempts is taken as the number before;
- *intervals* that lack at their meters.

Lanes are independent of each other, and slow ones are not averaged away. Nothing is forecast where there were
too few attempts, or no lane has settled anything: ``reason`` then says so.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from headend.store.completeness import Ahead, Group, LanePace, Successes, Work

#: Fewer attempts than these say nothing: in all, and of one number.
ENOUGH_ATTEMPTS: Final = 30
ENOUGH_OF_NUMBER: Final = 10
#: Requests that a lane must have settled for its own pace to count.
ENOUGH_SETTLED: Final = 3


@dataclass(frozen=True, slots=True)
class Forecast:
    """``intervals`` of those expected will be there at ``at`` (aware UTC), which is ``ratio`` of them; both
    None where ``reason`` says why nothing can be said."""

    at: datetime | None
    intervals: int | None
    ratio: float | None
    reason: str | None = None


def forecast(now: Group, work: Work | None, *, left_s: float) -> Forecast:
    """The forecast for what ``now`` counts; ``left_s`` seconds are left until the deadline of ``work``."""
    if work is None:
        return Forecast(None, None, None, "no run of a schedule is under way")
    if not now.expected:
        return Forecast(work.deadline, None, None, "nothing is expected")
    if not work.ahead:
        return Forecast(work.deadline, now.present, now.ratio)
    chances = _chances(work.successes)
    if chances is None:
        made = sum(one.made for one in work.successes)
        return Forecast(
            work.deadline, None, None, f"too little is known yet: {made} attempts of {ENOUGH_ATTEMPTS}"
        )
    served = _served(work.ahead, work.pace, max(0.0, left_s))
    if served is None:
        return Forecast(work.deadline, None, None, "too little is known yet: no lane has settled a request")
    gain = sum(
        one.intervals * served[one.lane] * _success(chances, one.attempt, one.attempts) for one in work.ahead
    )
    intervals = now.present + min(round(gain), now.open)
    return Forecast(work.deadline, intervals, intervals / now.expected)


def _chances(successes: Sequence[Successes]) -> Mapping[int, float] | None:
    """The observed part of good attempts by their number, those with too few left out; None: all too few."""
    if sum(one.made for one in successes) < ENOUGH_ATTEMPTS:
        return None
    enough = {one.attempt: one.good / one.made for one in successes if one.made >= ENOUGH_OF_NUMBER}
    if enough:
        return enough
    return {1: sum(one.good for one in successes) / sum(one.made for one in successes)}


def _success(chances: Mapping[int, float], attempt: int, attempts: int) -> float:
    """That one of the attempts from ``attempt`` to the last of ``attempts`` is good. One is always left: an
    open request will be tried."""
    fails = 1.0
    for number in range(attempt, max(attempt, attempts) + 1):
        known = [one for one in chances if one <= number]
        fails *= 1 - chances[max(known) if known else min(chances)]
        if fails < 1e-9:
            break
    return 1 - fails


def _served(ahead: Sequence[Ahead], pace: Sequence[LanePace], left_s: float) -> Mapping[str, float] | None:
    """What part of each lane's open requests is settled in ``left_s``; None where no pace is known."""
    waiting: dict[str, int] = defaultdict(int)
    for one in ahead:
        waiting[one.lane] += one.requests
    working = [one for one in pace if one.seconds > 0]
    settled = sum(one.settled for one in working)
    seconds = sum(one.seconds for one in working)
    if not settled:
        return None
    usual = settled / seconds
    rates = {one.lane: one.settled / one.seconds for one in working if one.settled >= ENOUGH_SETTLED}
    return {
        lane: min(1.0, rates.get(lane, usual) * left_s / count) if count else 1.0
        for lane, count in waiting.items()
    }
