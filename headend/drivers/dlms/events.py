"""Event logs and alarm registers of a meter, as events. Nothing that a log holds is left out.

A log is a Profile Generic: the meter's capture objects say what its columns are, the model what they mean. A
row that cannot be read as the model says, and a log that cannot be read at all, become events too: somebody
must look, and nothing must wait for that.
"""

import datetime as dt
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from headend.clock import utc_now
from headend.drivers.dlms.ranged import RangedBuffers, moment_of
from headend.drivers.dlms.values import told
from headend.session.client import MeterSession
from protocols.dlms import axdr, cosem
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem import Attribute, CaptureObject, ClassId
from protocols.dlms.cosem.forms import INTEGERS, elements_of
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.obis import Obis
from protocols.errors import DataAccessRefused, LocalProtocolError, RemoteProtocolError
from schemas.event import EventLog, EventMeaning, MeterEvent
from schemas.model import EventLogObject, MeterModel
from schemas.reading import ReadingBatch, registers_only

log = logging.getLogger(__name__)

#: Meters whose logs have been looked at and are remembered: a county of 154,000.
MAX_METERS: Final = 200_000
#: Different columns of logs that are remembered, for all meters alike.
MAX_KINDS: Final = 4096
#: Answers that say that a meter has no such object, or keeps it from us: asking again is of no use.
_ABSENT: Final = frozenset(
    {
        DataAccessResult.OBJECT_UNDEFINED,
        DataAccessResult.OBJECT_CLASS_INCONSISTENT,
        DataAccessResult.OBJECT_UNAVAILABLE,
        DataAccessResult.READ_WRITE_DENIED,
    }
)
_INTEGERS: Final = INTEGERS | {DataType.ENUM}
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_US: Final = dt.timedelta(microseconds=1)


class _Log(NamedTuple):
    """A log that a meter has: what the model says of it, and the meter's own columns with their roles."""

    model: EventLogObject
    columns: tuple[tuple[str, str], ...]  # (role, OBIS code)


class EventReader:
    """Stateless but for what it has learnt of meters: which logs they have, and which bounds they take."""

    def __init__(self, *, now: Callable[[], dt.datetime] = utc_now) -> None:
        self._now = now
        self._logs: OrderedDict[int, tuple[MeterModel, tuple[_Log, ...]]] = OrderedDict()
        self._columns: dict[tuple[int, tuple[CaptureObject, ...]], _Log] = {}
        self._buffers = RangedBuffers()

    async def read_events(
        self, session: MeterSession, meter_id: int, model: MeterModel, since: dt.datetime, until: dt.datetime
    ) -> ReadingBatch:
        """What the meter's logs hold with a stamp in [since, until), and the alarms that stand now.

        Rows that the meter sends beyond that are kept too. Raises LocalProtocolError for naive or reversed
        times, and as `MeterSession.get`.
        """
        if since.utcoffset() is None or until.utcoffset() is None:
            raise LocalProtocolError("events are read between aware times")
        if since >= until:
            raise LocalProtocolError(f"events from {since} to {until} have no length")
        found: list[MeterEvent] = []
        for one in await self._logs_of(session, meter_id, model):
            reading = _Reading(meter_id, model, one, self._now, session.plan.label)
            try:
                rows = elements_of(
                    axdr.decode_exact(
                        await self._buffers.read(session, model, Obis.parse(one.model.obis), since, until)
                    ),
                    f"event log {one.model.obis}",
                )
            except DataAccessRefused as exc:
                if exc.result not in _ABSENT:
                    raise
                log.debug("%s: no event log %s: %s", session.plan.label, one.model.obis, exc)
            except RemoteProtocolError as exc:
                if not session.is_usable:
                    raise
                found.append(reading.unreadable(exc))
            else:
                if any(len(reading.fields(row)) != len(one.columns) for row in rows):
                    self._logs.pop(meter_id, None)  # configured anew: its columns are asked for next time
                found += reading.events(rows)
        found += await self._alarms(session, meter_id, model)
        return registers_only((), source=session.plan.label, events=found)

    # ---- logs ---------------------------------------------------------------------------------------

    async def _logs_of(self, session: MeterSession, meter_id: int, model: MeterModel) -> tuple[_Log, ...]:
        """The logs of the model that this meter has, asked once."""
        known = self._logs.get(meter_id)
        if known is not None and known[0] is model:
            self._logs.move_to_end(meter_id)
            return known[1]
        logs = tuple(model.events.logs.values())
        results = await session.get_many(
            [
                Attribute(ClassId.PROFILE_GENERIC, Obis.parse(one.obis), cosem.PROFILE_CAPTURE_OBJECTS)
                for one in logs
            ]
        )
        there = [
            self._log(one, result)
            for one, result in zip(logs, results, strict=True)
            if isinstance(result, bytes) or result not in _ABSENT
        ]
        self._logs[meter_id] = (model, tuple(there))
        if len(self._logs) > MAX_METERS:
            self._logs.popitem(last=False)
        return tuple(there)

    def _log(self, model: EventLogObject, result: bytes | DataAccessResult) -> _Log:
        """The columns as the meter tells them, else as the model does; one object for all meters alike."""
        captures: tuple[CaptureObject, ...] = ()
        if isinstance(result, bytes):
            try:
                captures = cosem.capture_objects(axdr.decode_exact(result))
            except RemoteProtocolError as exc:
                log.warning("event log %s: its columns cannot be read: %s", model.obis, exc)
        if not captures:
            return _Log(model, tuple((column.role, column.obis) for column in model.columns))
        roles = {(column.obis, column.attribute): column.role for column in model.columns}
        columns = tuple(
            (roles.get((str(capture.obis), capture.attribute), "text"), str(capture.obis))
            for capture in captures
        )
        if len(self._columns) > MAX_KINDS:
            self._columns.clear()
        return self._columns.setdefault((id(model), captures), _Log(model, columns))

    # ---- alarm registers ----------------------------------------------------------------------------

    async def _alarms(self, session: MeterSession, meter_id: int, model: MeterModel) -> list[MeterEvent]:
        """The bits that are set now, each as a standing event: since when, the register does not tell."""
        registers = list(model.events.alarms)
        if not registers:
            return []
        results = await session.get_many([Attribute(ClassId.DATA, Obis.parse(obis), 2) for obis in registers])
        now_us = (self._now() - _EPOCH) // _US
        found = []
        for obis, result in zip(registers, results, strict=True):
            if not isinstance(result, bytes):
                continue
            word = status_word(axdr.decode_exact(result))
            if word is None:
                log.warning("%s: alarm register %s holds no number", session.plan.label, obis)
                continue
            found += [
                MeterEvent(
                    meter_id,
                    EventLog.ALARM,
                    alarm.meaning,
                    alarm.bit,
                    None,
                    now_us,
                    session.plan.label,
                    text=alarm.register,
                    standing=True,
                )
                for alarm in model.events.alarms_in(obis, word)
            ]
        return found


def status_word(data: Data) -> int | None:
    """A number, or a bit-string whose first bit is its most significant; None for others."""
    if data.type in _INTEGERS:
        number: int = data.value
        return number if number >= 0 else None
    if data.type is DataType.BIT_STRING:
        return int(str(data.value) or "0", 2)
    return None


class _Reading(NamedTuple):
    """One log of one meter, on its way to events."""

    meter_id: int
    model: MeterModel
    log: _Log
    now: Callable[[], dt.datetime]
    source: str

    def events(self, rows: Sequence[Data]) -> list[MeterEvent]:
        """One event per row."""
        now_us = (self.now() - _EPOCH) // _US
        found = []
        before: int | None = None
        for row in rows:
            fields = self.fields(row)
            if len(fields) != len(self.log.columns):
                found.append(self._event(now_us, text=axdr.encode(row).hex()))
                continue
            event = self._row(fields, before, now_us)
            before = event.occurred_us
            found.append(event)
        return found

    def fields(self, row: Data) -> tuple[Data, ...]:
        """The cells of a row; none where it is no structure."""
        return tuple(row.value) if row.type is DataType.STRUCTURE else ()

    def unreadable(self, error: RemoteProtocolError) -> MeterEvent:
        """That this log cannot be read, for somebody to look at."""
        text = f"event log {self.log.model.obis} cannot be read: {error}"
        return MeterEvent(
            self.meter_id, EventLog.HEADEND, EventMeaning.OTHER, None, None, (self.now() - _EPOCH) // _US,
            self.source, text=text, standing=True,
        )  # fmt: skip

    def _row(self, fields: Sequence[Data], before: int | None, now_us: int) -> MeterEvent:
        code: int | None = None
        duration: int | None = None
        occurred: int | None = None
        number: int | None
        texts: list[str] = []
        for (role, obis), data in zip(self.log.columns, fields, strict=True):
            number = data.value if data.type in _INTEGERS else None
            if role == "ignored":
                continue
            if role == "clock":
                # a null among rows that leave out what repeats is the stamp of the row before
                occurred = before if data.type is DataType.NULL else self._moment(data)
                if occurred is None:
                    texts.append(f"{obis}={axdr.encode(data).hex()}")
            elif role == "code" and number is not None and code is None:
                code = number
            elif role == "duration" and number is not None:
                duration = number
            elif (text := _text(data)) is not None:
                texts.append(f"{obis}={text}")
        return self._event(now_us, code, occurred, duration, ", ".join(texts) or None)

    def _moment(self, data: Data) -> int | None:
        moment = moment_of(data, self.model)
        return None if moment is None else (moment - _EPOCH) // _US

    def _event(
        self,
        now_us: int,
        code: int | None = None,
        occurred_us: int | None = None,
        duration_s: int | None = None,
        text: str | None = None,
    ) -> MeterEvent:
        """``standing`` without a stamp: the log keeps it, and reading it again is no news."""
        return MeterEvent(
            self.meter_id,
            self.log.model.log,
            self.model.events.meaning(self.log.model, code),
            code,
            occurred_us,
            now_us,
            self.source,
            duration_s,
            text,
            standing=occurred_us is None,
        )


def _text(data: Data) -> str | None:
    """A value that is no more than words; None for null."""
    value, text, _ = told(data)
    return text if value is None else format(value, "f")
