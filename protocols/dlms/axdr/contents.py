"""Lengths, tags, and the contents of every type that is neither array, structure nor compact array."""

import struct
from typing import Any

from protocols.dlms.axdr.values import (
    FIXED_SIZE,
    PACKERS,
    RAW_SIZE,
    REAL_SIZE,
    TYPES,
    BitString,
    Buffer,
    Data,
    DataType,
    Real,
)
from protocols.errors import LocalProtocolError, RemoteProtocolError

# To look a member up in its enum costs more than the rest of a step.
_BOOLEAN, _BIT_STRING, _OCTET_STRING = DataType.BOOLEAN, DataType.BIT_STRING, DataType.OCTET_STRING
_VISIBLE_STRING, _UTF8_STRING = DataType.VISIBLE_STRING, DataType.UTF8_STRING


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
        raise cut_short(offset, 1, len(buf))
    first = buf[offset]
    if first < 0x80:
        return first, offset + 1
    size = first & 0x7F
    if not 1 <= size <= 4:
        raise RemoteProtocolError(f"length of {size} bytes, 1 to 4 are allowed", offset=offset)
    end = offset + 1 + size
    if end > len(buf):
        raise cut_short(offset, 1 + size, len(buf))
    return int.from_bytes(buf[offset + 1 : end], "big"), end


def cut_short(offset: int, needed: int, available: int) -> RemoteProtocolError:
    """The error of ``needed`` bytes at ``offset`` of a buffer that has ``available`` in all."""
    return RemoteProtocolError(
        f"cut short: {needed} bytes needed, {max(available - offset, 0)} left", offset=offset
    )


def element_count(buf: Buffer, offset: int) -> tuple[int, int]:
    """Number of elements of an array or structure, each of at least one byte."""
    count, start = decode_length(buf, offset)
    if count > len(buf) - start:
        raise RemoteProtocolError(f"{count} elements claimed, {len(buf) - start} bytes left", offset=offset)
    return count, start


def data_type(buf: Buffer, offset: int) -> DataType:
    """The type that the tag at ``offset`` names. Raises RemoteProtocolError: no tag, or an unknown one."""
    if offset >= len(buf):
        raise cut_short(offset, 1, len(buf))
    kind = TYPES.get(buf[offset])
    if kind is None:
        raise RemoteProtocolError(f"unknown data type {buf[offset]}", offset=offset)
    return kind


def decode_contents(kind: DataType, buf: Buffer, offset: int) -> tuple[Data, int]:
    """Contents of a plain type, the tag being known."""
    size = FIXED_SIZE.get(kind)
    if size is not None:
        end = offset + size
        if end > len(buf):
            raise cut_short(offset, size, len(buf))
        if (packer := PACKERS.get(kind)) is not None:
            return Data(kind, packer.unpack_from(buf, offset)[0]), end
        if kind is _BOOLEAN:
            return Data(kind, buf[offset] != 0), end
        if kind in RAW_SIZE:
            return Data(kind, bytes(buf[offset:end])), end
        if kind in REAL_SIZE:
            return Data(kind, Real(bytes(buf[offset:end]))), end
        return Data(kind, None), end
    length, start = decode_length(buf, offset)
    end = start + (-(-length // 8) if kind is _BIT_STRING else length)
    if end > len(buf):
        raise cut_short(start, end - start, len(buf))
    octets = bytes(buf[start:end])
    if kind is _BIT_STRING:
        return Data(kind, BitString(length, octets)), end
    if kind is _OCTET_STRING:
        return Data(kind, octets), end
    if kind is _VISIBLE_STRING:
        return Data(kind, octets.decode("latin-1")), end
    try:
        return Data(kind, octets.decode("utf-8")), end
    except UnicodeDecodeError as exc:
        raise RemoteProtocolError("utf8-string is not UTF-8", offset=start + exc.start) from exc


def encode_contents(kind: DataType, value: Any, out: bytearray) -> None:
    """Append the contents of a plain type. Raises LocalProtocolError: a value that the type cannot hold."""
    if (packer := PACKERS.get(kind)) is not None:
        try:
            out += packer.pack(value)
        except struct.error as exc:
            raise LocalProtocolError(f"{kind.name} cannot hold {value!r}") from exc
    elif kind is _BOOLEAN:
        out.append(1 if value else 0)
    elif kind in RAW_SIZE:
        require(kind, len(value) == RAW_SIZE[kind], value)
        out += value
    elif kind in REAL_SIZE:
        require(kind, isinstance(value, Real) and len(value.raw) == REAL_SIZE[kind], value)
        out += value.raw
    elif kind is _BIT_STRING:
        require(kind, isinstance(value, BitString) and len(value.octets) == -(-value.length // 8), value)
        out += encode_length(value.length)
        out += value.octets
    elif kind is _OCTET_STRING:
        out += encode_length(len(value))
        out += value
    elif kind is _VISIBLE_STRING or kind is _UTF8_STRING:
        try:
            octets = value.encode("latin-1" if kind is _VISIBLE_STRING else "utf-8")
        except UnicodeEncodeError as exc:
            raise LocalProtocolError(f"{kind.name} cannot hold {value!r}") from exc
        out += encode_length(len(octets))
        out += octets
    else:  # null and don't-care have no contents
        require(kind, value is None, value)


def require(kind: DataType, holds: bool, value: object) -> None:
    """Raise LocalProtocolError unless ``holds``."""
    if not holds:
        raise LocalProtocolError(f"{kind.name} cannot hold {value!r}")
