"""From the data of an answer to values: exact decimals with unit, times as the meter shows them."""

from decimal import Decimal
from typing import Final, NamedTuple

from protocols.dlms.cosem_time import CosemDate, CosemDateTime, CosemTime
from protocols.dlms.obis import Obis
from protocols.dlt645.identifiers import BLOCK, DataId, Form, Item, Meaning, parts
from protocols.errors import RemoteProtocolError

_CENTURY: Final = 2000
_LONGEST_NUMBER: Final = 6


class Reading(NamedTuple):
    """One value of a meter.

    ``value`` is None where the meter filled its place with FF: it has none. ``time`` is when a maximum
    occurred or a record was kept, in the meter's local time; DL/T 645 tells no offset from UTC.
    """

    di: DataId
    name: str
    value: Decimal | str | CosemDateTime | None
    unit: str | None = None
    obis: Obis | None = None
    time: CosemDateTime | None = None


def decode(di: DataId, data: bytes) -> tuple[Reading, ...]:
    """The values in ``data``, what follows the identifier ``di`` in a read answer (0x33 taken off).

    Empty where ``di`` is not in the table.

    Raises:
        RemoteProtocolError: too short or too long, or no decimal digits where there must be; ``offset``
            counts in ``data``.
    """
    found = parts(di, len(data))
    if found is None:
        return ()
    if di.di1 != BLOCK and len(found) == 1 and len(found[0].items) == 1:
        found = (_as_sent(found[0], len(data)),)
    readings = []
    offset = 0
    for part in found:
        values = []
        for item in part.items:
            values.append(_value(item, data, offset))
            offset += item.length
        readings += _readings(part, values)
    if offset < len(data):
        raise RemoteProtocolError(f"{len(data) - offset} bytes too many for {di}", offset=offset)
    return tuple(readings)


def _as_sent(part: Meaning, length: int) -> Meaning:
    """Some meters send a number with a byte more or less than the standard, with the point in its place."""
    (item,) = part.items
    if item.form is not Form.NUMBER or not 1 <= length <= _LONGEST_NUMBER:
        return part
    sent = Item(item.form, length, item.decimals, item.unit, item.signed)
    return part._replace(items=(sent,))


def _readings(part: Meaning, values: list[Decimal | str | CosemDateTime | None]) -> list[Reading]:
    units = [item.unit for item in part.items]
    if len(values) == 2 and part.items[1].form is Form.MINUTE:
        time = values[1] if isinstance(values[1], CosemDateTime) else None
        return [Reading(part.di, part.name, values[0], units[0], part.obis, time)]
    return [
        Reading(part.di, part.name, value, unit, part.obis) for value, unit in zip(values, units, strict=True)
    ]


def _value(item: Item, data: bytes, offset: int) -> Decimal | str | CosemDateTime | None:
    raw = data[offset : offset + item.length]
    if len(raw) < item.length:
        raise RemoteProtocolError(f"cut short: {len(raw)} of {item.length} bytes", offset=offset)
    if raw == b"\xff" * len(raw) and item.form is not Form.BITS:
        return None
    try:
        return read(item, raw)
    except ValueError as exc:
        raise RemoteProtocolError(f"{exc}: {raw.hex()}", offset=offset) from exc


def read(item: Item, raw: bytes) -> Decimal | str | CosemDateTime | None:
    """One value from its bytes, low byte first. Raises ValueError for what is not in its form."""
    high_first = bytes(reversed(raw))
    match item.form:
        case Form.TEXT:
            return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in high_first.strip(b"\0 "))
        case Form.BITS:
            return high_first.hex()
        case Form.NUMBER:
            return number(high_first, item.decimals, signed=item.signed)
        case _:
            pass
    digits = high_first.hex()
    if not digits.isdigit():
        raise ValueError("no decimal digits")
    if item.form is Form.DIGITS:
        return digits
    return _moment(item.form, [int(digits[at : at + 2]) for at in range(0, len(digits), 2)])


def number(high_first: bytes, decimals: int, *, signed: bool) -> Decimal:
    """Binary-coded decimal, exact. With ``signed`` the highest bit is the sign, and no part of the digits.

    Raises:
        ValueError: not all digits are decimal.
    """
    negative = signed and bool(high_first[0] & 0x80)
    if negative:
        high_first = bytes((high_first[0] & 0x7F,)) + high_first[1:]
    digits = high_first.hex()
    if not digits.isdigit():
        raise ValueError("no decimal digits")
    value = int(digits)
    return Decimal((int(negative and value > 0), tuple(map(int, str(value))), -decimals))


def _moment(form: Form, digits: list[int]) -> CosemDateTime | str | None:
    """A time of the meter's clock; None for one that is all zeros: nothing happened yet."""
    if form in (Form.MINUTE, Form.SECOND):
        return moment(digits)
    if form is Form.DATE:
        year, month, day, weekday = digits
        if moment([year, month, day, 0, 0]) is None:
            return None
        return f"{_CENTURY + year:04d}-{month:02d}-{day:02d} weekday {weekday}"
    hour, minute, second = digits
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError("no time of day")
    return f"{hour:02d}:{minute:02d}:{second:02d}"


def moment(digits: list[int]) -> CosemDateTime | None:
    """Year, month, day, hour, minute and perhaps second, as two digits each; None where all are zero.

    Raises:
        ValueError: no such date or time.
    """
    year, month, day, hour, minute, second = (*digits, 0)[:6]
    if not any(digits):
        return None
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour <= 23 and minute <= 59 and second <= 59):
        raise ValueError("no such time")
    return CosemDateTime(CosemDate(_CENTURY + year, month, day), CosemTime(hour, minute, second))
