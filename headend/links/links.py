"""The one door to meters: whoever talks with one does it in a conversation that is opened here.

::

    conversation(driver, way) ──> breakers ──> permits ──> breakers ──> driver.open(answer_s of pace) ──> talk
                                   │ (asked again: the wait was long)                                     │
                                   └── BreakerOpen                breakers, pace and metrics learn <───────┘
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from headend.drivers.contract import Conversation, Driver, Way
from headend.links.breaker import Attempt, Breakers
from headend.links.failures import stage_of
from headend.links.opened import BreakerOpen, Kind, Subject
from headend.links.pace import Pace
from headend.links.permits import Permit, Permits, Urgency
from headend.observe.metrics import ANSWERED, OURS, REFUSED, Metrics
from protocols.errors import CommunicationError
from schemas.address import Scheme
from schemas.failure import Stage
from schemas.network import LinkKind


@dataclass(frozen=True, slots=True)
class Limits:
    """Conversations at once: ``most`` in all, behind one station, in one cell (transformer, else feeder), and
    over all links of a kind, where it is named. With one meter and on one line it is always one."""

    most: int = 256
    station: int = 4
    cell: int = 16
    kinds: Mapping[LinkKind, int] = field(default_factory=dict)


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
        self._limits = Limits() if limits is None else limits
        self.permits = Permits()
        self.breakers = Breakers() if breakers is None else breakers
        self.pace = Pace() if pace is None else pace
        self._metrics = Metrics() if metrics is None else metrics

    def expects_answer(self, way: Way) -> bool:
        """Whether no breaker on the way is open."""
        try:
            return not self.breakers.check(*_subjects(way))
        except BreakerOpen:
            return False

    @asynccontextmanager
    async def conversation(
        self, driver: Driver, way: Way, *, urgency: Urgency = Urgency.SCHEDULED, force: bool = False
    ) -> AsyncIterator[Conversation]:
        """A conversation with the meter at the end of ``way``, when its permits are free. With ``force`` an
        open breaker is no hindrance.

        Errors that leave the body are taken for the meter's. Raises the tree of `protocols.errors`, of it
        BreakerOpen.
        """
        loop = asyncio.get_running_loop()
        name, (subject, behind) = driver.names[0], _subjects(way)
        force = force or way.address.scheme is Scheme.INBOUND
        try:
            if self.breakers.check(subject, behind, force=force):
                urgency = min(urgency, Urgency.PROBE)
            began = loop.time()
            async with self.permits.hold(self._permits(way), urgency):
                self._metrics.permit_wait_seconds.labels(urgency.name.lower()).observe(loop.time() - began)
                attempt = self.breakers.admit(subject, behind, force=force, failures=self._failures(way))
                async with self._talk(driver, way, attempt) as conversation:
                    yield conversation
        except BreakerOpen:
            self._metrics.conversations.labels(name, REFUSED).inc()
            raise

    @asynccontextmanager
    async def _talk(self, driver: Driver, way: Way, attempt: Attempt) -> AsyncIterator[Conversation]:
        """The conversation, and what is learnt of it."""
        loop = asyncio.get_running_loop()
        meter_id, place = way.target.meter.meter_id, way.target.place
        patience_s = self.pace.answer_s(
            meter_id, place, on_line=way.address.is_shared, probe=attempt.is_probe
        )
        began = loop.time()
        conversation: Conversation | None = None
        failed: BaseException | None = None
        try:
            async with driver.open(way, answer_s=patience_s) as conversation:
                yield conversation
        except BaseException as error:
            failed = error
            raise
        finally:
            answers_s = () if conversation is None else conversation.answers_s
            self.pace.answered(meter_id, place, answers_s)
            stage = stage_of(failed) if isinstance(failed, CommunicationError) else None
            if stage is Stage.TIMEOUT:
                self.pace.timed_out(meter_id)
            took_s = loop.time() - began
            # of a meter that dials in it is known whether it is connected: no breaker is needed to let it be
            judged = None if way.address.scheme is Scheme.INBOUND else stage
            self._judge(attempt, failed, judged, took_s, answered=bool(answers_s))
            outcome = ANSWERED if failed is None else OURS if stage is None else stage.value
            self._metrics.conversations.labels(driver.names[0], outcome).inc()
            self._metrics.conversation_seconds.labels(driver.names[0]).observe(took_s)

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

    def _permits(self, way: Way) -> list[Permit]:
        limits, place, line = self._limits, way.target.place, way.address.line
        found = [Permit(("meter", way.target.meter.meter_id), 1), Permit("all", limits.most)]
        if line is not None:
            found.append(Permit(("line", line), 1))
        if place.station_id is not None:
            found.append(Permit(("station", place.station_id), limits.station))
        cell = place.transformer or place.feeder
        if cell is not None:
            found.append(Permit(("cell", place.feeder, cell), limits.cell))
        if place.link is not None and place.link in limits.kinds:
            found.append(Permit(("kind", place.link), limits.kinds[place.link]))
        return found


def _subjects(way: Way) -> tuple[Subject, Subject | None]:
    """Whose breaker it is, and what it is behind, if others are behind it too."""
    meter_id, station_id, address = way.target.meter.meter_id, way.target.place.station_id, way.address
    subject = Subject(Kind.METER, str(meter_id))
    if station_id is not None:
        station = Subject(Kind.STATION, str(station_id))
        # a concentrator that is talked with itself has the negative number of its node
        return (station, None) if meter_id < 0 else (subject, station)
    if not address.is_shared:
        return subject, None
    where = address.device if address.host is None else f"{address.host}:{address.port}"
    return subject, Subject(Kind.LINE, f"{address.scheme}:{where}")
