"""One A-XDR value as the store keeps it: an exact decimal, or a text, or nothing."""

from decimal import Decimal
from typing import Final, NamedTuple

from protocols.dlms import axdr, cosem
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem_time import CosemDate, CosemDateTime, CosemTime
from protocols.errors import RemoteProtocolError

_INTEGERS: Final = frozenset(
    {
        DataType.INTEGER, DataType.LONG, DataType.DOUBLE_LONG, DataType.LONG64, DataType.UNSIGNED,
        DataType.LONG_UNSIGNED, DataType.DOUBLE_LONG_UNSIGNED, DataType.LONG64_UNSIGNED,
        DataType.ENUM, DataType.BCD,
    }
)  # fmt: skip
_NOTHING: Final = frozenset({DataType.NULL, DataType.DONT_CARE})
_CLOCKS: Final = {
    DataType.DATE_TIME: CosemDateTime.from_bytes,
    DataType.DATE: CosemDate.from_bytes,
    DataType.TIME: CosemTime.from_bytes,
}


class Told(NamedTuple):
    """What a value says: an exact number, or a text, or neither (the meter sent null). ``from_float``: the
    number came as a binary float."""

    value: Decimal | None
    text: str | None
    from_float: bool = False


def told(data: Data) -> Told:
    """``data`` without loss: numbers exact, strings as text, and what is neither as the hex of its A-XDR.

    A float is the shortest decimal that reads back as its bits; one that is no number is a text.
    """
    kind = data.type
    if kind in _NOTHING:
        return Told(None, None)
    if kind in _INTEGERS:
        return Told(Decimal(data.value), None)
    if kind in (DataType.FLOAT32, DataType.FLOAT64):
        number = data.value.decimal()
        return Told(number, None, from_float=True) if number.is_finite() else Told(None, str(number))
    if kind is DataType.BOOLEAN:
        return Told(None, "true" if data.value else "false")
    if kind in (DataType.VISIBLE_STRING, DataType.UTF8_STRING, DataType.OCTET_STRING):
        return Told(None, cosem.text(data))
    if kind is DataType.BIT_STRING:
        return Told(None, str(data.value))
    reader = _CLOCKS.get(kind)
    if reader is not None:
        try:
            return Told(None, str(reader(data.value)))
        except RemoteProtocolError:
            return Told(None, data.value.hex())
    return Told(None, axdr.encode(data).hex())
