"""What becomes of a request after an attempt that failed: pure functions of the error, policy and time."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from headend.links.failures import stage_of
from headend.links.opened import BreakerOpen
from headend.session.retry import Verdict, classify
from headend.store.requests import Settled, Waiting
from schemas.job import RequestState, Retry

#: After an error of our own (the database, the end of the service) it is looked again within so many seconds.
OURS_S: Final = 10.0
#: Requests that wait for a breaker come back within so many seconds after its time, not all at once.
SPREAD_S: Final = 10.0
#: A meter that dials in is waited for, looked for so often where nobody tells us that it came.
AWAY_S: Final = 300.0
#: Why a request waits whose meter is not connected.
AWAY: Final = "it dials in and is not connected"

Draw = Callable[[float], float]


def uniform(bound: float) -> float:
    """A number in [0, bound]."""
    return random.uniform(0, bound)  # noqa: S311 - jitter, not a secret


def after_failure(
    one: Waiting, error: BaseException, retry: Retry, now: datetime, draw: Draw = uniform
) -> Settled:
    """Open again later, or closed as failed.

    * An open breaker: again after its time. No attempt was made, so none is counted.
    * A transient failure: again after a wait drawn from [0, min(longest_s, first_s x 2**(n-1))], while the
      policy has attempts left and the drop-dead time is not reached by then.
    * Everything else would fail again: failed.
    """
    stage, reason = stage_of(error), told(error)
    if isinstance(error, BreakerOpen):
        at = max(error.until, now) + timedelta(seconds=draw(SPREAD_S))
        return Settled(
            one.request_id, RequestState.OPEN, counts=False, next_at=at, stage=stage, reason=reason
        )
    done = one.attempts + 1
    if classify(error) is Verdict.TRANSIENT and done < retry.attempts:
        bound = min(retry.longest_s, retry.first_s * 2 ** min(done - 1, 32))
        at = now + timedelta(seconds=draw(bound))
        if at < one.drop_dead:
            return Settled(one.request_id, RequestState.OPEN, next_at=at, stage=stage, reason=reason)
    return Settled(one.request_id, RequestState.FAILED, stage=stage, reason=reason)


def after_ours(one: Waiting, error: BaseException, now: datetime, draw: Draw = uniform) -> Settled:
    """Nothing was wrong with the meter: again soon, not counted."""
    at = now + timedelta(seconds=draw(OURS_S))
    return Settled(one.request_id, RequestState.OPEN, counts=False, next_at=at, reason=told(error))


def away(one: Waiting, now: datetime, draw: Draw = uniform) -> Settled:
    """The meter dials in and is not connected: waited for, not counted."""
    at = now + timedelta(seconds=AWAY_S / 2 + draw(AWAY_S / 2))
    return Settled(one.request_id, RequestState.OPEN, counts=False, next_at=at, reason=AWAY)


def told(error: BaseException) -> str:
    """One line."""
    return str(error).split("\n", 1)[0] or type(error).__name__
