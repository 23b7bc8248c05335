"""Compact arrays: one type description, then the contents of all elements without tags."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from protocols.dlms.axdr.contents import (
    cut_short,
    data_type,
    decode_contents,
    decode_length,
    element_count,
    encode_contents,
    encode_length,
    require,
)
from protocols.dlms.axdr.values import MAX_DEPTH, Buffer, Data, DataType
from protocols.errors import LocalProtocolError, RemoteProtocolError

#: Elements, counted at all levels, that a compact array may expand to per byte of its contents. Only elements
#: without width (null columns) need more than two.
EXPANSION: Final = 16


class TypeDescription(NamedTuple):
    """Type of a compact array's elements: ``length`` counts an array's elements, ``parts`` an array's one
    element type or a structure's fields."""

    type: DataType
    length: int = 0
    parts: "tuple[TypeDescription, ...]" = ()


@dataclass(frozen=True, slots=True)
class CompactArray:
    """A compact array as sent, and the same expanded: ``elements`` are ordinary `Data` of ``description``."""

    description: TypeDescription
    contents: bytes
    elements: tuple[Data, ...] = field(compare=False, repr=False)

    @classmethod
    def of(cls, description: TypeDescription, elements: Iterable[Data]) -> "CompactArray":
        """Pack elements that all are of ``description``."""
        elements = tuple(elements)
        out = bytearray()
        for element in elements:
            _encode_described(description, element, out)
        return cls(description, bytes(out), elements)


def decode_compact(buf: Buffer, offset: int, depth: int) -> tuple[CompactArray, int]:
    """The compact array whose tag is at ``offset``, within ``depth`` levels, and the offset behind it."""
    description, at = _decode_description(buf, offset + 1, depth + 1)
    length, start = decode_length(buf, at)
    end = start + length
    if end > len(buf):
        raise cut_short(start, length, len(buf))
    contents = bytes(buf[start:end])
    budget = [EXPANSION * length]
    elements = []
    at = 0
    while at < length:
        before = at
        try:
            element, at = _expand(description, contents, at, budget)
        except RemoteProtocolError as exc:
            raise RemoteProtocolError(exc.reason, offset=start + (exc.offset or 0)) from exc
        if at == before:
            raise RemoteProtocolError("compact-array has contents, but elements without width", offset=start)
        elements.append(element)
    return CompactArray(description, contents, tuple(elements)), end


def _decode_description(buf: Buffer, offset: int, depth: int) -> tuple[TypeDescription, int]:
    if depth > MAX_DEPTH:
        raise RemoteProtocolError(f"nested deeper than {MAX_DEPTH}", offset=offset)
    kind = data_type(buf, offset)
    if kind is DataType.COMPACT_ARRAY:
        raise RemoteProtocolError("compact-array within a compact-array", offset=offset)
    if kind is DataType.ARRAY:  # number-of-elements is an Unsigned16 here, not a length
        if offset + 3 > len(buf):
            raise cut_short(offset, 3, len(buf))
        part, end = _decode_description(buf, offset + 3, depth + 1)
        return TypeDescription(kind, int.from_bytes(buf[offset + 1 : offset + 3], "big"), (part,)), end
    if kind is DataType.STRUCTURE:
        count, at = element_count(buf, offset + 1)
        parts = []
        for _ in range(count):
            part, at = _decode_description(buf, at, depth + 1)
            parts.append(part)
        return TypeDescription(kind, 0, tuple(parts)), at
    return TypeDescription(kind), offset + 1


def _expand(
    description: TypeDescription, contents: bytes, offset: int, budget: list[int]
) -> tuple[Data, int]:
    """One element; ``budget`` holds how many more may be built, at all levels."""
    budget[0] -= 1
    if budget[0] < 0:
        raise RemoteProtocolError(
            f"compact-array expands to more than {EXPANSION} elements a byte", offset=offset
        )
    kind = description.type
    if kind is DataType.ARRAY:
        parts: Iterable[TypeDescription] = (description.parts[0] for _ in range(description.length))
    elif kind is DataType.STRUCTURE:
        parts = description.parts
    else:
        return decode_contents(kind, contents, offset)
    items = []
    for part in parts:
        item, offset = _expand(part, contents, offset, budget)
        items.append(item)
    return Data(kind, tuple(items)), offset


def encode_description(description: TypeDescription, out: bytearray) -> None:
    """Append a type description. Raises LocalProtocolError."""
    out.append(description.type)
    if description.type is DataType.ARRAY:
        if not 0 <= description.length <= 0xFFFF:
            raise LocalProtocolError(
                f"an array in a type description has 0 to 65535 elements: {description.length}"
            )
        out += description.length.to_bytes(2, "big")
    elif description.type is DataType.STRUCTURE:
        out += encode_length(len(description.parts))
    for part in description.parts:
        encode_description(part, out)


def _encode_described(description: TypeDescription, data: Data, out: bytearray) -> None:
    """Contents of ``data`` without tags, as its description promises."""
    kind = description.type
    require(kind, data.type is kind, data)
    if kind is DataType.ARRAY:
        require(kind, len(data.value) == description.length, data)
        for item in data.value:
            _encode_described(description.parts[0], item, out)
    elif kind is DataType.STRUCTURE:
        require(kind, len(data.value) == len(description.parts), data)
        for part, item in zip(description.parts, data.value, strict=True):
            _encode_described(part, item, out)
    else:
        encode_contents(kind, data.value, out)
