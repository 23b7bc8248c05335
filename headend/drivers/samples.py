"""What meters tell value by value, as batches: registers, and the sample that counts for a boundary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, NamedTuple

import numpy as np

from protocols.errors import LocalProtocolError
from protocols.modbus.values import column_integer
from schemas.reading import (
    INTERVAL_QUANTITIES,
    NO_STATUS,
    ChannelLayout,
    Fragment,
    Quality,
    ReadingBatch,
    RegisterRead,
    registers_only,
)
from schemas.register_model import Sampling

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)
#: A register has one value: as attribute 2 of a DLMS register.
_VALUE: Final = 2
#: Prefixes of units, as powers of ten.
_PREFIXES: Final = {"k": 3, "M": 6, "G": 9}
_PLAIN: Final = frozenset({"Wh", "varh", "VAh", "W", "var", "VA", "V", "A", "J", "Hz", "bar"})


@dataclass(frozen=True, slots=True)
class Value:
    """One value by its name: a number or a text, never both. ``name`` is its OBIS code, or its name in the
    meter's language where it has none. ``meter_time`` is the meter's own time of it, aware."""

    name: str
    number: Decimal | None
    text: str | None = None
    unit: str | None = None
    meter_time: datetime | None = None


class Row(NamedTuple):
    """One interval: its end, the meter's stamp (both aware), raw values by column."""

    end: datetime
    stamp: datetime
    cells: Mapping[int, int]


def plain(number: Decimal, unit: str | None) -> tuple[Decimal, str | None]:
    """kWh as Wh, kvar as var: the units that are stored, with every digit."""
    if unit is None or unit in _PLAIN:
        return number, unit
    shift = _PREFIXES.get(unit[:1])
    if shift is None or unit[1:] not in _PLAIN:
        return number, unit
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        raise LocalProtocolError(f"{number} is no finite number")
    moved = exponent + shift
    if moved > 0:
        digits, moved = digits + (0,) * moved, 0
    return Decimal((sign, digits, moved)), unit[1:]


def check_range(start: datetime, end: datetime) -> None:
    """Raises LocalProtocolError for naive or reversed times."""
    if start.utcoffset() is None or end.utcoffset() is None:
        raise LocalProtocolError("a meter is asked for what lies between aware times")
    if start >= end:
        raise LocalProtocolError(f"from {start} to {end} there is no time")


def nearest(moment: datetime, period_s: int) -> datetime:
    """The boundary that is nearest. Periods are counted from midnight UTC."""
    period = timedelta(seconds=period_s)
    return _EPOCH + (moment - _EPOCH + period / 2) // period * period


def wanted_boundary(now: datetime, start: datetime, end: datetime, sampling: Sampling) -> datetime | None:
    """The boundary that a sample taken now counts for, where its interval begins in [start, end)."""
    boundary = nearest(now, sampling.period_s)
    since = boundary - timedelta(seconds=sampling.period_s)
    near = abs(now - boundary) <= timedelta(seconds=sampling.tolerance_s)
    return boundary if near and start <= since < end else None


def register(meter_id: int, value: Value, at: datetime, quality: Quality = Quality.MEASURED) -> RegisterRead:
    """The value as a register reading of time ``at``."""
    return RegisterRead(
        meter_id,
        value.name,
        _VALUE,
        (at - _EPOCH) // _US,
        None if value.meter_time is None else (value.meter_time - _EPOCH) // _US,
        value.number,
        value.text,
        value.unit,
        quality,
    )


def sample(
    meter_id: int,
    sampling: Sampling,
    layout: ChannelLayout,
    boundary: datetime,
    at: datetime,
    values: Mapping[str, Value],
    *,
    source: str,
) -> ReadingBatch:
    """The interval that ends at ``boundary``, from ``values`` by quantity, read at ``at``: the row's
    stamp, unless the values have a time of the meter's that is as near.

    What was read too late to count, or fits no column, becomes registers; then nothing is covered.
    """
    tolerance = timedelta(seconds=sampling.tolerance_s)
    counts = abs(at - boundary) <= tolerance
    cells: dict[int, int] = {}
    rest: list[RegisterRead] = []
    stamp = at
    for column, quantity in enumerate(INTERVAL_QUANTITIES):
        value, channel = values.get(quantity), layout.channels[column]
        if value is None or channel is None or value.number is None:
            continue
        raw = column_integer(value.number, channel) if counts and value.unit == channel.unit else None
        if raw is None:
            rest.append(register(meter_id, value, at, Quality.SAMPLED))
        else:
            cells[column] = raw
            if value.meter_time is not None and abs(value.meter_time - boundary) <= tolerance:
                stamp = value.meter_time
    if not cells:
        return registers_only(rest, source=source)
    period = timedelta(seconds=sampling.period_s)
    return rows(
        meter_id,
        sampling.profile,
        sampling.period_s,
        layout,
        [Row(boundary, stamp, cells)],
        quality=Quality.SAMPLED,
        covered=(boundary - period, boundary),
        registers=rest,
        source=source,
    )


def rows(
    meter_id: int,
    number: int,
    period_s: int,
    layout: ChannelLayout,
    found: Sequence[Row],
    *,
    quality: Quality,
    covered: tuple[datetime, datetime] | None,
    registers: Sequence[RegisterRead] = (),
    source: str,
) -> ReadingBatch:
    """Intervals of load curve ``number``, covering [covered)."""
    count = len(found)
    wide = (count, len(INTERVAL_QUANTITIES))
    values, valid = np.zeros(wide, np.int64), np.zeros(wide, np.bool_)
    for place, row in enumerate(found):
        for column, raw in row.cells.items():
            values[place, column], valid[place, column] = raw, True
    ends = [(row.end - _EPOCH) // _US for row in found]
    claimed = (
        ()
        if covered is None
        else ((meter_id, number, (covered[0] - _EPOCH) // _US, (covered[1] - _EPOCH) // _US),)
    )
    return ReadingBatch(
        meter_id=np.full(count, meter_id, np.int32),
        profile=np.full(count, number, np.int16),
        start_us=np.array(ends, np.int64) - period_s * 1_000_000,
        period_s=np.full(count, period_s, np.int32),
        stamp_us=np.array([(row.stamp - _EPOCH) // _US for row in found], np.int64),
        amr_status=np.full(count, NO_STATUS, np.int64),
        clock_status=np.full(count, NO_STATUS, np.int16),
        quality=np.full(count, quality, np.int16),
        fragment=np.full(count, Fragment.NONE, np.int8),
        layout=np.zeros(count, np.int16),
        values=values,
        valid=valid,
        layouts=(layout,) if count else (),
        covered_us=claimed,
        source=source,
        registers=tuple(registers),
    )
