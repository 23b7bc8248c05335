"""The load profile of a meter whose clock or capture period was changed: row by row, since its stamps are
not those of all other meters any more."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from concentrator_sim import parameters, profile
from concentrator_sim.meter_clock import MeterClock, ProfileRow
from concentrator_sim.object_model import Asked, Meter, Value
from concentrator_sim.shapes import QUARTER_S
from protocols.dlms import axdr
from protocols.dlms.axdr import Data
from protocols.dlms.cosem import BY_ENTRY, BY_RANGE, EntryDescriptor
from protocols.dlms.enums import DataAccessResult
from protocols.errors import RemoteProtocolError

#: AMR status, as the companion specification "idis" numbers its bits: the clock was adjusted in this period.
CLOCK_ADJUSTED: Final = 0x20


def is_of(meter: Meter) -> bool:
    """Whether a meter's load profile has rows of its own."""
    return meter.part_if_any(MeterClock) is not None or parameters.period_s(meter) != QUARTER_S


def rows_of(meter: Meter, now_s: int) -> Sequence[ProfileRow]:
    """All rows that it holds at a moment."""
    clock = meter.part_if_any(MeterClock) or MeterClock(meter)
    rows = clock.rows(now_s, meter.entries, parameters.period_s(meter))
    cleared_s = parameters.cleared_s(meter)
    return rows if cleared_s is None else [row for row in rows if row.captured_s > cleared_s]


def buffer(asked: Asked) -> Value:
    """The buffer, or what of it is asked for."""
    meter = asked.device.meter
    rows, captured = rows_of(meter, asked.now_s), parameters.columns(meter)
    columns = captured
    selection = asked.selection
    if selection is not None:
        try:
            if selection.selector == BY_RANGE:
                found = profile.range_of(selection.parameters, meter.deviation_min)
                if isinstance(found, DataAccessResult):
                    return found
                low, high, asked_for = found
                columns = tuple(column for column in asked_for if column in captured)
                rows = [row for row in rows if _within(row.stamp_s, low, high)]
            elif selection.selector == BY_ENTRY:
                entries = EntryDescriptor.decode(axdr.decode_exact(selection.parameters))
                if entries.from_entry == 0 or entries.from_value == 0:
                    return DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
                rows = rows[entries.from_entry - 1 : entries.to_entry or None]
                columns = columns[entries.from_value - 1 : entries.to_value or None]
            else:
                return DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
        except RemoteProtocolError:
            return DataAccessResult.TYPE_UNMATCHED
    return _encoded(meter, rows, columns)


def _within(stamp_s: int, low: int | None, high: int | None) -> bool:
    return (low is None or stamp_s >= low) and (high is None or stamp_s <= high)


def _encoded(meter: Meter, rows: Sequence[ProfileRow], columns: Sequence[int]) -> bytes:
    clock = meter.part_if_any(MeterClock) or MeterClock(meter)
    moments = np.fromiter((row.captured_s for row in rows), np.int64, len(rows))
    values = meter.consumption.registers_at(moments).T.tolist()
    return axdr.encode(
        axdr.array(
            axdr.structure(*(_cell(clock, row, registers, column) for column in columns))
            for row, registers in zip(rows, values, strict=True)
        )
    )


def _cell(clock: MeterClock, row: ProfileRow, registers: Sequence[int], column: int) -> Data:
    if column == 0:
        return axdr.octets(clock.stamp(row.stamp_s))
    if column == 1:
        return axdr.u8(profile.STATUS | (CLOCK_ADJUSTED if row.adjusted else 0))
    return axdr.u32(registers[column - 2])
