"""P1 behind the contract: the next telegram whose check holds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from headend.drivers.contract import Conversation, Way
from headend.drivers.line import let_go, open_line
from headend.drivers.line_driver import Answers, LineDriver, LineTiming, LineWay, silent, way_of
from headend.drivers.samples import Value, plain
from headend.drivers.told import Told, ToldConversation
from headend.transport.stream import Stream
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.framing import BadFrame
from protocols.errors import LinkTimeout, RemoteProtocolError
from protocols.iec62056_21 import p1_objects
from protocols.iec62056_21.p1 import P1Reader, P1Telegram
from protocols.iec62056_21.p1_objects import POWER_FAILURES, P1Value
from schemas.address import Scheme
from schemas.event import EventLog, EventMeaning, MeterEvent

_BAUD: Final = 115200
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)


class P1Driver(LineDriver):
    """The `headend.drivers.contract.Driver` of P1 ports. Telegrams come every second (version 5) or ten."""

    language = "p1"
    schemes = frozenset({Scheme.P1_TCP, Scheme.P1_SERIAL})
    timing = LineTiming(answer_s=25.0)

    @asynccontextmanager
    async def open(self, way: Way, *, answer_s: float | None = None) -> AsyncIterator[Conversation]:
        """The port. ``answer_s`` shortens nothing: telegrams come when they come. Raises LinkError."""
        line, timing = way_of(way), self._timing
        stream = await open_line(line.address, connect_s=timing.connect_s, baud=_BAUD, parity="N")
        patience = max(timing.answer_s, answer_s or 0.0)
        port = _Port(stream, line, patience)

        async def tell() -> Told:
            telegram = await port.next()
            return told(telegram, line, self._now())

        try:
            yield ToldConversation(line, tell, port.answers, self._now)
        finally:
            await let_go(stream)


class _Port:
    """Telegrams of one port, as they come."""

    def __init__(self, stream: Stream, way: LineWay, patience_s: float) -> None:
        self._stream = stream
        self._way = way
        self._patience_s = patience_s
        self._reader = P1Reader()
        self.answers = Answers()

    async def next(self) -> P1Telegram:
        """The next whole telegram; spoilt ones are passed over. Raises LinkTimeout, LinkClosed, and
        RemoteProtocolError where only spoilt ones came."""
        deadline = asyncio.get_running_loop().time() + self._patience_s
        self.answers.asked()
        spoilt: str | None = None
        while True:
            while (found := self._reader.next()) is not None:
                if not isinstance(found, BadFrame):
                    self.answers.came()
                    return found
                spoilt = found.reason
            try:
                self._reader.feed(await self._stream.read_some(deadline))
            except LinkTimeout as exc:
                self._reader.end()
                while isinstance(found := self._reader.next(), BadFrame):
                    spoilt = found.reason
                if spoilt is not None:
                    raise RemoteProtocolError(f"{self._way}: no good telegram: {spoilt}") from exc
                raise silent(str(self._way), self._patience_s) from exc


def told(telegram: P1Telegram, way: LineWay, at: datetime) -> Told:
    """What a telegram tells. Its values have its own time, the power failures of its log are events."""
    objects = p1_objects.read(telegram)
    own = _moment(objects.time, way)
    values: list[Value] = []
    events: list[MeterEvent] = []
    for one in objects.values:
        if POWER_FAILURES in one.name and one.time is not None:
            event = _failure(one, way, at)
            if event is not None:
                events.append(event)
            continue
        values.append(_value(one, way, own))
    problems = tuple(f"at {offset}: {reason}" for offset, reason in objects.problems)
    return Told(at, tuple(values), tuple(events), problems)


def _value(one: P1Value, way: LineWay, own: datetime | None) -> Value:
    name = way.model.codes.get(one.name) or (one.name if one.obis is None else str(one.obis))
    when = _moment(one.time, way) or own
    if isinstance(one.value, Decimal):
        number, unit = plain(one.value, one.unit)
        return Value(name, number, None, unit, when)
    return Value(name, None, None if one.value is None else str(one.value), one.unit, when)


def _failure(one: P1Value, way: LineWay, at: datetime) -> MeterEvent | None:
    """A row of 1-0:99.97.0: its stamp is the end of the failure, its value the seconds that it took."""
    ended = _moment(one.time, way)
    if ended is None or not isinstance(one.value, Decimal):
        return None
    return MeterEvent(
        way.target.meter.meter_id,
        EventLog.POWER_FAILURE,
        EventMeaning.POWER_FAILURE,
        None,
        (ended - _EPOCH) // _US,
        (at - _EPOCH) // _US,
        str(way),
        int(one.value),
    )


def _moment(time: CosemDateTime | None, way: LineWay) -> datetime | None:
    """None where the meter tells none, or one that its zone cannot place."""
    if time is None:
        return None
    try:
        return time.to_utc(zone=way.model.tz)
    except RemoteProtocolError:
        return None
