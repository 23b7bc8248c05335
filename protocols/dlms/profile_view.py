"""The vectorised profile decoder: a buffer whose rows all have one fixed layout, read through numpy views.

It never refuses: it returns columns, or None where anything is not as plain as it needs, and then the
general decoder says what the bytes are. What makes it fast is that meters of one model answer the same
question with the same stamps. A *shape* (tags, lengths, places of the values) is compiled from the first
row of a buffer; a *template* is a buffer of that shape with all values masked out, whose date-times have
been checked part by part and turned into UTC. A buffer that equals a template under the mask has, byte for
byte, those tags and those checked stamps; only its values are left to read.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from protocols.dlms.profile_columns import INT64_MAX, NO_STATUS, BufferLayout, ProfileColumns
from protocols.dlms.profile_shape import U1, Shape, Template, compile_shape
from protocols.dlms.profile_stamps import Stamps, stamps_of
from protocols.errors import RemoteProtocolError

#: Shapes kept per layout, templates per shape: a template of 96 rows of 38 bytes takes about 6 kB.
MAX_SHAPES: Final = 16
MAX_TEMPLATES: Final = 64
#: Bytes of a batch compared at once: small enough to stay in the processor's cache.
_CHUNK: Final = 1 << 18
#: Status types whose every value fits the status column.
_SAFE_STATUS: Final = frozenset({">u1", ">u2", ">u4"})


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


def _match(raw: bytes, layout: BufferLayout) -> tuple[Shape, Stamps] | None:
    """Shape and checked stamps of a buffer, from the caches where it has been seen."""
    if not raw:
        return None
    buf = np.frombuffer(raw, np.uint8)
    shape: Shape | None = layout.shapes.get(len(raw))
    if shape is not None:
        template = shape.templates.get(_first_stamp(shape, raw))
        if template is not None and (buf & shape.mask).tobytes() == template.masked:
            return shape, template.stamps
    try:
        compiled = compile_shape(raw, layout)
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
    template = Template(masked.tobytes(), masked, stamps)
    _remember(shape.templates, _first_stamp(shape, raw), template, MAX_TEMPLATES)
    return shape, stamps


def _first_stamp(shape: Shape, raw: bytes) -> bytes:
    """What templates of a shape are found by: the octets of the first row's date-time."""
    at = shape.start + shape.clock
    return raw[at : at + 12]


def _remember(cache: dict[Any, Any], key: object, value: object, limit: int) -> None:
    """Keep ``value``, dropping the oldest entry where the cache is full."""
    cache.pop(key, None)
    while len(cache) >= limit:
        cache.pop(next(iter(cache)), None)
    cache[key] = value


def _columns(
    shape: Shape, raw: bytes, buffers: int, stamps: Stamps, valid: npt.NDArray[np.bool_]
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


def _batch_stamps(shape: Shape, template: Template, matrix: U1) -> Stamps | None:
    """Stamps of buffers that all equal the template under the mask."""
    if not ((matrix & shape.mask) == template.masked_array).all():
        return None
    known = template.stamps
    count = len(matrix)
    return Stamps(
        np.tile(known.stamp_us, count),
        np.tile(known.deviation_min, count),
        np.tile(known.clock_status, count),
    )


def _odd_stamps(shape: Shape, matrix: U1, layout: BufferLayout) -> Stamps | None:
    """Stamps of buffers, all tags and every octet of the date-times checked; None: one is not plain."""
    start = shape.start
    head = np.frombuffer(shape.pattern, np.uint8, start)
    if not (matrix[:, :start] == head).all():
        return None
    rows = matrix[:, start:].reshape(-1, shape.stride)
    tags = np.frombuffer(shape.pattern, np.uint8, shape.stride, start + shape.stride)
    if not ((rows & shape.row_mask) == tags).all():
        return None
    octets = rows[:, shape.clock : shape.clock + 12].astype(np.int64)
    return stamps_of(octets, shape.rows, layout)
