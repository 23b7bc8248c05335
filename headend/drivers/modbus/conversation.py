"""Reading one slave: its registers now, and the sample that counts for a boundary of its load curve.

Such a meter keeps no curve. What it counts at a boundary is what was read of it within the tolerance around
it; the row keeps the time of that reading as its stamp.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from headend.drivers.contract import Refusal, RegisterReadout, Target
from headend.drivers.modbus.bus import Bus
from headend.drivers.modbus.maps import Memory, Reading, Words
from protocols.dlms.obis import Obis
from protocols.errors import LocalProtocolError, ModbusRefused
from protocols.modbus import sunspec
from protocols.modbus.plan import Span
from protocols.modbus.values import column_integer
from schemas.address import LinkAddress
from schemas.reading import (
    I1,
    I2,
    I4,
    I8,
    INTERVAL_QUANTITIES,
    NO_STATUS,
    ChannelLayout,
    Fragment,
    Quality,
    ReadingBatch,
    RegisterRead,
    registers_only,
)
from schemas.register_model import RegisterModel, Sampling

N = TypeVar("N", bound=np.signedinteger[Any])

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)
_WIDE: Final = (1, len(INTERVAL_QUANTITIES))
_COLUMN_OF: Final = {quantity: column for column, quantity in enumerate(INTERVAL_QUANTITIES)}
#: A register has one value: as attribute 2 of a DLMS register.
_VALUE: Final = 2
#: Exceptions that say "not these registers": illegal function, address, value.
_NOT_THESE: Final = frozenset({1, 2, 3})


@dataclass(frozen=True, slots=True)
class CurveForm:
    """The load curve that sampling gives meters of one model: the registers it is made of, and all of a row
    that is the same in each."""

    sampling: Sampling
    names: tuple[str, ...]
    layout: ChannelLayout
    profile: I2
    period_s: I4
    status: I8
    clock_status: I2
    quality: I2
    fragment: I1
    layout_at: I2

    @classmethod
    def of(cls, model: RegisterModel, sampling: Sampling) -> "CurveForm":
        """Of meters of ``model``, sampled so."""
        return cls(
            sampling,
            tuple(name for name, one in model.registers.items() if one.quantity is not None),
            sunspec.LAYOUT if model.map == "sunspec" else model.layout(),
            _shared(sampling.profile, np.int16),
            _shared(sampling.period_s, np.int32),
            _shared(NO_STATUS, np.int64),
            _shared(NO_STATUS, np.int16),
            _shared(Quality.SAMPLED, np.int16),
            _shared(Fragment.NONE, np.int8),
            _shared(0, np.int16),
        )


@dataclass(frozen=True, slots=True)
class ModbusWay:
    """How one slave is reached: the `headend.drivers.contract.Way` of Modbus. ``line`` names the bus."""

    target: Target
    address: LinkAddress
    unit: int
    model: RegisterModel
    curve: CurveForm
    line: tuple[object, ...]
    source: str


class ModbusConversation:
    """One slave's turn, as a `headend.drivers.contract.Conversation`."""

    def __init__(
        self, bus: Bus, way: ModbusWay, memory: Memory, answer_s: float, now: Callable[[], datetime]
    ) -> None:
        self._bus = bus
        self._way = way
        self._memory = memory
        self._answer_s = answer_s
        self._now = now
        self._answers_s: list[float] = []
        self._meter_id = way.target.meter.meter_id

    @property
    def answers_s(self) -> Sequence[float]:
        """Seconds from each request to its answer, waits for the line's silence not counted."""
        return self._answers_s

    async def read_load_curve(self, number: int, start: datetime, end: datetime) -> ReadingBatch:
        """The interval that ends at the boundary nearest to now, if a sample can still count for it.

        What is read too late to count, and what fits no column, comes as registers. Raises
        LocalProtocolError for another number, naive or reversed times; and as `Bus.read`.
        """
        sampling = self._way.curve.sampling
        if number != sampling.profile:
            raise LocalProtocolError(f"model {self._way.model.name} has no load curve {number}")
        _check(start, end)
        boundary = _nearest(self._now(), sampling)
        since = boundary - timedelta(seconds=sampling.period_s)
        if not start <= since < end or not _counts(self._now(), boundary, sampling):
            return registers_only((), source=self._way.source)
        readings = await self._memory.read_quantities(
            self._meter_id, self._way.model, self._way.curve.names, self._ask
        )
        return self._sample(readings, boundary)

    async def read_registers(self, obis: Sequence[str] = ()) -> RegisterReadout:
        """The values of these codes, or of all registers of the model that have one.

        Raises LocalProtocolError for what is no OBIS code; and as `Bus.read`.
        """
        codes = tuple(dict.fromkeys(_code(text) for text in obis))
        readings = await self._memory.read_codes(self._meter_id, self._way.model, codes, self._ask)
        reads, refusals = [], []
        for one in readings:
            read = self._register(one, Quality.MEASURED)
            if read is None:
                refusals.append(Refusal(one.value.obis or "", _VALUE, one.value.reason or "no value"))
            else:
                reads.append(read)
        there = {one.value.obis for one in readings}
        refusals += [
            Refusal(code, _VALUE, "the meter has no such register") for code in codes if code not in there
        ]
        return RegisterReadout(registers_only(reads, source=self._way.source), tuple(refusals))

    async def read_events(self, since: datetime, until: datetime) -> ReadingBatch:
        """None: such meters keep no log. Raises LocalProtocolError for naive or reversed times."""
        _check(since, until)
        return registers_only((), source=self._way.source)

    async def _ask(self, span: Span) -> Words:
        """One read. Refusals that say something of these registers are told, others raised."""
        try:
            answer = await self._bus.read(self._way.unit, span, self._answer_s)
        except ModbusRefused as error:
            if error.code not in _NOT_THESE:
                raise
            return Words(None, error.reason, self._now())
        self._answers_s.append(answer.took_s)
        return Words(answer.registers, None, self._now())

    # ---- what was read ----------------------------------------------------------------------------

    def _sample(self, readings: Sequence[Reading], boundary: datetime) -> ReadingBatch:
        """A row where all that was read counts for the boundary; else registers."""
        curve = self._way.curve
        channels = curve.layout.channels
        values, valid = np.zeros(_WIDE, np.int64), np.zeros(_WIDE, np.bool_)
        rest: list[RegisterRead] = []
        last = max((one.at for one in readings), default=boundary)
        first = min((one.at for one in readings), default=boundary)
        in_time = _counts(first, boundary, curve.sampling) and _counts(last, boundary, curve.sampling)
        has_cells = False
        for one in readings:
            value = one.value
            if value.quantity is None or value.value is None:
                continue
            column = _COLUMN_OF[value.quantity]
            channel = channels[column]
            raw = None if channel is None or not in_time else column_integer(value.value, channel)
            if raw is not None:
                values[0, column], valid[0, column], has_cells = raw, True, True
            elif (read := self._register(one, Quality.SAMPLED)) is not None:
                rest.append(read)
        if not has_cells:
            return registers_only(rest, source=self._way.source)
        end_us = (boundary - _EPOCH) // _US
        start_us = end_us - curve.sampling.period_s * 1_000_000
        return ReadingBatch(
            meter_id=np.array([self._meter_id], np.int32),
            profile=curve.profile,
            start_us=np.array([start_us], np.int64),
            period_s=curve.period_s,
            stamp_us=np.array([(last - _EPOCH) // _US], np.int64),
            amr_status=curve.status,
            clock_status=curve.clock_status,
            quality=curve.quality,
            fragment=curve.fragment,
            layout=curve.layout_at,
            values=values,
            valid=valid,
            layouts=(curve.layout,),
            covered_us=((self._meter_id, curve.sampling.profile, start_us, end_us),),
            source=self._way.source,
            registers=tuple(rest),
        )

    def _register(self, one: Reading, quality: Quality) -> RegisterRead | None:
        """The value as a register reading; None where there is none. A number goes before its label."""
        value = one.value
        if value.obis is None or (value.value is None and value.text is None):
            return None
        return RegisterRead(
            self._meter_id,
            value.obis,
            _VALUE,
            (one.at - _EPOCH) // _US,
            None,
            value.value,
            value.text if value.value is None else None,
            value.unit,
            quality,
            value.rounded,
        )


def _shared(value: int, kind: type[N]) -> npt.NDArray[N]:
    """A column of one row that all batches share, and so nobody may change."""
    column = np.array([value], kind)
    column.flags.writeable = False
    return column


def _check(start: datetime, end: datetime) -> None:
    if start.utcoffset() is None or end.utcoffset() is None:
        raise LocalProtocolError("a meter is asked for what lies between aware times")
    if start >= end:
        raise LocalProtocolError(f"from {start} to {end} there is no time")


def _nearest(moment: datetime, sampling: Sampling) -> datetime:
    """The boundary of an interval that is nearest. Periods are counted from midnight UTC of 1970."""
    period = timedelta(seconds=sampling.period_s)
    return _EPOCH + (moment - _EPOCH + period / 2) // period * period


def _counts(moment: datetime, boundary: datetime, sampling: Sampling) -> bool:
    return abs(moment - boundary) <= timedelta(seconds=sampling.tolerance_s)


def _code(text: str) -> str:
    try:
        return str(Obis.parse(text))
    except ValueError as error:
        raise LocalProtocolError(f"{text!r} is no OBIS code: {error}") from error
