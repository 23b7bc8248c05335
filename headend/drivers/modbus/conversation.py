"""Reading one slave: its registers now, and the sample that counts for a boundary of its load curve.

Such a meter keeps no curve. What it counts at a boundary is what was read of it within the tolerance around
it; the row keeps the time of that reading as its stamp.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import numpy as np
import numpy.typing as npt

from headend.drivers.contract import Refusal, RegisterReadout, Target
from headend.drivers.modbus.bus import Bus
from headend.drivers.modbus.maps import Answered, Memory, Readings, readings
from headend.drivers.samples import check_range
from protocols.dlms.obis import Obis
from protocols.errors import LocalProtocolError, ModbusRefused
from protocols.modbus import sunspec
from protocols.modbus.plan import Span
from protocols.modbus.readout import Readout
from protocols.modbus.values import RegisterValue, column_integer
from schemas.address import LinkAddress
from schemas.reading import (
    I1,
    I2,
    I4,
    I8,
    INTERVAL_QUANTITIES,
    NO_STATUS,
    Bool,
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
_SECOND_US: Final = 1_000_000
_COLUMN_OF: Final = {quantity: column for column, quantity in enumerate(INTERVAL_QUANTITIES)}
#: A register has one value: as attribute 2 of a DLMS register.
_VALUE: Final = 2
#: Exceptions that say "not these registers": illegal function, address, value.
_NOT_THESE: Final = frozenset({1, 2, 3})


@dataclass(frozen=True, slots=True)
class CurveForm:
    """The load curve that sampling gives meters of one model: the registers it is made of, and all of a row
    that is the same in each."""

    number: int
    period_us: int
    tolerance_us: int
    names: tuple[str, ...]
    columns: tuple[int, ...]
    scalers: tuple[int, ...]
    valid: Bool
    layouts: tuple[ChannelLayout]
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
        quantities = {name: one.quantity for name, one in model.registers.items() if one.quantity}
        columns = tuple(_COLUMN_OF[quantity] for quantity in quantities.values())
        valid = np.array([[column in columns for column in range(len(INTERVAL_QUANTITIES))]], np.bool_)
        valid.flags.writeable = False
        return cls(
            sampling.profile,
            sampling.period_s * _SECOND_US,
            sampling.tolerance_s * _SECOND_US,
            tuple(quantities),
            columns,
            tuple(model.registers[name].channel().scaler for name in quantities),
            valid,
            (sunspec.LAYOUT if model.map == "sunspec" else model.layout(),),
            shared(sampling.profile, np.int16),
            shared(sampling.period_s, np.int32),
            shared(NO_STATUS, np.int64),
            shared(NO_STATUS, np.int16),
            shared(Quality.SAMPLED, np.int16),
            shared(Fragment.NONE, np.int8),
            shared(0, np.int16),
        )


@dataclass(frozen=True, slots=True)
class ModbusWay:
    """How one slave is reached: the `headend.drivers.contract.Way` of Modbus. ``line`` names the bus."""

    target: Target
    address: LinkAddress
    unit: int
    model: RegisterModel
    curve: CurveForm
    meter_ids: I4
    line: tuple[object, ...]
    source: str


class ModbusConversation:
    """One slave's turn, as a `headend.drivers.contract.Conversation`; the bus is used inside the context."""

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

    async def __aenter__(self) -> Self:
        await self._bus.take(self._way.address)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bus.release()

    @property
    def answers_s(self) -> Sequence[float]:
        """Seconds from each request to its answer, waits for the line's silence not counted."""
        return self._answers_s

    @property
    def traffic(self) -> tuple[int, int]:
        """Not counted."""
        return 0, 0

    async def read_load_curve(self, number: int, start: datetime, end: datetime) -> ReadingBatch:
        """The interval that ends at the boundary nearest to now, if a sample can still count for it.

        What is read too late to count, and what fits no column, comes as registers. Raises
        LocalProtocolError for another number, naive or reversed times; and as `Bus.read`.
        """
        curve = self._way.curve
        if number != curve.number:
            raise LocalProtocolError(f"model {self._way.model.name} has no load curve {number}")
        check_range(start, end)
        now_us = self._now_us()
        end_us = (now_us + curve.period_us // 2) // curve.period_us * curve.period_us  # the nearest boundary
        start_us = end_us - curve.period_us
        if abs(now_us - end_us) > curve.tolerance_us or not _us(start) <= start_us < _us(end):
            return registers_only((), source=self._way.source)
        memory, meter_id, model = self._memory, self._meter_id, self._way.model
        if model.map == "sunspec":
            return self._sample(await memory.read_sunspec(meter_id, self._ask), start_us, end_us)
        readout, answers = await memory.ask(meter_id, model, curve.names, self._ask)
        row = self._plain_row(readout, answers, start_us, end_us)
        return self._sample(readings(readout, answers), start_us, end_us) if row is None else row

    async def read_registers(self, obis: Sequence[str] = ()) -> RegisterReadout:
        """The values of these codes, or of all registers of the model that have one.

        Raises LocalProtocolError for what is no OBIS code; and as `Bus.read`.
        """
        codes = tuple(dict.fromkeys(_code(text) for text in obis))
        values, at_us = await self._memory.read_codes(self._meter_id, self._way.model, codes, self._ask)
        reads, refusals = [], []
        for value, moment_us in zip(values, at_us, strict=True):
            read = self._register(value, moment_us, Quality.MEASURED)
            if read is None:
                refusals.append(Refusal(value.obis or "", _VALUE, value.reason or "no value"))
            else:
                reads.append(read)
        there = {one.obis for one in values} if codes else set()
        refusals += [
            Refusal(code, _VALUE, "the meter has no such register") for code in codes if code not in there
        ]
        return RegisterReadout(registers_only(reads, source=self._way.source), tuple(refusals))

    async def read_events(self, since: datetime, until: datetime) -> ReadingBatch:
        """None: such meters keep no log. Raises LocalProtocolError for naive or reversed times."""
        check_range(since, until)
        return registers_only((), source=self._way.source)

    async def _ask(self, span: Span) -> Answered:
        """One read. Refusals that say something of these registers are told, others raised."""
        try:
            answer = await self._bus.read(self._way.unit, span, self._answer_s)
        except ModbusRefused as error:
            if error.code not in _NOT_THESE:
                raise
            return Answered(None, error.reason, self._now_us())
        self._answers_s.append(answer.took_s)
        return Answered(answer.data, None, self._now_us())

    def _now_us(self) -> int:
        return _us(self._now())

    # ---- what was read ----------------------------------------------------------------------------

    def _plain_row(
        self, readout: Readout, answers: Sequence[Answered], start_us: int, end_us: int
    ) -> ReadingBatch | None:
        """The row where nothing is odd: every value a plain float that fits, in time; else None."""
        curve = self._way.curve
        first_us, last_us = answers[0].at_us, answers[-1].at_us
        if abs(first_us - end_us) > curve.tolerance_us or abs(last_us - end_us) > curve.tolerance_us:
            return None
        integers = readout.integers([one.data for one in answers], curve.scalers)
        if integers is None:
            return None
        cells = [0] * len(INTERVAL_QUANTITIES)
        for column, raw in zip(curve.columns, integers, strict=True):
            cells[column] = raw
        return self._row(cells, curve.valid, last_us, start_us, end_us)

    def _sample(self, found: Readings, start_us: int, end_us: int) -> ReadingBatch:
        """A row where all that was read counts for the boundary ``end_us``; else registers."""
        curve = self._way.curve
        channels = curve.layouts[0].channels
        cells: list[int | None] = [None] * len(INTERVAL_QUANTITIES)
        rest: list[RegisterRead] = []
        times = set(found.at_us)  # one for each read
        in_time = all(abs(at_us - end_us) <= curve.tolerance_us for at_us in times)
        for value, at_us in zip(*found, strict=True):
            if value.quantity is None or value.value is None:
                continue
            column = _COLUMN_OF[value.quantity]
            channel = channels[column]
            raw = None if channel is None or not in_time else column_integer(value.value, channel)
            if raw is not None:
                cells[column] = raw
            elif (read := self._register(value, at_us, Quality.SAMPLED)) is not None:
                rest.append(read)
        valid = [cell is not None for cell in cells]
        if not any(valid):
            return registers_only(rest, source=self._way.source)
        return self._row(
            [cell or 0 for cell in cells], np.array([valid], np.bool_), max(times), start_us, end_us, rest
        )

    def _row(
        self,
        cells: Sequence[int],
        valid: Bool,
        stamp_us: int,
        start_us: int,
        end_us: int,
        rest: Sequence[RegisterRead] = (),
    ) -> ReadingBatch:
        curve = self._way.curve
        return ReadingBatch(
            meter_id=self._way.meter_ids,
            profile=curve.profile,
            start_us=np.array([start_us], np.int64),
            period_s=curve.period_s,
            stamp_us=np.array([stamp_us], np.int64),
            amr_status=curve.status,
            clock_status=curve.clock_status,
            quality=curve.quality,
            fragment=curve.fragment,
            layout=curve.layout_at,
            values=np.array([cells], np.int64),
            valid=valid,
            layouts=curve.layouts,
            covered_us=((self._meter_id, curve.number, start_us, end_us),),
            source=self._way.source,
            registers=tuple(rest),
        )

    def _register(self, value: RegisterValue, at_us: int, quality: Quality) -> RegisterRead | None:
        """The value as a register reading; None where there is none. A number goes before its label."""
        _, _, number, text, unit, obis, _, rounded, _ = value
        if obis is None or (number is None and text is None):
            return None
        label = text if number is None else None
        return RegisterRead(self._meter_id, obis, _VALUE, at_us, None, number, label, unit, quality, rounded)


def shared(value: int, kind: type[N]) -> npt.NDArray[N]:
    """A column of one row that all batches share, and so nobody may change."""
    column = np.array([value], kind)
    column.flags.writeable = False
    return column


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // _US


def _code(text: str) -> str:
    try:
        return str(Obis.parse(text))
    except ValueError as error:
        raise LocalProtocolError(f"{text!r} is no OBIS code: {error}") from error
