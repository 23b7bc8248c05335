"""Reading one DL/T 645 meter: identifiers, load records, power failures."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from headend.drivers.contract import Refusal, RegisterReadout, Target
from headend.drivers.dlt645.breaker import Dlt645Breakers
from headend.drivers.dlt645.clock import Dlt645Clocks
from headend.drivers.dlt645.tariff import Dlt645Tariffs
from headend.drivers.line_driver import Answers, LineWay, by_quantity, silent
from headend.drivers.samples import (
    Row,
    Value,
    check_range,
    plain,
    register,
    rows,
    sample,
    wanted_boundary,
)
from headend.transport.stream import Stream
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.obis import Obis
from protocols.dlt645 import conversation as dlt
from protocols.dlt645.control import AbnormalAnswer, ErrorWord
from protocols.dlt645.frame import WILDCARD
from protocols.dlt645.identifiers import DataId, parts
from protocols.dlt645.load_record import LoadRecord, decode_records
from protocols.dlt645.values import Reading, decode
from protocols.errors import LinkTimeout, LocalProtocolError, RemoteProtocolError
from protocols.modbus.values import column_integer
from schemas.event import EventLog, EventMeaning, MeterEvent
from schemas.line_model import LoadRecords
from schemas.reading import INTERVAL_QUANTITIES, Quality, ReadingBatch, RegisterRead, registers_only

_VALUE: Final = 2
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)
#: Bytes of data that one frame carries at most.
MAX_DATA: Final = 255
#: Power failures that a meter keeps (03-11-00-01 the last one, to 0A).
_FAILURES: Final = 10
#: What is newer may still be written: the meter's clock may be slow.
_FRESH: Final = timedelta(hours=24)


class Dlt645Conversation(Dlt645Clocks, Dlt645Breakers, Dlt645Tariffs):
    """One meter's turn on its line, as a `headend.drivers.contract.Conversation`. ``way_to`` is the driver's:
    raises LocalProtocolError."""

    def __init__(
        self,
        stream: Stream,
        way: LineWay,
        *,
        answer_s: float,
        now: Callable[[], datetime],
        way_to: Callable[[Target], LineWay],
    ) -> None:
        super().__init__(way.model, way.address, now)
        self._way_to = way_to
        self._stream = stream
        self._way = way
        self._answer_s = answer_s
        self._answers = Answers()
        self._address = way.address.meter or WILDCARD
        self._broken: str | None = None

    def of(self, target: Target) -> "Dlt645Conversation":
        """See `headend.drivers.commands.clock.LineClockConversation`."""
        way = self._way_to(target)
        if way.address.line != self._way.address.line:
            raise LocalProtocolError(f"{target.meter.asset_id} hangs on another line: {way.address}")
        return Dlt645Conversation(
            self._stream, way, answer_s=self._answer_s, now=self._now, way_to=self._way_to
        )

    @property
    def answers_s(self) -> Sequence[float]:
        """Seconds that the last answers took."""
        return self._answers.seconds

    @property
    def traffic(self) -> tuple[int, int]:
        """Not counted."""
        return 0, 0

    async def read_load_curve(self, number: int, start: datetime, end: datetime) -> ReadingBatch:
        """The meter's load records, or the sample that counts for the boundary nearest to now.

        Raises LocalProtocolError for another number, naive or reversed times.
        """
        check_range(start, end)
        model = self._model
        if model.load_records is not None and number == model.load_records.profile:
            return await self._records(model.load_records, start, end)
        if number != model.sampling.profile or not model.columns:
            raise LocalProtocolError(f"model {model.name} has no load curve {number}")
        boundary = wanted_boundary(self._now(), start, end, model.sampling)
        if boundary is None:
            return registers_only((), source=str(self._way))
        values: list[Value] = []
        for name in dict.fromkeys(name for column in model.columns.values() for name in column.values):
            try:
                values += _by_identifier(decode(DataId.parse(name), await self._ask(DataId.parse(name))))
            except AbnormalAnswer as refused:
                if refused.word is None or ErrorWord.NO_SUCH_DATA not in refused.word:
                    raise
        return sample(
            self._way.target.meter.meter_id,
            model.sampling,
            model.layout,
            boundary,
            self._now(),
            by_quantity(model, values),
            source=str(self._way),
        )

    async def read_registers(self, obis: Sequence[str] = ()) -> RegisterReadout:
        """The values of these codes, or of all identifiers of the model.

        A code may also be an identifier: ``dlt645:00-01-00-00``. Raises LocalProtocolError for neither.
        """
        wanted = [_name(text) for text in obis]
        known = [DataId.parse(text) for text in self._model.identifiers]
        asked = list(known) if not wanted else [di for di in known if self._gives(di, wanted)]
        asked += [DataId.parse(name.removeprefix("dlt645:")) for name in wanted if name.startswith("dlt645:")]
        reads: list[RegisterRead] = []
        refusals: list[Refusal] = []
        for di in dict.fromkeys(asked):
            try:
                values = await self._read(di)
            except AbnormalAnswer as refused:
                refusals.append(Refusal(di.name, _VALUE, refused.reason))
                continue
            at = self._now()
            for value in values:
                if wanted and value.name not in wanted and di.name not in wanted:
                    continue
                if value.number is None and value.text is None:
                    refusals.append(Refusal(value.name, _VALUE, "the meter has no value"))
                else:
                    reads.append(register(self._way.target.meter.meter_id, value, at))
        told = {one.obis for one in reads} | {one.obis for one in refusals}
        refusals += [
            Refusal(name, _VALUE, "the model names no identifier for it")
            for name in wanted
            if name not in told and not name.startswith("dlt645:")
        ]
        return RegisterReadout(registers_only(reads, source=str(self._way)), tuple(refusals))

    async def read_events(self, since: datetime, until: datetime) -> ReadingBatch:
        """The last ten power failures, where they ended in [since, until). Empty without the meter's zone."""
        check_range(since, until)
        events: list[MeterEvent] = []
        if self._model.tz is None:
            return registers_only((), source=str(self._way))
        for back in range(1, _FAILURES + 1):
            try:
                began, ended = await self._failure(back, self._model.tz)
            except AbnormalAnswer:
                break  # it keeps no such log, or no more of it
            if began is None or ended is None or ended < since:
                break
            if ended < until:
                events.append(
                    MeterEvent(
                        self._way.target.meter.meter_id,
                        EventLog.POWER_FAILURE,
                        EventMeaning.POWER_FAILURE,
                        None,
                        (ended - _EPOCH) // _US,
                        (self._now() - _EPOCH) // _US,
                        str(self._way),
                        int((ended - began).total_seconds()),
                    )
                )
        return registers_only((), source=str(self._way), events=events)

    # ---- values -------------------------------------------------------------------------------------

    async def _failure(self, back: int, zone: ZoneInfo) -> tuple[datetime | None, datetime | None]:
        times = decode(DataId(3, 0x11, 0, back), await self._ask(DataId(3, 0x11, 0, back)))
        began, ended = (_moment(one.value, zone) for one in times[:2])
        return began, ended

    async def _read(self, di: DataId) -> list[Value]:
        """What one identifier tells. Raises AbnormalAnswer."""
        readings = decode(di, await self._ask(di))
        if not readings:
            raise LocalProtocolError(f"{di.name} is not in the table of identifiers")
        return [self._value(one, place, len(readings)) for place, one in enumerate(readings)]

    def _value(self, one: Reading, place: int, count: int) -> Value:
        code = self._model.codes.get(str(one.di))
        name = code or (None if one.obis is None else str(one.obis)) or one.di.name
        if name == one.di.name and count > 1 and place:
            name = f"{name}#{place}"  # the second and further values of one identifier
        when = None if self._model.tz is None else _moment(one.time, self._model.tz)
        if isinstance(one.value, Decimal):
            number, unit = plain(one.value, one.unit)
            return Value(name, number, None, unit, when)
        return Value(name, None, None if one.value is None else str(one.value), one.unit, when)

    def _gives(self, di: DataId, wanted: Sequence[str]) -> bool:
        """Whether the identifier may tell one of these codes: blocks tell many."""
        if di.name in wanted or self._model.codes.get(str(di)) in wanted:
            return True
        told = parts(di, MAX_DATA) or ()
        return any(str(one.obis) in wanted for one in told if one.obis is not None)

    # ---- load records -------------------------------------------------------------------------------

    async def _records(self, kept: LoadRecords, start: datetime, end: datetime) -> ReadingBatch:
        """Records whose intervals begin in [start, end), some at a time until the range is passed."""
        zone, period = self._model.tz, timedelta(seconds=kept.period_s)
        if zone is None:
            raise LocalProtocolError(f"model {self._model.name} has no zone for its load records")
        found: dict[datetime, Row] = {}
        stamp = start + period
        while stamp <= end:
            count = min(kept.at_once, int((end - stamp) / period) + 1)
            since = stamp.astimezone(zone).strftime("%y%m%d%H%M")
            try:
                request = dlt.read_load_records(self._address, DataId.parse(kept.identifier), count, since)
                records = decode_records(await self._exchange(request))
            except AbnormalAnswer as refused:
                if refused.word is None or ErrorWord.NO_SUCH_DATA not in refused.word:
                    raise
                break
            some = [self._row(record, zone) for record in records]
            found |= {row.end: row for row in some if start + period <= row.end <= end}
            last = max((row.end for row in some), default=None)
            if last is None or last < stamp:
                break
            stamp = last + period
        covered = self._covered(start, end, found, period)
        return rows(
            self._way.target.meter.meter_id,
            kept.profile,
            kept.period_s,
            self._model.layout,
            [found[when] for when in sorted(found)],
            quality=Quality.MEASURED,
            covered=covered,
            source=str(self._way),
        )

    def _covered(
        self, start: datetime, end: datetime, found: dict[datetime, Row], period: timedelta
    ) -> tuple[datetime, datetime] | None:
        """What was answered; of the last day, only up to the last record that came."""
        until = end
        if end > self._now() - _FRESH:
            until = max(found, default=start)
        return (start, min(until, end)) if start < until else None

    def _row(self, record: LoadRecord, zone: ZoneInfo) -> Row:
        """One record's columns; a value that no column holds exactly is left out of it."""
        stamp = record.time.to_utc(zone=zone)
        values = by_quantity(
            self._model,
            _by_identifier(record.readings),
        )
        cells: dict[int, int] = {}
        for column, quantity in enumerate(INTERVAL_QUANTITIES):
            value, channel = values.get(quantity), self._model.layout.channels[column]
            if value is None or channel is None or value.number is None:
                continue
            raw = column_integer(value.number, channel)
            if raw is None:
                raise LocalProtocolError(
                    f"model {self._model.name}: {quantity} {value.number} does not fit the column's scaler "
                    f"{channel.scaler}"
                )
            cells[column] = raw
        return Row(stamp, stamp, cells)

    # ---- the line -----------------------------------------------------------------------------------

    async def _ask(self, di: DataId) -> bytes:
        return await self._exchange(dlt.read(self._address, di))

    async def _exchange(self, request: dlt.Request) -> bytes:
        """One request and its answer, follow-up frames included. Raises AbnormalAnswer, LinkError,
        RemoteProtocolError; after a silence the conversation takes no more requests."""
        if self._broken is not None:
            raise LocalProtocolError(f"the conversation is over: {self._broken}")
        self._broken = "a request is under way"
        loop = asyncio.get_running_loop()
        talk = dlt.Conversation(request)
        self._stream.write(talk.start())
        if talk.done:  # nobody answers
            await self._stream.drain(loop.time() + self._answer_s)
            self._broken = None
            return b""
        deadline = loop.time() + self._answer_s
        self._answers.asked()
        while True:
            try:
                data = await self._stream.read_some(deadline)
            except LinkTimeout as exc:
                self._broken = "the meter was silent"
                talk.end()
                if talk.bad:
                    raise RemoteProtocolError(f"{self._way}: {talk.bad[-1].reason}") from exc
                strays = f", {talk.strays} frames of others" if talk.strays else ""
                raise silent(f"{self._way}{strays}", self._answer_s) from exc
            came = talk.receive(data)
            if came is None:
                continue
            self._answers.came()
            if isinstance(came, dlt.Continue):
                self._stream.write(came.data)
                deadline = loop.time() + self._answer_s
                self._answers.asked()
                continue
            self._broken = None
            if isinstance(came, AbnormalAnswer):
                raise came
            return came.data


def _by_identifier(readings: Sequence[Reading]) -> list[Value]:
    """The numbers, named as a model's columns name them."""
    found = []
    for one in readings:
        if isinstance(one.value, Decimal):
            number, unit = plain(one.value, one.unit)
            found.append(Value(str(one.di), number, None, unit))
    return found


def _moment(value: object, zone: ZoneInfo) -> datetime | None:
    return value.to_utc(zone=zone) if isinstance(value, CosemDateTime) else None


def _name(text: str) -> str:
    """An OBIS code in full, or an identifier's name. Raises LocalProtocolError."""
    if text.startswith("dlt645:"):
        return DataId.parse(text.removeprefix("dlt645:")).name
    try:
        return str(Obis.parse(text))
    except ValueError as error:
        raise LocalProtocolError(f"{text!r} is neither an OBIS code nor dlt645:XX-XX-XX-XX") from error
