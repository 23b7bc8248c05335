"""What is worth another try, decided in this one place; and the tries, each after a random wait."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from headend.links.opened import BreakerOpen
from protocols.dlms.enums import AssociationResult, DataAccessResult
from protocols.errors import (
    ActionRefused,
    AssociationRejected,
    DataAccessRefused,
    LinkError,
    ModbusRefused,
)

T = TypeVar("T")

#: Refusals that say "not now". DataAccessResult and ActionResult number them alike; a long transfer that the
#: meter gave up (15) may be asked for anew.
_NOT_NOW = frozenset({DataAccessResult.TEMPORARY_FAILURE, DataAccessResult.LONG_GET_ABORTED})

#: Exceptions of Modbus that say so: still at work on an earlier request, busy.
_MODBUS_NOT_NOW = frozenset({5, 6})


class Verdict(StrEnum):
    """Whether the same request may do better later."""

    TRANSIENT = "transient"
    FATAL = "fatal"


def classify(exc: BaseException) -> Verdict:
    """Transient: the link failed, or the meter said "not now". Everything else would fail again; an open
    breaker does until its time has come, and by then there is another round.

    A peer that breaks the standard or fails a cryptographic check does so on purpose or by defect: asking
    again costs invocation counters and airtime, and on some meters locks the client out.
    """
    if isinstance(exc, BreakerOpen):
        return Verdict.FATAL
    if isinstance(exc, LinkError):
        return Verdict.TRANSIENT
    if isinstance(exc, AssociationRejected):
        return Verdict.TRANSIENT if exc.result == AssociationResult.REJECTED_TRANSIENT else Verdict.FATAL
    if isinstance(exc, DataAccessRefused | ActionRefused):
        return Verdict.TRANSIENT if exc.result in _NOT_NOW else Verdict.FATAL
    if isinstance(exc, ModbusRefused):
        return Verdict.TRANSIENT if exc.code in _MODBUS_NOT_NOW else Verdict.FATAL
    return Verdict.FATAL


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """``attempts`` in all. Before attempt n+1 a wait drawn from [0, min(longest_s, first_s x 2**(n-1))].

    Full jitter, drawn anew each time: after an outage a whole feeder's meters fail together and must not come
    back together.
    """

    attempts: int = 3
    first_s: float = 2.0
    longest_s: float = 60.0


async def retrying(
    call: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    *,
    deadline: float | None = None,
    on_retry: Callable[[int, BaseException], None] | None = None,
) -> T:
    """Await ``call()`` until it succeeds; the last error comes out as it is.

    ``on_retry(attempt, error)`` is told of each failure that another attempt follows. ``deadline`` is loop
    time; no attempt begins after it.
    """
    attempt = 1
    while True:
        try:
            return await call()
        except Exception as error:
            if attempt >= policy.attempts or classify(error) is Verdict.FATAL:
                raise
            bound = min(policy.longest_s, policy.first_s * 2 ** min(attempt - 1, 32))
            wait_s = random.uniform(0, bound)  # noqa: S311 - jitter, no secret
            if deadline is not None and asyncio.get_running_loop().time() + wait_s >= deadline:
                raise
            if on_retry is not None:
                on_retry(attempt, error)
        await asyncio.sleep(wait_s)
        attempt += 1
