"""The types of the Data CHOICE, and what their values are in Python."""

import math
import struct
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np

from protocols.errors import LocalProtocolError

#: Levels of array, structure and compact-array in each other. Association lists need 7.
MAX_DEPTH: Final = 32

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
    """One value with its type; the table of the package says what ``value`` is."""

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
    """A float32 (4 bytes) or float64 (8 bytes) by its exact bits, big-endian, by which it compares."""

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


#: How the contents of numbers are laid out, by tag.
PACKERS: Final[dict[int, struct.Struct]] = {
    DataType.DOUBLE_LONG: struct.Struct(">i"),
    DataType.DOUBLE_LONG_UNSIGNED: struct.Struct(">I"),
    DataType.BCD: struct.Struct(">B"),
    DataType.INTEGER: struct.Struct(">b"),
    DataType.LONG: struct.Struct(">h"),
    DataType.UNSIGNED: struct.Struct(">B"),
    DataType.LONG_UNSIGNED: struct.Struct(">H"),
    DataType.LONG64: struct.Struct(">q"),
    DataType.LONG64_UNSIGNED: struct.Struct(">Q"),
    DataType.ENUM: struct.Struct(">B"),
    DataType.DELTA_INTEGER: struct.Struct(">b"),
    DataType.DELTA_LONG: struct.Struct(">h"),
    DataType.DELTA_DOUBLE_LONG: struct.Struct(">i"),
    DataType.DELTA_UNSIGNED: struct.Struct(">B"),
    DataType.DELTA_LONG_UNSIGNED: struct.Struct(">H"),
    DataType.DELTA_DOUBLE_LONG_UNSIGNED: struct.Struct(">I"),
}  # fmt: skip
#: Octets of the types whose values stay raw bytes.
RAW_SIZE: Final[dict[int, int]] = {DataType.DATE_TIME: 12, DataType.DATE: 5, DataType.TIME: 4}
#: Octets of the floats.
REAL_SIZE: Final[dict[int, int]] = {DataType.FLOAT32: 4, DataType.FLOAT64: 8}
#: The types by the byte that names them.
TYPES: Final[dict[int, DataType]] = {int(tag): tag for tag in DataType}
#: Octets of the contents by tag where the tag alone tells them.
FIXED_SIZE: Final[dict[int, int]] = {
    DataType.NULL: 0, DataType.DONT_CARE: 0, DataType.BOOLEAN: 1,
    **{tag: packer.size for tag, packer in PACKERS.items()}, **RAW_SIZE, **REAL_SIZE,
}  # fmt: skip
