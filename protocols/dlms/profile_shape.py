"""The shape of a buffer whose rows are all alike: where its tags, lengths, stamps and values stand."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from protocols.dlms import axdr
from protocols.dlms.axdr import DataType
from protocols.dlms.profile_columns import BufferLayout, Role
from protocols.dlms.profile_stamps import Stamps

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
_STRINGS: Final = frozenset({DataType.OCTET_STRING, DataType.VISIBLE_STRING})

#: Octets.
U1 = npt.NDArray[np.uint8]


@dataclass(slots=True)
class Template:
    """A buffer of one shape with its values masked out, and its stamps."""

    masked: bytes
    masked_array: U1
    stamps: Stamps


@dataclass(slots=True)
class Shape:
    """Where everything is in a buffer of ``size`` bytes: ``rows`` rows of ``stride`` from ``start``."""

    size: int
    rows: int
    start: int
    stride: int
    clock: int  # offset of the 12 octets within the row
    pattern: bytes  # head and first row, values and stamps blanked: two buffers of one shape agree in it
    row_mask: U1  # 0xFF on tags and lengths, 0 on all contents
    mask: U1  # whole buffer: 0xFF on tags, lengths and stamps
    groups: tuple[tuple[int, int, str, int, int], ...]  # first value column, columns, dtype, offset, step
    status: tuple[str, int] | None  # dtype, offset
    has_status: bool
    valid: npt.NDArray[np.bool_]
    templates: dict[bytes, Template] = field(default_factory=dict)


def compile_shape(raw: bytes, layout: BufferLayout) -> Shape | None:
    """The shape that the first row has, None where not all rows can have it.

    Raises RemoteProtocolError: a length that is none.
    """
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
    return Shape(
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
