"""The load profile of a meter whose clock was changed: row by row, since its stamps are no grid any more."""

from collections.abc import Sequence
from typing import Final

from concentrator_sim import profile
from concentrator_sim.meter_clock import MeterClock, ProfileRow
from concentrator_sim.object_model import Asked, Value
from protocols.dlms import axdr
from protocols.dlms.axdr import Data
from protocols.dlms.cosem import BY_ENTRY, BY_RANGE, EntryDescriptor
from protocols.dlms.enums import DataAccessResult
from protocols.errors import RemoteProtocolError

#: AMR status, as the companion specification "idis" numbers its bits: the clock was adjusted in this period.
CLOCK_ADJUSTED: Final = 0x20


def rows_of(asked: Asked, clock: MeterClock) -> Sequence[ProfileRow]:
    """All rows that it holds."""
    return clock.rows(asked.now_s, asked.device.meter.entries)


def buffer(asked: Asked, clock: MeterClock) -> Value:
    """The buffer, or what of it is asked for."""
    rows, columns = rows_of(asked, clock), profile.ALL_COLUMNS
    selection = asked.selection
    if selection is not None:
        deviation_min = asked.device.meter.deviation_min
        try:
            if selection.selector == BY_RANGE:
                found = profile.range_of(selection.parameters, deviation_min)
                if isinstance(found, DataAccessResult):
                    return found
                low, high, columns = found
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
    return axdr.encode(axdr.array(_row(asked, clock, row, columns) for row in rows))


def _within(stamp_s: int, low: int | None, high: int | None) -> bool:
    return (low is None or stamp_s >= low) and (high is None or stamp_s <= high)


def _row(asked: Asked, clock: MeterClock, row: ProfileRow, columns: Sequence[int]) -> Data:
    consumption = asked.device.meter.consumption
    cells = []
    for column in columns:
        if column == 0:
            cells.append(axdr.octets(clock.stamp(row.stamp_s)))
        elif column == 1:
            cells.append(axdr.u8(profile.STATUS | (CLOCK_ADJUSTED if row.adjusted else 0)))
        else:
            cells.append(axdr.u32(consumption.at(column - 2, row.captured_s)))
    return axdr.structure(*cells)
