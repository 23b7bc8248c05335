"""The forms that attributes of all classes share, each refused by its name where it is another."""

from typing import Final

from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError

INTEGERS: Final = frozenset(
    {
        DataType.INTEGER, DataType.LONG, DataType.DOUBLE_LONG, DataType.LONG64,
        DataType.UNSIGNED, DataType.LONG_UNSIGNED, DataType.DOUBLE_LONG_UNSIGNED, DataType.LONG64_UNSIGNED,
    }
)  # fmt: skip


def fields_of(data: Data, count: int, what: str) -> tuple[Data, ...]:
    """The ``count`` fields of a structure; ``what`` names it in the error."""
    if data.type is not DataType.STRUCTURE or len(data.value) != count:
        raise RemoteProtocolError(f"{what} is not a structure of {count}")
    fields: tuple[Data, ...] = data.value
    return fields


def elements_of(data: Data, what: str) -> tuple[Data, ...]:
    """The elements of an array, compact or not."""
    if data.type is DataType.COMPACT_ARRAY:
        elements: tuple[Data, ...] = data.value.elements
        return elements
    if data.type is not DataType.ARRAY:
        raise RemoteProtocolError(f"{what} is {data.type.name}, not an array")
    items: tuple[Data, ...] = data.value
    return items


def integer_of(data: Data, what: str) -> int:
    """An integer of any width, or an enum."""
    if data.type not in INTEGERS and data.type is not DataType.ENUM:
        raise RemoteProtocolError(f"{what} is {data.type.name}, not an integer")
    value: int = data.value
    return value


def natural_of(data: Data, what: str) -> int:
    """An integer that is not negative."""
    value = integer_of(data, what)
    if value < 0:
        raise RemoteProtocolError(f"{what} is negative: {value}")
    return value


def natural_within(data: Data, what: str, low: int, high: int) -> int:
    """An integer of [low, high]."""
    value = natural_of(data, what)
    if not low <= value <= high:
        raise RemoteProtocolError(f"{what} is {low} to {high}, not {value}")
    return value


def octets_of(data: Data, what: str) -> bytes:
    """The bytes of an octet-string."""
    if data.type is not DataType.OCTET_STRING:
        raise RemoteProtocolError(f"{what} is {data.type.name}, not an octet-string")
    value: bytes = data.value
    return value


def logical_name_of(data: Data) -> Obis:
    """A logical name as an OBIS code."""
    return Obis.from_bytes(octets_of(data, "logical name"))


def date_time(data: Data) -> CosemDateTime | None:
    """A date-time written as date-time or as octet-string of 12; None for null and an empty octet-string."""
    if data.type is DataType.NULL or (data.type is DataType.OCTET_STRING and not data.value):
        return None
    if data.type not in (DataType.DATE_TIME, DataType.OCTET_STRING):
        raise RemoteProtocolError(f"date-time is {data.type.name}, not a date-time or octet-string")
    return CosemDateTime.from_bytes(data.value)


def text(data: Data) -> str:
    """An identifier that meters write as any kind of string; octets outside of ASCII print as hex."""
    if data.type in (DataType.VISIBLE_STRING, DataType.UTF8_STRING):
        value: str = data.value
        return value
    octets = octets_of(data, "text")
    return octets.decode("ascii") if all(0x20 <= octet < 0x7F for octet in octets) else octets.hex()


def ascii_of(data: Data, what: str, most: int = 64) -> str:
    """A name in an octet-string: at most ``most`` printable ASCII characters, no blanks, perhaps none."""
    octets = octets_of(data, what)
    if len(octets) > most or not all(0x21 <= octet < 0x7F for octet in octets):
        raise RemoteProtocolError(f"{what} is not of at most {most} printable ASCII characters")
    return octets.decode("ascii")
