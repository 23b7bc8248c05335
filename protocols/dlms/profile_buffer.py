"""Load-profile buffers to columns: the vectorised view where it can, the general decoder where it must.

The general decoder here takes whatever a profile buffer may be: arrays and compact arrays, null-compressed
rows, delta values, rows of changing types. Both decoders give identical columns; a property test holds them
to it.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from protocols.dlms import axdr
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem_time import DEVIATION_UNSPECIFIED, CosemDateTime
from protocols.dlms.profile_columns import (
    INT64_MAX,
    INT64_MIN,
    NO_STATUS,
    BufferLayout,
    Column,
    NullRule,
    ProfileColumns,
    Role,
    to_utc_us,
)
from protocols.dlms.profile_view import concatenate, view, view_batch
from protocols.errors import RemoteProtocolError

__all__ = [
    "NO_STATUS",
    "BufferLayout",
    "Column",
    "NullRule",
    "ProfileColumns",
    "Role",
    "decode_buffer",
    "decode_buffer_general",
    "decode_buffers",
]

_INTEGERS: Final = frozenset(
    {
        DataType.INTEGER, DataType.LONG, DataType.DOUBLE_LONG, DataType.LONG64, DataType.UNSIGNED,
        DataType.LONG_UNSIGNED, DataType.DOUBLE_LONG_UNSIGNED, DataType.LONG64_UNSIGNED, DataType.ENUM,
    }
)  # fmt: skip
_DELTAS: Final = frozenset(
    {
        DataType.DELTA_INTEGER, DataType.DELTA_LONG, DataType.DELTA_DOUBLE_LONG,
        DataType.DELTA_UNSIGNED, DataType.DELTA_LONG_UNSIGNED, DataType.DELTA_DOUBLE_LONG_UNSIGNED,
    }
)  # fmt: skip
_LOCAL_EPOCH_DAY: Final = 719_163
#: Bits that fit the status column beside its "none".
_STATUS_BITS: Final = 63


def decode_buffer(raw: axdr.Buffer, layout: BufferLayout) -> ProfileColumns:
    """Columns of one buffer: ``raw`` is exactly the A-XDR array (or compact-array) of rows.

    Raises:
        RemoteProtocolError: not an array of rows of the layout's columns, or a clock that is not a whole
            moment; its offset is where in ``raw``.
    """
    raw = bytes(raw)
    columns = view(raw, layout)
    return decode_buffer_general(raw, layout) if columns is None else columns


def decode_buffers(raws: Sequence[axdr.Buffer], layout: BufferLayout) -> tuple[ProfileColumns, list[int]]:
    """Columns of many buffers of one layout, one after another, and the number of rows of each.

    Raises:
        RemoteProtocolError: as `decode_buffer`, naming the first buffer that is bad.
    """
    if not raws:
        return decode_buffer_general(b"\x01\x00", layout), []
    buffers = [bytes(raw) for raw in raws]
    columns = view_batch(buffers, layout)
    if columns is not None:
        return columns, [len(columns) // len(buffers)] * len(buffers)
    parts = []
    for number, buffer in enumerate(buffers):
        try:
            parts.append(decode_buffer(buffer, layout))
        except RemoteProtocolError as exc:
            raise RemoteProtocolError(f"buffer {number}: {exc.reason}", offset=exc.offset) from exc
    return concatenate(parts), [len(part) for part in parts]


def decode_buffer_general(raw: axdr.Buffer, layout: BufferLayout) -> ProfileColumns:
    """As `decode_buffer`, value by value: the reference that the vectorised view must agree with."""
    raw = bytes(raw)
    rows = _rows(raw, layout)
    values = np.zeros((len(rows), len(layout.values_at)), np.int64)
    valid = np.zeros(values.shape, np.bool_)
    exceptions: list[tuple[int, int, Data]] = []
    for index, at in enumerate(layout.values_at):
        repeat = layout.columns[at].null is NullRule.REPEAT
        for row, cell in enumerate(_series([fields[at] for fields in rows], repeat, INT64_MIN, INT64_MAX)):
            if isinstance(cell, int):
                values[row, index] = cell
                valid[row, index] = True
            elif cell is not None:
                exceptions.append((row, at, cell))
    status = None
    if (at_status := layout.status_at) is not None:
        status = np.full(len(rows), NO_STATUS, np.int64)
        repeat = layout.columns[at_status].null is NullRule.REPEAT
        words = [_word(fields[at_status]) for fields in rows]
        for row, cell in enumerate(_series(words, repeat, 0, INT64_MAX)):
            if isinstance(cell, int):
                status[row] = cell
            elif cell is not None:
                exceptions.append((row, at_status, cell))
    stamps, deviation, clock_status = _clock(raw, [fields[layout.clock_at] for fields in rows], layout)
    return ProfileColumns(
        np.array(stamps, np.int64),
        np.array(deviation, np.int16),
        np.array(clock_status, np.int16),
        status,
        values,
        valid,
        tuple(sorted(exceptions, key=lambda item: item[:2])),
    )


def _rows(raw: bytes, layout: BufferLayout) -> list[tuple[Data, ...]]:
    data = axdr.decode_exact(raw)
    if data.type is DataType.COMPACT_ARRAY:
        items = data.value.elements
    elif data.type is DataType.ARRAY:
        items = data.value
    else:
        raise RemoteProtocolError(f"a profile buffer is an array, not {data.type.name}", offset=0)
    width = len(layout.columns)
    for row, item in enumerate(items):
        if item.type is not DataType.STRUCTURE or len(item.value) != width:
            raise RemoteProtocolError(
                f"row {row} is not a structure of {width} columns", offset=_place(raw, row)
            )
    return [item.value for item in items]


def _word(cell: Data) -> Data:
    """A status word's cell, a bit-string as the number whose most significant bit is its first.

    One of more than 63 bits, of none, or with something in its padding stays what it is.
    """
    if cell.type is not DataType.BIT_STRING or not 1 <= cell.value.length <= _STATUS_BITS:
        return cell
    padding = -cell.value.length % 8
    number, rest = divmod(int.from_bytes(cell.value.octets, "big"), 1 << padding)
    return cell if rest else Data(DataType.LONG64_UNSIGNED, number)


def _series(cells: list[Data], repeat: bool, low: int, high: int) -> list[int | Data | None]:
    """A column's cells: integers, None where missing, or `Data` that is no integer within low..high."""
    out: list[int | Data | None] = []
    previous: int | Data | None = None
    for cell in cells:
        kind = cell.type
        found: int | Data | None
        if kind is DataType.NULL:
            found = previous if repeat else None
        elif kind in _INTEGERS:
            found = cell.value if low <= cell.value <= high else cell
        elif kind in _DELTAS and isinstance(previous, int) and low <= previous + cell.value <= high:
            found = previous + cell.value
        else:
            found = cell
        out.append(found)
        # Nothing captured in between does not end a series: the next difference counts from the last value.
        if found is not None:
            previous = found
    return out


def _clock(raw: bytes, cells: list[Data], layout: BufferLayout) -> tuple[list[int], list[int], list[int]]:
    """Stamps, deviations and clock states of all rows."""
    deviation = [DEVIATION_UNSPECIFIED] * len(cells)
    clock_status = [NO_STATUS] * len(cells)
    told: list[int] = []  # rows whose clock is not null
    local: list[int] = []
    for row, cell in enumerate(cells):
        if cell.type is DataType.NULL:
            continue
        try:
            if cell.type not in (DataType.OCTET_STRING, DataType.DATE_TIME):
                raise RemoteProtocolError(f"clock is {cell.type.name}, not a date-time")
            stamp = CosemDateTime.from_bytes(cell.value)
            local.append(_wall_clock_us(stamp))
        except RemoteProtocolError as exc:
            raise _clock_error(raw, row, layout, exc) from exc
        told.append(row)
        if stamp.deviation_min is not None:
            deviation[row] = stamp.deviation_min
        if stamp.status is not None:
            clock_status[row] = int(stamp.status)
    try:
        utc = to_utc_us(layout, local, [deviation[row] for row in told], [clock_status[row] for row in told])
    except RemoteProtocolError as exc:
        row = told[exc.offset] if exc.offset is not None else 0
        raise _clock_error(raw, row, layout, exc) from exc
    known = dict(zip(told, utc, strict=True))
    step = (-layout.period_s if layout.descending else layout.period_s) * 1_000_000
    stamps: list[int] = []
    for row in range(len(cells)):
        if (told_stamp := known.get(row)) is not None:
            stamps.append(told_stamp)
        elif stamps and step:
            stamps.append(stamps[-1] + step)
        else:
            reason = "no row before it" if not stamps else "no capture period"
            raise RemoteProtocolError(
                f"row {row}: the clock is null, and there is {reason}",
                offset=_place(raw, row, layout.clock_at),
            )
    return stamps, deviation, clock_status


def _wall_clock_us(stamp: CosemDateTime) -> int:
    local = stamp.local()
    days = local.toordinal() - _LOCAL_EPOCH_DAY
    seconds = days * 86_400 + local.hour * 3_600 + local.minute * 60 + local.second
    return seconds * 1_000_000 + local.microsecond


def _clock_error(raw: bytes, row: int, layout: BufferLayout, exc: RemoteProtocolError) -> RemoteProtocolError:
    return RemoteProtocolError(f"row {row}: {exc.reason}", offset=_place(raw, row, layout.clock_at))


def _place(raw: bytes, row: int, column: int | None = None) -> int | None:
    """Offset of a row, or of one of its columns; None within a compact-array, whose cells have no tags."""
    if raw[0] != DataType.ARRAY:
        return None
    _, at = axdr.decode_length(raw, 1)
    for _ in range(row):
        at = axdr.skip(raw, at)
    if column is not None:
        _, at = axdr.decode_length(raw, at + 1)
        for _ in range(column):
            at = axdr.skip(raw, at)
    return at
