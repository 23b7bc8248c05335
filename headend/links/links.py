"""The one door to meters: whoever talks with one does it in a conversation that is opened here.

::

    conversation(driver, way) ──> breakers ──> permits ──> breakers ──> driver.open(answer_s of pace) ──> talk
                                   │ (asked again: the wait was long)                                     │
                                   └── BreakerOpen        breakers, pace, limits and metrics learn <───────┘
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

from headend.drivers.contract import Conversation, Driver, Way
from headend.links.breaker import Attempt, Breakers
from headend.links.failures import stage_of
from headend.links.limits import Allowances, Limits
from headend.links.opened import BreakerOpen, Kind, Subject
from headend.links.pace import Pace
from headend.links.permits import Holding, Permits, Urgency
from headend.observe.metrics import ANSWERED, OURS, REFUSED, Metrics
from protocols.errors import CommunicationError
from schemas.address import Scheme
from schemas.failure import Stage

#: Looking up a member of an enumeration costs 0.2 us in Python 3.11: not in each conversation.
_INBOUND, _TIMEOUT, _PROBE, _METER, _STATION = (
    Scheme.INBOUND,
    Stage.TIMEOUT,
    Urgency.PROBE,
    Kind.METER,
    Kind.STATION,
)


class Links:
    """All ways to meters: polite to each, and told by what they came to."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        breakers: Breakers | None = None,
        pace: Pace | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.limits = Allowances(Limits() if limits is None else limits)
        self.permits = Permits()
        self.breakers = Breakers() if breakers is None else breakers
        self.pace = Pace() if pace is None else pace
        metrics = Metrics() if metrics is None else metrics
        # a label is looked up once, and not in each conversation
        self._outcomes = cache(metrics.conversations.labels)
        self._lengths = cache(metrics.conversation_seconds.labels)
        self._waits = {one: metrics.permit_wait_seconds.labels(one.name.lower()) for one in Urgency}
        self._holdings: dict[int, Holding] = {}

    def expects_answer(self, way: Way) -> bool:
        """Whether no breaker on the way is open."""
        try:
            return not self.breakers.check(*subjects_of(way))
        except BreakerOpen:
            return False

    def wanted(self, way: Way) -> bool:
        """Whether a person waits for what the conversation with this meter holds, so that it should end soon:
        to be asked between two exchanges, as often as one likes.

        Of several conversations that hold what he waits for one is told; of those of people none.
        False too where there is no conversation with the meter.
        """
        holding = self._holdings.get(way.target.meter.meter_id)
        return holding is not None and holding.wanted

    def crowded(self, way: Way) -> bool:
        """Whether readings wait for what the conversation with this meter holds, so that one that may take
        long, a program, should not."""
        holding = self._holdings.get(way.target.meter.meter_id)
        return holding is not None and holding.crowded

    @asynccontextmanager
    async def conversation(
        self, driver: Driver, way: Way, *, urgency: Urgency = Urgency.SCHEDULED, force: bool = False
    ) -> AsyncIterator[Conversation]:
        """A conversation with the meter at the end of ``way``, when its permits are free. With ``force`` an
        open breaker is no hindrance.

        Errors that leave the body are taken for the meter's. Raises the tree of `protocols.errors`, of it
        BreakerOpen.
        """
        clock = asyncio.get_running_loop().time
        meter_id, (subject, behind) = way.target.meter.meter_id, subjects_of(way)
        force = force or way.address.scheme is _INBOUND
        try:
            if self.breakers.check(subject, behind, force=force) and urgency > _PROBE:
                urgency = _PROBE
            began = clock()
            async with self.permits.hold(self.limits.permits(way), urgency) as holding:
                admitted = clock()
                self._waits[urgency].observe(admitted - began)
                attempt = self.breakers.admit(subject, behind, force=force, failures=self._failures(way))
                self._holdings[meter_id] = holding
                conversation: Conversation | None = None
                failed: BaseException | None = None
                try:
                    async with driver.open(way, answer_s=self._patience_s(way, attempt)) as conversation:
                        yield conversation
                except BaseException as error:
                    failed = error
                    raise
                finally:
                    del self._holdings[meter_id]
                    took_s = clock() - admitted
                    outcome = self._learn(way, attempt, conversation, failed, took_s)
                    self._outcomes(driver.names[0], outcome).inc()
                    self._lengths(driver.names[0]).observe(took_s)
        except BreakerOpen:
            self._outcomes(driver.names[0], REFUSED).inc()
            raise

    def _patience_s(self, way: Way, attempt: Attempt) -> float | None:
        target = way.target
        return self.pace.answer_s(
            target.meter.meter_id, target.place, on_line=way.address.is_shared, probe=attempt.is_probe
        )

    def _learn(
        self,
        way: Way,
        attempt: Attempt,
        conversation: Conversation | None,
        failed: BaseException | None,
        took_s: float,
    ) -> str:
        """What the conversation teaches, and what it came to. Its permits are still held."""
        meter_id, place = way.target.meter.meter_id, way.target.place
        answers_s = () if conversation is None else conversation.answers_s
        stage = stage_of(failed) if isinstance(failed, CommunicationError) else None
        fell_silent = False
        if stage is _TIMEOUT:
            fell_silent = not answers_s and not self.breakers.has_failed(attempt.subject)
        self.limits.ended(way, answers_s, self.permits, fell_silent=fell_silent)
        self.pace.answered(meter_id, place, answers_s)
        if stage is _TIMEOUT:
            self.pace.timed_out(meter_id)
        # of a meter that dials in it is known whether it is connected: no breaker is needed to let it be
        judged = None if way.address.scheme is _INBOUND else stage
        self._judge(attempt, failed, judged, took_s, answered=bool(answers_s))
        return ANSWERED if failed is None else OURS if stage is None else stage.value

    def _judge(
        self,
        attempt: Attempt,
        failed: BaseException | None,
        stage: Stage | None,
        took_s: float,
        *,
        answered: bool,
    ) -> None:
        if failed is None or (answered and stage is not None):
            self.breakers.answered(attempt)  # who fell silent in the middle is no dead meter
        elif stage is None:
            self.breakers.abandoned(attempt)
        else:
            self.breakers.failed(attempt, stage, str(failed), took_s=took_s)

    def _failures(self, way: Way) -> int | None:
        """A dead slave is timed out once, since all others on its line wait meanwhile; one that has answered
        before is asked once more."""
        if not way.address.is_shared:
            return None
        return 2 if self.pace.knows(way.target.meter.meter_id) else 1


def subjects_of(way: Way) -> tuple[Subject, Subject | None]:
    """Whose breaker it is, and what it is behind, if others are behind it too."""
    meter_id, station_id, address = way.target.meter.meter_id, way.target.place.station_id, way.address
    subject = Subject(_METER, str(meter_id))
    if station_id is not None:
        station = Subject(_STATION, str(station_id))
        # a concentrator that is talked with itself has the negative number of its node
        return (station, None) if meter_id < 0 else (subject, station)
    if not address.is_shared:
        return subject, None
    where = address.device if address.host is None else f"{address.host}:{address.port}"
    return subject, Subject(Kind.LINE, f"{address.scheme}:{where}")
