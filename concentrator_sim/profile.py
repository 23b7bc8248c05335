"""The load profile of a simulated meter: its columns, its window of rows, selective access, and its bytes.

Row ``k`` is stamped with the end of its capture period, the beginning of quarter ``k``, and holds what the
registers show then. All meters answer a range with the same stamps: these are a template of bytes that is
built once, and a meter puts its registers in.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from concentrator_sim.generator import Consumption, moment_of, quarter_of
from concentrator_sim.shapes import I8, QUARTER_S
from protocols.dlms import axdr
from protocols.dlms.apdu.fields import Selection
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem import (
    BY_ENTRY,
    BY_RANGE,
    CLOCK_TIME,
    CaptureObject,
    ClassId,
    EntryDescriptor,
    RangeDescriptor,
    date_time,
)
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError

PROFILE: Final = Obis.parse("1-0:99.1.0*255")
AMR_STATUS: Final = Obis.parse("0-0:96.10.1*255")
REGISTERS: Final = tuple(Obis.parse(f"1-0:{name}*255") for name in ("1.8.0", "2.8.0", "3.8.0", "4.8.0"))
CAPTURE_OBJECTS: Final = (
    CaptureObject(ClassId.CLOCK, CLOCK_TIME.obis, 2),
    CaptureObject(ClassId.DATA, AMR_STATUS, 2),
    *(CaptureObject(ClassId.REGISTER, register, 2) for register in REGISTERS),
)
ALL_COLUMNS: Final = tuple(range(len(CAPTURE_OBJECTS)))
#: What the AMR status says: nothing happened.
STATUS: Final = 0

_CLOCK, _STATUS, _FIRST_REGISTER = 0, 1, 2
_CELL_SIZE: Final = {_CLOCK: 14, _STATUS: 2}
_REGISTER_SIZE: Final = 5
_KEPT_ROWS: Final = 700  # templates of a week and less are kept

Bytes = npt.NDArray[np.uint8]


class Rows(NamedTuple):
    """``length`` rows from quarter ``first`` on; ``columns`` are places in CAPTURE_OBJECTS."""

    first: int
    length: int
    columns: tuple[int, ...] = ALL_COLUMNS


def window(now_s: int, entries: int) -> Rows:
    """All rows that a profile of ``entries`` holds at ``now_s`` (Unix seconds), oldest first."""
    newest = quarter_of(now_s)
    count = max(0, min(entries, newest + 1))
    return Rows(newest - count + 1, count)


def select(held: Rows, selection: Selection, deviation_min: int) -> Rows | DataAccessResult:
    """The rows and columns that ``selection`` asks for, or why it cannot be granted.

    ``deviation_min`` is the meter's, for bounds that have none.
    """
    chooser = _SELECTORS.get(selection.selector)
    if chooser is None:
        return DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
    try:
        return chooser(held, selection.parameters, deviation_min)
    except RemoteProtocolError:
        return DataAccessResult.TYPE_UNMATCHED


def _by_range(held: Rows, parameters: bytes, deviation_min: int) -> Rows | DataAccessResult:
    asked = range_of(parameters, deviation_min)
    if isinstance(asked, DataAccessResult):
        return asked
    low, high, columns = asked
    first, end = held.first, held.first + held.length
    if low is not None:
        first = max(first, quarter_of(low + QUARTER_S - 1))  # both bounds are included
    if high is not None:
        end = min(end, quarter_of(high) + 1)
    return Rows(first, max(0, end - first), columns)


@lru_cache(maxsize=64)
def range_of(
    parameters: bytes, deviation_min: int
) -> tuple[int | None, int | None, tuple[int, ...]] | DataAccessResult:
    """Bounds in Unix seconds and columns of a range; kept, since all meters are asked for the same one."""
    descriptor = RangeDescriptor.decode(axdr.decode_exact(parameters))
    if descriptor.restricting != CAPTURE_OBJECTS[_CLOCK]:
        return DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
    columns = ALL_COLUMNS
    if descriptor.selected:
        if not set(descriptor.selected) <= set(CAPTURE_OBJECTS):
            return DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
        columns = tuple(n for n, capture in enumerate(CAPTURE_OBJECTS) if capture in descriptor.selected)
    low, high = (_moment(bound, deviation_min) for bound in (descriptor.low, descriptor.high))
    return low, high, columns


def _moment(bound: Data, deviation_min: int) -> int | None:
    """A bound in whole Unix seconds; None where it is open."""
    stamp = date_time(bound)
    if stamp is None:
        return None
    local = stamp.local()
    deviation = deviation_min if stamp.deviation_min is None else stamp.deviation_min
    since = np.datetime64(local, "s").astype(np.int64)
    return int(since) + deviation * 60


def _by_entry(held: Rows, parameters: bytes, deviation_min: int) -> Rows | DataAccessResult:
    asked = EntryDescriptor.decode(axdr.decode_exact(parameters))
    if asked.from_entry == 0 or asked.from_value == 0:
        return DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
    last = min(asked.to_entry or held.length, held.length)
    columns = held.columns[asked.from_value - 1 : asked.to_value or None]
    if not columns:
        return DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
    return Rows(held.first + asked.from_entry - 1, max(0, last - asked.from_entry + 1), columns)


_SELECTORS: Final[dict[int, Callable[[Rows, bytes, int], Rows | DataAccessResult]]] = {
    BY_RANGE: _by_range,
    BY_ENTRY: _by_entry,
}


def encode(rows: Rows, consumption: Consumption, deviation_min: int) -> bytes:
    """The buffer as an A-XDR array of structures."""
    build = _template if rows.length <= _KEPT_ROWS else _template.__wrapped__
    head, template, registers, place = build(rows, deviation_min)
    cells = template.copy()
    if registers and rows.length:
        values = consumption.registers(rows.first, rows.length)
        if len(registers) < len(REGISTERS):
            values = values[list(registers)]
        # They stand side by side in a row, each behind its tag.
        strides = (_REGISTER_SIZE, cells.shape[1])
        np.ndarray(values.shape, ">u4", cells, place, strides)[:] = values
    return head + cells.tobytes()


@lru_cache(maxsize=256)
def _template(rows: Rows, deviation_min: int) -> tuple[bytes, Bytes, tuple[int, ...], int]:
    """The array's head, its rows with registers left open, which these are, and the first one's byte."""
    head = bytes((DataType.ARRAY,)) + axdr.encode_length(rows.length)
    sizes = [_CELL_SIZE.get(column, _REGISTER_SIZE) for column in rows.columns]
    template = np.zeros((rows.length, 2 + sum(sizes)), np.uint8)
    template[:, :2] = (DataType.STRUCTURE, len(rows.columns))
    at = 2
    for column, size in zip(rows.columns, sizes, strict=True):
        if column == _CLOCK:
            template[:, at : at + 2] = (DataType.OCTET_STRING, 12)
            quarters = np.arange(rows.first, rows.first + rows.length, dtype=np.int64)
            template[:, at + 2 : at + 14] = stamps(quarters, deviation_min)
        elif column == _STATUS:
            template[:, at : at + 2] = (DataType.UNSIGNED, STATUS)
        else:
            template[:, at] = DataType.DOUBLE_LONG_UNSIGNED
        at += size
    registers = tuple(column - _FIRST_REGISTER for column in rows.columns if column >= _FIRST_REGISTER)
    return head, template, registers, template.shape[1] - _REGISTER_SIZE * len(registers) + 1


def stamps(quarters: I8, deviation_min: int) -> Bytes:
    """Date-times of 12 bytes, one per row, of the beginning of ``quarters`` on a clock of this deviation."""
    local = quarters * QUARTER_S + moment_of(0) - deviation_min * 60
    days, seconds = np.divmod(local, 86_400)
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    year = dates.astype("datetime64[Y]").astype(np.int64) + 1970
    out = np.zeros((len(quarters), 12), np.uint8)
    out[:, 0], out[:, 1] = year >> 8, year & 0xFF
    out[:, 2] = months.astype(np.int64) % 12 + 1
    out[:, 3] = (dates - months.astype("datetime64[D]")).astype(np.int64) + 1
    out[:, 4] = (days + 3) % 7 + 1  # 1970-01-01 was a Thursday
    out[:, 5], out[:, 6], out[:, 7] = seconds // 3600, seconds // 60 % 60, seconds % 60
    out[:, 9:11] = np.frombuffer(deviation_min.to_bytes(2, "big", signed=True), np.uint8)
    return out
