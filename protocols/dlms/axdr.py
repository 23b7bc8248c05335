"""A-XDR: the COSEM Data type of the xDLMS services, to and from bytes (IEC 61334-6).

A value is a `Data(type, value)`; ``value`` by type:

===============================================  ========================================================
null, don't-care                                 None
boolean                                          bool
integer ... long64-unsigned, enum, delta         int
bcd                                              int, the byte as sent (0..255)
bit-string                                       `BitString` (exact bit count, octets as sent)
octet-string, date-time (12), date (5), time(4)  bytes
visible-string                                   str, one character per byte (ISO 8859-1): none is lost
utf8-string                                      str
float32, float64                                 `Real` (the exact bits, NaN payloads included)
array, structure                                 tuple[Data, ...]
compact-array                                    `CompactArray` (description, contents, expanded elements)
===============================================  ========================================================

Every decoder here gives a value or raises `RemoteProtocolError` with the offset, whatever the bytes. Work and
memory are bounded by the input: an element takes at least a byte, so a count above the bytes left fails at
once. Compact arrays alone can name more elements than bytes; `EXPANSION` bounds them. Nesting ends at
`MAX_DEPTH`.
"""

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np

from protocols.errors import LocalProtocolError, RemoteProtocolError

#: Levels of array, structure and compact-array in each other. Association lists need 7.
MAX_DEPTH: Final = 32
#: Elements, counted at all levels, that a compact array may expand to per byte of its contents. Only elements
#: without width (null columns) need more than two.
EXPANSION: Final = 16

Buffer = bytes | bytearray | memoryview


class DataType(IntEnum):
    """Tags of the Data CHOICE, named as in the Blue Book."""

    NULL = 0
    ARRAY = 1
    STRUCTURE = 2
    BOOLEAN = 3
    BIT_STRING = 4
    DOUBLE_LONG = 5
    DOUBLE_LONG_UNSIGNED = 6
    OCTET_STRING = 9
    VISIBLE_STRING = 10
    UTF8_STRING = 12
    BCD = 13
    INTEGER = 15
    LONG = 16
    UNSIGNED = 17
    LONG_UNSIGNED = 18
    COMPACT_ARRAY = 19
    LONG64 = 20
    LONG64_UNSIGNED = 21
    ENUM = 22
    FLOAT32 = 23
    FLOAT64 = 24
    DATE_TIME = 25
    DATE = 26
    TIME = 27
    DELTA_INTEGER = 28
    DELTA_LONG = 29
    DELTA_DOUBLE_LONG = 30
    DELTA_UNSIGNED = 31
    DELTA_LONG_UNSIGNED = 32
    DELTA_DOUBLE_LONG_UNSIGNED = 33
    DONT_CARE = 255


class Data(NamedTuple):
    """One value with its type. See the table above for what ``value`` is."""

    type: DataType
    value: Any


class BitString(NamedTuple):
    """``length`` bits, most significant first in ``octets``; pad bits of the last octet are kept as sent."""

    length: int
    octets: bytes

    @classmethod
    def of(cls, bits: str) -> "BitString":
        """From text such as ``"1011"``, padded with zero bits."""
        if bits.strip("01"):
            raise LocalProtocolError(f"a bit string is written with 0 and 1, not {bits!r}")
        size = -(-len(bits) // 8)
        return cls(len(bits), int(bits.ljust(size * 8, "0") or "0", 2).to_bytes(size, "big"))

    def __str__(self) -> str:
        return "".join(f"{octet:08b}" for octet in self.octets)[: self.length]


@dataclass(frozen=True, slots=True)
class Real:
    """A float32 (4 bytes) or float64 (8 bytes) by its exact bits, big-endian. Equal only where all bits
    are equal."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) not in (4, 8):
            raise ValueError(f"a float has 4 or 8 bytes, not {len(self.raw)}")

    def __float__(self) -> float:
        value: float = struct.unpack(">f" if len(self.raw) == 4 else ">d", self.raw)[0]
        return value

    def decimal(self) -> Decimal:
        """The shortest decimal that reads back as the same bits.

        NaN and infinities become the Decimal of that name (a NaN without its payload); minus zero keeps
        its sign.
        """
        value = np.frombuffer(self.raw, ">f4" if len(self.raw) == 4 else ">f8")[0]
        if not math.isfinite(value):
            return Decimal(str(float(value)))
        return Decimal(np.format_float_scientific(value, unique=True, trim="-"))


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


_T = DataType
_FIXED: Final[dict[int, struct.Struct]] = {
    _T.DOUBLE_LONG: struct.Struct(">i"),
    _T.DOUBLE_LONG_UNSIGNED: struct.Struct(">I"),
    _T.BCD: struct.Struct(">B"),
    _T.INTEGER: struct.Struct(">b"),
    _T.LONG: struct.Struct(">h"),
    _T.UNSIGNED: struct.Struct(">B"),
    _T.LONG_UNSIGNED: struct.Struct(">H"),
    _T.LONG64: struct.Struct(">q"),
    _T.LONG64_UNSIGNED: struct.Struct(">Q"),
    _T.ENUM: struct.Struct(">B"),
    _T.DELTA_INTEGER: struct.Struct(">b"),
    _T.DELTA_LONG: struct.Struct(">h"),
    _T.DELTA_DOUBLE_LONG: struct.Struct(">i"),
    _T.DELTA_UNSIGNED: struct.Struct(">B"),
    _T.DELTA_LONG_UNSIGNED: struct.Struct(">H"),
    _T.DELTA_DOUBLE_LONG_UNSIGNED: struct.Struct(">I"),
}  # fmt: skip
_RAW_SIZE: Final[dict[int, int]] = {_T.DATE_TIME: 12, _T.DATE: 5, _T.TIME: 4}
_REAL_SIZE: Final[dict[int, int]] = {_T.FLOAT32: 4, _T.FLOAT64: 8}
_TYPES: Final[dict[int, DataType]] = {int(tag): tag for tag in DataType}
#: Octets of the contents by tag where the tag alone tells them.
FIXED_SIZE: Final[dict[int, int]] = {
    _T.NULL: 0, _T.DONT_CARE: 0, _T.BOOLEAN: 1,
    **{tag: packer.size for tag, packer in _FIXED.items()}, **_RAW_SIZE, **_REAL_SIZE,
}  # fmt: skip


# ---- lengths -------------------------------------------------------------------------------------


def encode_length(n: int) -> bytes:
    """The shortest form: one byte below 128, else 0x80 + number of bytes and the length in at most four."""
    if not 0 <= n <= 0xFFFFFFFF:
        raise LocalProtocolError(f"a length is 0 to 2**32 - 1, not {n}")
    if n < 0x80:
        return bytes((n,))
    size = (n.bit_length() + 7) // 8
    return bytes((0x80 | size,)) + n.to_bytes(size, "big")


def decode_length(buf: Buffer, offset: int = 0) -> tuple[int, int]:
    """Length and the offset behind it. Forms longer than needed are read too, up to four length bytes."""
    if offset >= len(buf):
        raise _short(offset, 1, len(buf))
    first = buf[offset]
    if first < 0x80:
        return first, offset + 1
    size = first & 0x7F
    if not 1 <= size <= 4:
        raise RemoteProtocolError(f"length of {size} bytes, 1 to 4 are allowed", offset=offset)
    end = offset + 1 + size
    if end > len(buf):
        raise _short(offset, 1 + size, len(buf))
    return int.from_bytes(buf[offset + 1 : end], "big"), end


def _short(offset: int, needed: int, available: int) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"cut short: {needed} bytes needed, {max(available - offset, 0)} left", offset=offset
    )


def _count(buf: Buffer, offset: int) -> tuple[int, int]:
    """Number of elements of an array or structure, each of at least one byte."""
    count, start = decode_length(buf, offset)
    if count > len(buf) - start:
        raise RemoteProtocolError(f"{count} elements claimed, {len(buf) - start} bytes left", offset=offset)
    return count, start


def _tag(buf: Buffer, offset: int) -> DataType:
    if offset >= len(buf):
        raise _short(offset, 1, len(buf))
    kind = _TYPES.get(buf[offset])
    if kind is None:
        raise RemoteProtocolError(f"unknown data type {buf[offset]}", offset=offset)
    return kind


# ---- decoding ------------------------------------------------------------------------------------


def decode(buf: Buffer, offset: int = 0) -> tuple[Data, int]:
    """One value that starts at ``offset``, and the offset behind it.

    Raises:
        RemoteProtocolError: malformed, unknown or cut short; its offset is where in ``buf``.
    """
    if offset < 0:
        raise LocalProtocolError(f"negative offset {offset}")
    return _decode(buf, offset, 0)


def decode_exact(buf: Buffer) -> Data:
    """The one value that ``buf`` is; bytes behind it are an error."""
    data, end = _decode(buf, 0, 0)
    if end != len(buf):
        raise RemoteProtocolError(f"{len(buf) - end} bytes after the value", offset=end)
    return data


def _decode(buf: Buffer, offset: int, depth: int) -> tuple[Data, int]:
    kind = _tag(buf, offset)
    if kind is _T.ARRAY or kind is _T.STRUCTURE:
        if depth >= MAX_DEPTH:
            raise RemoteProtocolError(f"nested deeper than {MAX_DEPTH}", offset=offset)
        count, at = _count(buf, offset + 1)
        items = []
        for _ in range(count):
            item, at = _decode(buf, at, depth + 1)
            items.append(item)
        return Data(kind, tuple(items)), at
    if kind is _T.COMPACT_ARRAY:
        value, at = _decode_compact(buf, offset, depth)
        return Data(kind, value), at
    return _decode_contents(kind, buf, offset + 1)


def _decode_contents(kind: DataType, buf: Buffer, offset: int) -> tuple[Data, int]:
    """Contents of a plain type, the tag being known."""
    size = FIXED_SIZE.get(kind)
    if size is not None:
        end = offset + size
        if end > len(buf):
            raise _short(offset, size, len(buf))
        if (packer := _FIXED.get(kind)) is not None:
            return Data(kind, packer.unpack_from(buf, offset)[0]), end
        if kind is _T.BOOLEAN:
            return Data(kind, buf[offset] != 0), end
        if kind in _RAW_SIZE:
            return Data(kind, bytes(buf[offset:end])), end
        if kind in _REAL_SIZE:
            return Data(kind, Real(bytes(buf[offset:end]))), end
        return Data(kind, None), end
    length, start = decode_length(buf, offset)
    end = start + (-(-length // 8) if kind is _T.BIT_STRING else length)
    if end > len(buf):
        raise _short(start, end - start, len(buf))
    octets = bytes(buf[start:end])
    if kind is _T.BIT_STRING:
        return Data(kind, BitString(length, octets)), end
    if kind is _T.OCTET_STRING:
        return Data(kind, octets), end
    if kind is _T.VISIBLE_STRING:
        return Data(kind, octets.decode("latin-1")), end
    try:
        return Data(kind, octets.decode("utf-8")), end
    except UnicodeDecodeError as exc:
        raise RemoteProtocolError("utf8-string is not UTF-8", offset=start + exc.start) from exc


def skip(buf: Buffer, offset: int = 0) -> int:
    """Offset behind the value at ``offset``, without building it: structure and lengths are checked,
    contents of strings are not."""
    if offset < 0:
        raise LocalProtocolError(f"negative offset {offset}")
    size = len(buf)
    open_counts: list[int] = []  # elements still to come at each open level
    while True:
        kind = _tag(buf, offset)
        width = FIXED_SIZE.get(kind)
        if width is not None:
            end = offset + 1 + width
        elif kind is _T.ARRAY or kind is _T.STRUCTURE:
            if len(open_counts) >= MAX_DEPTH:
                raise RemoteProtocolError(f"nested deeper than {MAX_DEPTH}", offset=offset)
            count, end = _count(buf, offset + 1)
            if count:
                open_counts.append(count)
                offset = end
                continue
        elif kind is _T.COMPACT_ARRAY:
            _, end = _decode_compact(buf, offset, len(open_counts))
        else:
            length, start = decode_length(buf, offset + 1)
            end = start + (-(-length // 8) if kind is _T.BIT_STRING else length)
        if end > size:
            raise _short(offset, end - offset, size)
        offset = end
        while open_counts:
            open_counts[-1] -= 1
            if open_counts[-1]:
                break
            open_counts.pop()
        if not open_counts:
            return offset


# ---- compact arrays ------------------------------------------------------------------------------


def _decode_compact(buf: Buffer, offset: int, depth: int) -> tuple[CompactArray, int]:
    description, at = _decode_description(buf, offset + 1, depth + 1)
    length, start = decode_length(buf, at)
    end = start + length
    if end > len(buf):
        raise _short(start, length, len(buf))
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
    kind = _tag(buf, offset)
    if kind is _T.COMPACT_ARRAY:
        raise RemoteProtocolError("compact-array within a compact-array", offset=offset)
    if kind is _T.ARRAY:  # number-of-elements is an Unsigned16 here, not a length
        if offset + 3 > len(buf):
            raise _short(offset, 3, len(buf))
        part, end = _decode_description(buf, offset + 3, depth + 1)
        return TypeDescription(kind, int.from_bytes(buf[offset + 1 : offset + 3], "big"), (part,)), end
    if kind is _T.STRUCTURE:
        count, at = _count(buf, offset + 1)
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
    if kind is _T.ARRAY:
        parts: Iterable[TypeDescription] = (description.parts[0] for _ in range(description.length))
    elif kind is _T.STRUCTURE:
        parts = description.parts
    else:
        return _decode_contents(kind, contents, offset)
    items = []
    for part in parts:
        item, offset = _expand(part, contents, offset, budget)
        items.append(item)
    return Data(kind, tuple(items)), offset


# ---- encoding ------------------------------------------------------------------------------------


def encode(data: Data) -> bytes:
    """The bytes of ``data``, lengths in their shortest form.

    Raises:
        LocalProtocolError: a value that its type cannot hold.
    """
    out = bytearray()
    _encode(data, out, 0)
    return bytes(out)


def _encode(data: Data, out: bytearray, depth: int) -> None:
    kind, value = data
    out.append(kind)
    if kind is _T.ARRAY or kind is _T.STRUCTURE:
        if depth >= MAX_DEPTH:
            raise LocalProtocolError(f"nested deeper than {MAX_DEPTH}")
        out += encode_length(len(value))
        for item in value:
            _encode(item, out, depth + 1)
    elif kind is _T.COMPACT_ARRAY:
        _encode_description(value.description, out)
        out += encode_length(len(value.contents))
        out += value.contents
    else:
        _encode_contents(kind, value, out)


def _encode_contents(kind: DataType, value: Any, out: bytearray) -> None:
    if (packer := _FIXED.get(kind)) is not None:
        try:
            out += packer.pack(value)
        except struct.error as exc:
            raise LocalProtocolError(f"{kind.name} cannot hold {value!r}") from exc
    elif kind is _T.BOOLEAN:
        out.append(1 if value else 0)
    elif kind in _RAW_SIZE:
        _require(kind, len(value) == _RAW_SIZE[kind], value)
        out += value
    elif kind in _REAL_SIZE:
        _require(kind, isinstance(value, Real) and len(value.raw) == _REAL_SIZE[kind], value)
        out += value.raw
    elif kind is _T.BIT_STRING:
        _require(kind, isinstance(value, BitString) and len(value.octets) == -(-value.length // 8), value)
        out += encode_length(value.length)
        out += value.octets
    elif kind is _T.OCTET_STRING:
        out += encode_length(len(value))
        out += value
    elif kind is _T.VISIBLE_STRING or kind is _T.UTF8_STRING:
        try:
            octets = value.encode("latin-1" if kind is _T.VISIBLE_STRING else "utf-8")
        except UnicodeEncodeError as exc:
            raise LocalProtocolError(f"{kind.name} cannot hold {value!r}") from exc
        out += encode_length(len(octets))
        out += octets
    else:  # null and don't-care have no contents
        _require(kind, value is None, value)


def _require(kind: DataType, holds: bool, value: object) -> None:
    if not holds:
        raise LocalProtocolError(f"{kind.name} cannot hold {value!r}")


def _encode_description(description: TypeDescription, out: bytearray) -> None:
    out.append(description.type)
    if description.type is _T.ARRAY:
        if not 0 <= description.length <= 0xFFFF:
            raise LocalProtocolError(
                f"an array in a type description has 0 to 65535 elements: {description.length}"
            )
        out += description.length.to_bytes(2, "big")
    elif description.type is _T.STRUCTURE:
        out += encode_length(len(description.parts))
    for part in description.parts:
        _encode_description(part, out)


def _encode_described(description: TypeDescription, data: Data, out: bytearray) -> None:
    """Contents of ``data`` without tags, as its description promises."""
    kind = description.type
    _require(kind, data.type is kind, data)
    if kind is _T.ARRAY:
        _require(kind, len(data.value) == description.length, data)
        for item in data.value:
            _encode_described(description.parts[0], item, out)
    elif kind is _T.STRUCTURE:
        _require(kind, len(data.value) == len(description.parts), data)
        for part, item in zip(description.parts, data.value, strict=True):
            _encode_described(part, item, out)
    else:
        _encode_contents(kind, data.value, out)


# ---- constructors --------------------------------------------------------------------------------

NULL: Final = Data(_T.NULL, None)


def boolean(value: bool) -> Data:
    return Data(_T.BOOLEAN, value)


def i8(value: int) -> Data:
    return Data(_T.INTEGER, value)


def i16(value: int) -> Data:
    return Data(_T.LONG, value)


def i32(value: int) -> Data:
    return Data(_T.DOUBLE_LONG, value)


def i64(value: int) -> Data:
    return Data(_T.LONG64, value)


def u8(value: int) -> Data:
    return Data(_T.UNSIGNED, value)


def u16(value: int) -> Data:
    return Data(_T.LONG_UNSIGNED, value)


def u32(value: int) -> Data:
    return Data(_T.DOUBLE_LONG_UNSIGNED, value)


def u64(value: int) -> Data:
    return Data(_T.LONG64_UNSIGNED, value)


def enum(value: int) -> Data:
    return Data(_T.ENUM, int(value))


def octets(value: Buffer) -> Data:
    return Data(_T.OCTET_STRING, bytes(value))


def visible(value: str) -> Data:
    return Data(_T.VISIBLE_STRING, value)


def utf8(value: str) -> Data:
    return Data(_T.UTF8_STRING, value)


def bits(value: str) -> Data:
    """A bit-string from text such as ``"1011"``."""
    return Data(_T.BIT_STRING, BitString.of(value))


def float32(value: float) -> Data:
    """The nearest float32."""
    try:
        return Data(_T.FLOAT32, Real(struct.pack(">f", value)))
    except OverflowError as exc:
        raise LocalProtocolError(f"FLOAT32 cannot hold {value!r}") from exc


def float64(value: float) -> Data:
    return Data(_T.FLOAT64, Real(struct.pack(">d", value)))


def array(items: Iterable[Data]) -> Data:
    return Data(_T.ARRAY, tuple(items))


def structure(*items: Data) -> Data:
    return Data(_T.STRUCTURE, items)
