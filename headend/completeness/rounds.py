"""The round that keeps completeness: every few minutes, on one host at a time, whichever comes first.

::

    contract of the models in use ─> change feed folded ─> gaps settled ─> reports of runs, with their gaps
                                                     ─> gaps opened for what is overdue ─> back-fill
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from headend.clock import utc_now
from headend.completeness import contract, report
from headend.completeness.backfill import Wake, plan_backfill
from headend.completeness.contract import Curves
from headend.session.access import Connect
from headend.store import completeness, gaps, reports
from headend.store.errors import UnavailableError

log = logging.getLogger(__name__)

#: A round begins up to this part of the period early or late.
_JITTER: Final = 0.1
#: Reports that one round makes at most, and how far back runs are looked at.
_REPORTS: Final = 20
_REPORTED: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class GapPolicy:
    """An interval is a gap ``overdue`` after its end (or when the run that was to bring it says so), and is
    looked for as far back as ``horizon``."""

    overdue: timedelta = timedelta(hours=24)
    horizon: timedelta = timedelta(days=35)


@dataclass(frozen=True, slots=True)
class Round:
    """What one round did: gaps opened or grown, gaps closed, reports made, meters asked by a back-fill;
    ``alone`` false: another host is at it, and nothing was done."""

    alone: bool = True
    opened: int = 0
    closed: int = 0
    reports: int = 0
    asked: int = 0


class Rounds:
    """``await Rounds(...).run(period_s)`` ends by cancellation only.

    Args:
        connect: gives a database connection.
        curves_of: the curves of a model; raises ModelError.
        forwards: whether stations of a model keep their meters' curves and hand them on.
        wake: wakes lanes in the transaction that gave them requests.
        forwarded: how long such a station has, until its meter is asked itself.
        now: aware, UTC.
    """

    def __init__(
        self,
        connect: Connect,
        curves_of: Curves,
        forwards: Callable[[str | None], bool],
        wake: Wake,
        *,
        forwarded: timedelta = timedelta(0),
        policy: GapPolicy | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._connect = connect
        self._curves_of = curves_of
        self._forwards = forwards
        self._wake = wake
        self._forwarded = forwarded
        self._policy = GapPolicy() if policy is None else policy
        self._now = now

    async def run(self, period_s: float) -> None:
        """A round at once, and again every ``period_s`` seconds. A database that is away costs a round."""
        while True:
            try:
                done = await self.once()
            except UnavailableError as error:
                log.error("this round is left out, the database is away: %s", str(error).split("\n", 1)[0])  # noqa: TRY400
            else:
                if any((done.opened, done.closed, done.reports, done.asked)):
                    log.info(
                        "completeness: %d gaps opened, %d closed, %d reports, %d meters asked again",
                        done.opened,
                        done.closed,
                        done.reports,
                        done.asked,
                    )
            await asyncio.sleep(period_s * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - no secret

    async def once(self) -> Round:
        """One round. Each step is a transaction of its own. Raises UnavailableError."""
        async with self._connect() as connection:
            await contract.keep(connection, self._curves_of)
        while not await self._folded():
            pass
        now, policy = self._now(), self._policy
        async with self._connect() as connection:
            if not await completeness.alone(connection):
                return Round(alone=False)
            await gaps.learn(connection)
            closed = await gaps.settle(connection, now=now, horizon=now - policy.horizon)
        made = await self._report(now)
        async with self._connect() as connection:
            if not await completeness.alone(connection):
                return Round(closed=closed, reports=made)
            opened = await gaps.open_missing(connection, now - policy.horizon, now - policy.overdue, now=now)
            asked = await plan_backfill(
                connection, now, self._wake, forwards=self._forwards, forwarded=self._forwarded
            )
        return Round(opened=opened, closed=closed, reports=made, asked=asked)

    async def _folded(self) -> bool:
        async with self._connect() as connection:
            return await completeness.fold(connection)

    async def _report(self, now: datetime) -> int:
        """Make the reports that are due, each in a transaction of its own; how many."""
        async with self._connect() as connection:
            due = await reports.due(connection, now=now, oldest=now - _REPORTED, limit=_REPORTS)
        made = 0
        for one in due:
            async with self._connect() as connection:
                if await completeness.alone(connection):
                    made += await report.make(connection, one, now=now) is not None
        return made
