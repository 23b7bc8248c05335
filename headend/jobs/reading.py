"""One request over an open conversation: its parts are read one after another, and taken off when read."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Final

from headend.drivers.commands.clock import ClockConversation
from headend.drivers.commands.switch import Switchable
from headend.drivers.contract import BillingConversation, Conversation
from headend.jobs.asked import Asked, Log
from headend.jobs.station_outcome import StationOutcome
from headend.programs.contract import Outcome
from headend.store.coverage import Due
from headend.store.switching import BreakerState
from protocols.errors import LocalProtocolError
from schemas.clock import MeterClockReading
from schemas.job import Apply, Billing, Breaker, Clock, Forwarded, Registers
from schemas.read_result import ReadResult
from schemas.reading import ReadingBatch, concatenate

#: Longest range of one question: what was read of a long backlog is kept when the rest fails.
LONGEST: Final = timedelta(days=7)
#: The same where others wait for the same line or station.
LONGEST_SHARED: Final = timedelta(days=1)
#: A billing period is a month; so far back at most reach so many.
_PERIOD: Final = timedelta(days=31)


@dataclass(slots=True)
class Gathered:
    """What came for one request; ``refused`` are pairs of OBIS code and reason."""

    batches: list[ReadingBatch] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    cursors: list[tuple[int, datetime]] = field(default_factory=list)
    station: StationOutcome | None = None
    outcome: Outcome | None = None  # of a program
    clocks: list[MeterClockReading] = field(default_factory=list)
    breakers: list[tuple[int, BreakerState]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Intervals."""
        return sum(map(len, self.batches)) + (0 if self.station is None else self.station.fetched)

    def result(self) -> dict[str, object]:
        """In the words of the API; of a concentrator's round its figures."""
        if self.station is not None:
            return asdict(self.station)
        if not self.batches:
            return ReadResult(refused=()).model_dump(mode="json")
        batch = concatenate(self.batches, source=self.batches[0].source)
        return ReadResult.of(batch, self.refused).model_dump(mode="json")


async def read(
    conversation: Conversation,
    asked: Asked,
    got: Gathered,
    *,
    shared: bool,
    gives_way: Callable[[], bool],
    forwarding: Callable[[Conversation, StationOutcome], Awaitable[None]],
    applying: Callable[[Conversation], Awaitable[Outcome]],
    now: Callable[[], datetime],
) -> bool:
    """Read what is left of ``asked.parts``, into ``got``; False where it stopped since ``gives_way`` said
    that somebody more urgent waits. ``forwarding`` makes a round of a concentrator, ``applying`` applies a
    program: what came of it ends the request, whatever else it has.

    Raises the tree of `protocols.errors`; what was read before is in ``got``.
    """
    longest = LONGEST_SHARED if shared else LONGEST
    meter_id = asked.waiting.meter_id
    while asked.parts:
        match asked.parts[0]:
            case Due(_, profile, since, until) as due:
                while since < until:
                    end = min(until, since + longest)
                    got.batches.append(await conversation.read_load_curve(profile, since, end))
                    since = end
                    if since < until:
                        asked.parts[0] = due._replace(since=since)
                        if gives_way():
                            return False
            case Log() as log:
                got.batches.append(await conversation.read_events(log.since, log.until))
                got.cursors.append((meter_id, log.now))
            case Registers() as registers:
                readout = await conversation.read_registers(registers.obis)
                got.batches.append(readout.batch)
                got.refused += [(one.obis, one.reason) for one in readout.refusals]
            case Billing() as billing:
                if not isinstance(conversation, BillingConversation):
                    raise LocalProtocolError("its language has no billing profiles")
                until = now()
                since = until - billing.periods * _PERIOD
                readout = await conversation.read_billing(billing.obis, since, until)
                got.batches.append(readout.batch)
                got.refused += [(one.obis, one.reason) for one in readout.refusals]
            case Clock():
                if not isinstance(conversation, ClockConversation):
                    raise LocalProtocolError("its language has no clock that can be read")
                got.clocks.append(MeterClockReading(meter_id, await conversation.read_clock(), "read"))
            case Breaker():
                if not isinstance(conversation, Switchable):
                    raise LocalProtocolError("its language has no breaker that can be read")
                found = await conversation.read_breaker()
                state = BreakerState(now(), found.output, found.control, found.mode)
                got.breakers.append((meter_id, state))
            case Forwarded():
                got.station = StationOutcome()
                await forwarding(conversation, got.station)
            case Apply():
                got.outcome = await applying(conversation)
        del asked.parts[0]
        if asked.parts and gives_way():
            return False
    return True
