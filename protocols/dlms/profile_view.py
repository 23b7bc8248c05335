"""The vectorised profile decoder: a buffer whose rows all have one fixed layout, read through numpy views.

It never refuses: it returns columns, or None where anything is not as plain as it needs, and then the
general decoder says what the bytes are. What makes it fast is that meters of one model answer the same
question with the same stamps. A *shape* (tags, lengths, places of the values) is compiled from the first
row of a buffer; a *template* is a buffer of that shape with all values masked out, whose date-times have
been checked part by part and turned into UTC. A buffer that equals a template under the mask has, byte for
byte, those tags and those checked stamps; only its values are left to read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from protocols.dlms import axdr
from protocols.dlms.axdr import DataType
from protocols.dlms.cosem_time import DEVIATION_LIMIT_MIN, DEVIATION_UNSPECIFIED
from protocols.dlms.profile_columns import (
    INT64_MAX,
    NO_STATUS,
    BufferLayout,
    ProfileColumns,
    Role,
    to_utc_us,
)
from protocols.errors import RemoteProtocolError

#: Shapes kept per layout, templates per shape: a template of 96 rows of 38 bytes takes about 6 kB.
MAX_SHAPES: Final = 16
MAX_TEMPLATES: Final = 64
#: Bytes of a batch compared at once: small enough to stay in the processor's cache.
_CHUNK: Final = 1 << 18

_DTYPES: Final[dict[int, str]] = {
    DataType.INTEGER: ">i1",
    DataType.LONG: ">i2",
    DataType.DOUBLE_LONG: ">i4",
    DataType.LONG64: ">i8",
    DataType.UNSIGNED: ">u1",
    DataType.LONG_UNSIGNED: ">u2",
    DataType.DOUBLE_LONG_UNSIGNED: ">u4",
    DataType.LONG64_UNSIGNED: ">u8",
    DataType.ENUM: ">u1",
}
#: Status types whose every value fits the status column.
_SAFE_STATUS: Final = frozenset({">u1", ">u2", ">u4"})
_STRINGS: Final = frozenset({DataType.OCTET_STRING, DataType.VISIBLE_STRING})

_U1 = npt.NDArray[np.uint8]
_MONTH_DAYS: Final = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_DAYS_BEFORE: Final = np.array([0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334])
_DAYS_TO_1970: Final = 719_163


@dataclass(slots=True)
class _Stamps:
    """Clock columns of some rows."""

    stamp_us: npt.NDArray[np.int64]
    deviation_min: npt.NDArray[np.int16]
    clock_status: npt.NDArray[np.int16]


@dataclass(slots=True)
class _Template:
    masked: bytes
    masked_array: _U1
    stamps: _Stamps


@dataclass(slots=True)
class _Shape:
    """Where everything is in a buffer of ``size`` bytes: ``rows`` rows of ``stride`` from ``start``."""

    size: int
    rows: int
    start: int
    stride: int
    clock: int  # offset of the 12 octets within the row
    pattern: bytes  # head and first row, values and stamps blanked: two buffers of one shape agree in it
    row_mask: _U1  # 0xFF on tags and lengths, 0 on all contents
    mask: _U1  # whole buffer: 0xFF on tags, lengths and stamps
    groups: tuple[tuple[int, int, str, int, int], ...]  # first value column, columns, dtype, offset, step
    status: tuple[str, int] | None  # dtype, offset
    has_status: bool
    valid: npt.NDArray[np.bool_]
    templates: dict[bytes, _Template] = field(default_factory=dict)


def view(raw: bytes, layout: BufferLayout) -> ProfileColumns | None:
    """Columns of one buffer, or None where the general decoder is needed."""
    found = _match(raw, layout)
    if found is None:
        return None
    shape, stamps = found
    return _columns(shape, raw, 1, stamps, shape.valid)


def view_batch(raws: Sequence[bytes], layout: BufferLayout) -> ProfileColumns | None:
    """Columns of buffers of one shape, one after another.

    None where they are of several shapes, or one needs the general decoder.
    """
    size = len(raws[0])
    if any(len(raw) != size for raw in raws):
        return None
    found = _match(raws[0], layout)
    if found is None:
        return None
    shape, _ = found
    template = shape.templates[_first_stamp(shape, raws[0])]
    per_chunk = max(1, _CHUNK // size)
    parts = []
    for at in range(0, len(raws), per_chunk):
        chunk = raws[at : at + per_chunk]
        joined = b"".join(chunk)
        matrix = np.frombuffer(joined, np.uint8).reshape(len(chunk), size)
        stamps = _batch_stamps(shape, template, matrix)
        if stamps is None:
            stamps = _odd_stamps(shape, matrix, layout)
        if stamps is None:
            return None
        part = _columns(shape, joined, len(chunk), stamps, np.tile(shape.valid, (len(chunk), 1)))
        if part is None:
            return None
        parts.append(part)
    return concatenate(parts)


def concatenate(parts: Sequence[ProfileColumns]) -> ProfileColumns:
    """Columns of several buffers of one layout, one after another; rows of exceptions counted through."""
    if len(parts) == 1:
        return parts[0]
    exceptions = []
    before = 0
    for part in parts:
        exceptions += [(before + row, column, data) for row, column, data in part.exceptions]
        before += len(part)
    status = [part.status for part in parts if part.status is not None]
    return ProfileColumns(
        np.concatenate([part.stamp_us for part in parts]),
        np.concatenate([part.deviation_min for part in parts]),
        np.concatenate([part.clock_status for part in parts]),
        np.concatenate(status) if status else None,
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.valid for part in parts]),
        tuple(exceptions),
    )


# ---- shapes and templates ------------------------------------------------------------------------


def _match(raw: bytes, layout: BufferLayout) -> tuple[_Shape, _Stamps] | None:
    """Shape and checked stamps of a buffer, from the caches where it has been seen."""
    if not raw:
        return None
    buf = np.frombuffer(raw, np.uint8)
    shape: _Shape | None = layout.shapes.get(len(raw))
    if shape is not None:
        template = shape.templates.get(_first_stamp(shape, raw))
        if template is not None and (buf & shape.mask).tobytes() == template.masked:
            return shape, template.stamps
    try:
        compiled = _compile(raw, layout)
    except RemoteProtocolError:
        return None  # the general decoder meets the same bytes and says what is wrong with them
    if compiled is None:
        return None
    if shape is None or shape.pattern != compiled.pattern:
        shape = compiled
        _remember(layout.shapes, len(raw), shape, MAX_SHAPES)
    stamps = _odd_stamps(shape, buf.reshape(1, -1), layout)
    if stamps is None:
        return None
    for column in (stamps.stamp_us, stamps.deviation_min, stamps.clock_status):
        column.flags.writeable = False
    masked = buf & shape.mask
    template = _Template(masked.tobytes(), masked, stamps)
    _remember(shape.templates, _first_stamp(shape, raw), template, MAX_TEMPLATES)
    return shape, stamps


def _first_stamp(shape: _Shape, raw: bytes) -> bytes:
    """What templates of a shape are found by: the octets of the first row's date-time."""
    at = shape.start + shape.clock
    return raw[at : at + 12]


def _remember(cache: dict[Any, Any], key: object, value: object, limit: int) -> None:
    """Keep ``value``, dropping the oldest entry where the cache is full."""
    cache.pop(key, None)
    while len(cache) >= limit:
        cache.pop(next(iter(cache)), None)
    cache[key] = value


def _compile(raw: bytes, layout: BufferLayout) -> _Shape | None:
    """The shape that the first row has, if all rows can have it."""
    if not raw or raw[0] != DataType.ARRAY:
        return None
    rows, start = axdr.decode_length(raw, 1)
    if rows == 0 or start >= len(raw) or raw[start] != DataType.STRUCTURE:
        return None
    fields, at = axdr.decode_length(raw, start + 1)
    if fields != len(layout.columns):
        return None
    stride, left_over = divmod(len(raw) - start, rows)
    if left_over:
        return None
    row_mask = np.full(stride, 0xFF, np.uint8)
    clock = -1
    places: list[tuple[str, int]] = []
    status: tuple[str, int] | None = None
    for column in layout.columns:
        if at >= start + stride:
            return None
        kind = raw[at]
        begin = at + 1
        if kind in _STRINGS:
            size, begin = axdr.decode_length(raw, begin)
        elif kind in axdr.FIXED_SIZE:
            size = axdr.FIXED_SIZE[kind]
        else:
            return None
        at = begin + size
        if at > start + stride:
            return None
        row_mask[begin - start : at - start] = 0
        dtype = _DTYPES.get(kind)
        if column.role is Role.CLOCK:
            if kind not in (DataType.OCTET_STRING, DataType.DATE_TIME) or size != 12:
                return None
            clock = begin - start
        elif column.role is not Role.OTHER:
            if dtype is None and kind != DataType.NULL:
                return None
            if column.role is Role.VALUE:
                places.append((dtype or "", begin - start))
            elif dtype is not None:
                status = dtype, begin - start
    if at != start + stride:
        return None
    whole = row_mask.copy()
    whole[clock : clock + 12] = 0xFF
    first = np.frombuffer(raw, np.uint8, stride, start)
    valid = np.empty((rows, len(places)), np.bool_)
    valid[:] = [bool(dtype) for dtype, _ in places]
    valid.flags.writeable = False
    return _Shape(
        size=len(raw),
        rows=rows,
        start=start,
        stride=stride,
        clock=clock,
        pattern=raw[:start] + row_mask.tobytes() + (first & row_mask).tobytes(),
        row_mask=row_mask,
        mask=np.concatenate([np.full(start, 0xFF, np.uint8), np.tile(whole, rows)]),
        groups=_grouped(places),
        status=status,
        has_status=layout.status_at is not None,
        valid=valid,
    )


def _grouped(places: list[tuple[str, int]]) -> tuple[tuple[int, int, str, int, int], ...]:
    """Neighbouring value columns of one type and one distance, to be read in one go."""
    groups: list[tuple[int, int, str, int, int]] = []
    for index, (dtype, offset) in enumerate(places):
        if groups:
            first, columns, kind, begin, step = groups[-1]
            distance = offset - begin - step * (columns - 1)
            if kind == dtype and (columns == 1 or distance == step):
                groups[-1] = (first, columns + 1, kind, begin, distance)
                continue
        groups.append((index, 1, dtype, offset, 0))
    return tuple(groups)


# ---- columns -------------------------------------------------------------------------------------


def _columns(
    shape: _Shape, raw: bytes, buffers: int, stamps: _Stamps, valid: npt.NDArray[np.bool_]
) -> ProfileColumns | None:
    """Values and status of ``buffers`` buffers of one shape that lie one after another in ``raw``."""
    rows = shape.rows
    strides = (shape.size, shape.stride)
    values = np.empty((buffers, rows, valid.shape[1]), np.int64)
    for first, columns, dtype, offset, step in shape.groups:
        target = values[:, :, first : first + columns]
        if not dtype:
            target[:] = 0
            continue
        target[:] = np.ndarray((buffers, rows, columns), dtype, raw, shape.start + offset, (*strides, step))
        if dtype == ">u8" and target.min() < 0:
            return None
    status: npt.NDArray[np.int64] | None = None
    if shape.status is not None:
        dtype, offset = shape.status
        sent = np.ndarray((buffers, rows), dtype, raw, shape.start + offset, strides)
        if dtype not in _SAFE_STATUS and (sent.min() < 0 or sent.max() > INT64_MAX):
            return None
        status = sent.astype(np.int64).reshape(-1)
    elif shape.has_status:
        status = np.full(buffers * rows, NO_STATUS, np.int64)
    return ProfileColumns(
        stamps.stamp_us,
        stamps.deviation_min,
        stamps.clock_status,
        status,
        values.reshape(buffers * rows, valid.shape[1]),
        valid,
    )


def _batch_stamps(shape: _Shape, template: _Template, matrix: _U1) -> _Stamps | None:
    """Stamps of buffers that all equal the template under the mask."""
    if not ((matrix & shape.mask) == template.masked_array).all():
        return None
    known = template.stamps
    count = len(matrix)
    return _Stamps(
        np.tile(known.stamp_us, count),
        np.tile(known.deviation_min, count),
        np.tile(known.clock_status, count),
    )


def _odd_stamps(shape: _Shape, matrix: _U1, layout: BufferLayout) -> _Stamps | None:
    """Stamps of buffers, each row's tags and every octet of its date-time checked; None where one is not
    plain."""
    start = shape.start
    head = np.frombuffer(shape.pattern, np.uint8, start)
    if not (matrix[:, :start] == head).all():
        return None
    rows = matrix[:, start:].reshape(-1, shape.stride)
    tags = np.frombuffer(shape.pattern, np.uint8, shape.stride, start + shape.stride)
    if not ((rows & shape.row_mask) == tags).all():
        return None
    octets = rows[:, shape.clock : shape.clock + 12].astype(np.int64)
    local_us = _local_us(octets)
    if local_us is None:
        return None
    deviation = ((octets[:, 9] << 8) | octets[:, 10]).astype(np.int16)
    clock_status = np.where(octets[:, 11] == 0xFF, NO_STATUS, octets[:, 11]).astype(np.int16)
    open_deviation = deviation == DEVIATION_UNSPECIFIED
    if not (open_deviation | (np.abs(deviation.astype(np.int64)) <= DEVIATION_LIMIT_MIN)).all():
        return None
    if not open_deviation.any():
        minute_us = -60_000_000 if layout.inverted_deviation else 60_000_000
        return _Stamps(local_us + deviation * np.int64(minute_us), deviation, clock_status)
    # Without deviations the order of a buffer's own rows counts, so each buffer is settled by itself.
    utc: list[int] = []
    try:
        for at in range(0, len(rows), shape.rows):
            part = slice(at, at + shape.rows)
            utc += to_utc_us(
                layout, local_us[part].tolist(), deviation[part].tolist(), clock_status[part].tolist()
            )
    except RemoteProtocolError:
        return None  # the general decoder names the row
    return _Stamps(np.array(utc, np.int64), deviation, clock_status)


def _local_us(octets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
    """Wall-clock microseconds since 1970 of (n, 12) date-time octets; None where one is open or out of
    range."""
    year = (octets[:, 0] << 8) | octets[:, 1]
    month, day, weekday, hour, minute, second, hundredths = octets[:, 2:9].T
    if not ((year >= 1) & (year <= 9999) & (month >= 1) & (month <= 12)).all():
        return None
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    last_day = _MONTH_DAYS[month] + (leap & (month == 2))
    plain = (
        (day >= 1)
        & (day <= last_day)
        & (((weekday >= 1) & (weekday <= 7)) | (weekday == 0xFF))
        & (hour <= 23)
        & (minute <= 59)
        & (second <= 59)
        & ((hundredths <= 99) | (hundredths == 0xFF))
    )
    if not plain.all():
        return None
    years = year - 1
    days = years * 365 + years // 4 - years // 100 + years // 400 + _DAYS_BEFORE[month] + day
    days += (leap & (month > 2)) - _DAYS_TO_1970
    seconds = days * 86_400 + hour * 3_600 + minute * 60 + second
    micros: npt.NDArray[np.int64] = seconds * 1_000_000 + np.where(hundredths == 0xFF, 0, hundredths) * 10_000
    return micros
