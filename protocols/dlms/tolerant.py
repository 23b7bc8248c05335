"""Reads A-XDR that is not quite: attribute descriptors without tags, and values that are cut short.

Sagemcom and EG.D push lists hold a structure of two, a COSEM attribute descriptor and its value, and write
the descriptor as plain fields, without the tags that A-XDR wants inside Data. Only the decode tool and push
listeners come here, and only with bytes that the strict reader refused, so this is off the hot path.
"""

from typing import Final, NamedTuple

from construct import Bytes, Const, ConstructError, ExprValidator, Int8ub, Int16ub, Sequence, Struct, obj_

from protocols.dlms import axdr
from protocols.dlms.axdr import Data, DataType
from protocols.errors import RemoteProtocolError

#: As on the wire: class id, the logical name with its last group always 255, the attribute. That and the
#: ranges tell it from a tag: a class id below 256 begins with 00, which would be a null-data.
_UNTAGGED: Final = Struct(
    "class_id" / ExprValidator(Int16ub, (obj_ >= 1) & (obj_ <= 255)),
    "name" / Sequence(ExprValidator(Int8ub, obj_ <= 15), Bytes(4), Const(b"\xff")),
    "attribute" / ExprValidator(Int8ub, (obj_ >= 1) & (obj_ <= 127)),
)
_UNTAGGED_LENGTH: Final = _UNTAGGED.sizeof()
_CUT_SHORT: Final = "cut short"  # how axdr begins the reason when bytes are missing


class Descriptor(NamedTuple):
    """Contents of the structure that an untagged attribute descriptor is given as: with tags it would be
    (long-unsigned, octet-string, integer)."""

    class_id: Data
    name: Data
    attribute: Data


class Reading(NamedTuple):
    """What could be read. ``data`` has every element before the place where ``error`` arose (None where
    nothing was read); ``end`` is the offset behind what was read."""

    data: Data | None
    end: int
    error: RemoteProtocolError | None = None


def read(buf: bytes) -> Reading:
    """The value that ``buf`` holds, with or without tags on its attribute descriptors: what gets further.

    Never raises. Bytes behind the value are an error in the answer.
    """
    tagged = _read_all(buf, untagged=False)
    if tagged.error is None:
        return tagged
    untagged = _read_all(buf, untagged=True)
    return untagged if untagged.error is None or untagged.end > tagged.end else tagged


def has_descriptors(data: Data) -> bool:
    """Whether an untagged attribute descriptor stands anywhere in ``data``."""
    if isinstance(data.value, Descriptor):
        return True
    nested = data.type in (DataType.ARRAY, DataType.STRUCTURE)
    return nested and any(has_descriptors(item) for item in data.value)


def _read_all(buf: bytes, *, untagged: bool) -> Reading:
    reading = _read(buf, 0, 0, untagged)
    if reading.error is None and reading.end != len(buf):
        error = RemoteProtocolError(f"{len(buf) - reading.end} bytes after the value", offset=reading.end)
        return reading._replace(error=error)
    return reading


def _read(buf: bytes, offset: int, depth: int, untagged: bool) -> Reading:
    tag = buf[offset] if offset < len(buf) else None
    if tag not in (DataType.ARRAY, DataType.STRUCTURE):
        try:
            return Reading(*axdr.decode(buf, offset))
        except RemoteProtocolError as exc:
            return Reading(None, offset, exc)
    if depth >= axdr.MAX_DEPTH:
        return Reading(
            None, offset, RemoteProtocolError(f"nested deeper than {axdr.MAX_DEPTH}", offset=offset)
        )
    kind = DataType(tag)
    try:
        count, at = axdr.decode_length(buf, offset + 1)
    except RemoteProtocolError as exc:
        return Reading(None, offset, exc)
    items: list[Data] = []
    error: RemoteProtocolError | None = None
    if untagged and kind is DataType.STRUCTURE and count == 2:
        found = _descriptor(buf, at)
        if found is not None:
            items.append(found)
            at += _UNTAGGED_LENGTH
        elif at < len(buf) < at + _UNTAGGED_LENGTH and buf[at] == 0:
            error = RemoteProtocolError(f"{_CUT_SHORT} in an attribute descriptor", offset=at)
    complete = len(items)
    while len(items) < count and error is None:
        item, at, error = _read(buf, at, depth + 1, untagged)
        if item is not None:
            items.append(item)
        complete += error is None
    if error is not None and error.reason.startswith(_CUT_SHORT):
        error = RemoteProtocolError(_cut_short(error, kind, complete, count), offset=error.offset)
    return Reading(Data(kind, tuple(items)), at, error)


def _cut_short(error: RemoteProtocolError, kind: DataType, complete: int, count: int) -> str:
    """The reason with the count of the outermost array (structure): that is what a reader wants to know."""
    reason, _, inner = error.reason.partition(" (")
    if kind is DataType.STRUCTURE and "array" in inner:
        return error.reason
    return f"{reason} ({complete} of {count} elements of the {kind.name.lower()} are whole)"


def _descriptor(buf: bytes, offset: int) -> Data | None:
    try:
        found = _UNTAGGED.parse(buf[offset : offset + _UNTAGGED_LENGTH])
    except ConstructError:
        return None
    name = bytes(buf[offset + 2 : offset + 8])
    fields = Descriptor(axdr.u16(found.class_id), axdr.octets(name), axdr.i8(found.attribute))
    return Data(DataType.STRUCTURE, fields)
