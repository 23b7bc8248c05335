"""A value of each type in one short word, for those who write values down."""

import struct
from collections.abc import Iterable
from typing import Final

from protocols.dlms.axdr.values import BitString, Buffer, Data, DataType, Real
from protocols.errors import LocalProtocolError

NULL: Final = Data(DataType.NULL, None)


def boolean(value: bool) -> Data:
    return Data(DataType.BOOLEAN, value)


def i8(value: int) -> Data:
    return Data(DataType.INTEGER, value)


def i16(value: int) -> Data:
    return Data(DataType.LONG, value)


def i32(value: int) -> Data:
    return Data(DataType.DOUBLE_LONG, value)


def i64(value: int) -> Data:
    return Data(DataType.LONG64, value)


def u8(value: int) -> Data:
    return Data(DataType.UNSIGNED, value)


def u16(value: int) -> Data:
    return Data(DataType.LONG_UNSIGNED, value)


def u32(value: int) -> Data:
    return Data(DataType.DOUBLE_LONG_UNSIGNED, value)


def u64(value: int) -> Data:
    return Data(DataType.LONG64_UNSIGNED, value)


def enum(value: int) -> Data:
    return Data(DataType.ENUM, int(value))


def octets(value: Buffer) -> Data:
    return Data(DataType.OCTET_STRING, bytes(value))


def visible(value: str) -> Data:
    return Data(DataType.VISIBLE_STRING, value)


def utf8(value: str) -> Data:
    return Data(DataType.UTF8_STRING, value)


def bits(value: str) -> Data:
    """A bit-string from text such as ``"1011"``."""
    return Data(DataType.BIT_STRING, BitString.of(value))


def float32(value: float) -> Data:
    """The nearest float32."""
    try:
        return Data(DataType.FLOAT32, Real(struct.pack(">f", value)))
    except OverflowError as exc:
        raise LocalProtocolError(f"FLOAT32 cannot hold {value!r}") from exc


def float64(value: float) -> Data:
    return Data(DataType.FLOAT64, Real(struct.pack(">d", value)))


def array(items: Iterable[Data]) -> Data:
    return Data(DataType.ARRAY, tuple(items))


def structure(*items: Data) -> Data:
    return Data(DataType.STRUCTURE, items)
