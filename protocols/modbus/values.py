"""Registers into exact values: words in, what they mean out.

A word is an integer 0 to 65535, as a Modbus library hands it out. Integers keep every digit and get their
power of ten; a float is the shortest decimal that reads back as the same bits, and says so (``rounded``);
what the meter marks as not there has a reason instead of a value, and zero is a value.
"""

import math
import struct
from collections.abc import Sequence
from decimal import Context, Decimal, Inexact, Overflow, Rounded, Underflow
from typing import Final, NamedTuple

from protocols.dlms.axdr import Real
from protocols.errors import RemoteProtocolError
from schemas.reading import Channel
from schemas.register_model import RegisterType, WordOrder

_T = RegisterType
_SIGNED: Final = frozenset({_T.S16, _T.S32, _T.S64})
_BITS: Final = frozenset({_T.BITS16, _T.BITS32})
_BCD: Final = frozenset({_T.BCD16, _T.BCD32})


_FLOAT: Final = struct.Struct(">f")
_DOUBLE: Final = struct.Struct(">d")
#: Below this float32 loses digits (subnormal numbers), and with them what %g can promise.
_SMALLEST_NORMAL: Final = 2.0**-126
#: Wide enough for any float64 and scaler; what would be rounded raises.
_EXACT: Final = Context(prec=1000, Emin=-9999, Emax=9999, traps=[Inexact, Rounded, Overflow, Underflow])
_ZERO: Final = Decimal(0)
#: Decimal places before the point beyond which no column reaches.
_MOST_DIGITS: Final = 19


class RegisterValue(NamedTuple):
    """One register, read. ``value`` or ``text`` or ``reason`` (why there is neither).

    ``raw`` is the integer as sent, None for floats and text. ``rounded``: the meter sent a binary float, so
    ``value`` is its shortest decimal. ``text`` names the value or the bits where the profile has labels.
    """

    name: str
    raw: int | None = None
    value: Decimal | None = None
    text: str | None = None
    unit: str | None = None
    obis: str | None = None
    quantity: str | None = None
    rounded: bool = False
    reason: str | None = None


def join(words: Sequence[int], order: WordOrder = WordOrder.BIG) -> bytes:
    """The words' bytes, high byte first.

    Raises:
        RemoteProtocolError: a word is no 16-bit number.
    """
    try:
        data = struct.pack(f">{len(words)}H", *words)
    except struct.error as error:
        raise RemoteProtocolError("a register is a number from 0 to 65535") from error
    return data if order is WordOrder.BIG else turned(data)


def turned(data: bytes) -> bytes:
    """The words of a value in the other order, the bytes of each as they were."""
    return b"".join(data[at : at + 2] for at in range(len(data) - 2, -1, -2))


def raw_integer(kind: RegisterType, data: bytes) -> int | None:
    """The number in ``data`` (high byte first), None where BCD digits are none.

    Raises:
        ValueError: ``kind`` is text or a float.
    """
    if kind is _T.TEXT or kind.is_float:
        raise ValueError(f"{kind} is no integer")
    if kind in _BCD:
        digits = data.hex()
        return int(digits) if digits.isdecimal() else None
    return int.from_bytes(data, "big", signed=kind in _SIGNED)


def text(data: bytes) -> str | None:
    """Text as meters pad it, with NUL or spaces; None where there is none.

    Raises:
        RemoteProtocolError: not UTF-8, or control characters within.
    """
    try:
        found = data.split(b"\0", 1)[0].decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("text is not UTF-8") from error
    if not found.isprintable():
        raise RemoteProtocolError("text has control characters")
    return found or None


def float_decimal(data: bytes) -> Decimal | None:
    """The shortest decimal of a float32 (4 bytes) or float64 (8 bytes), None for NaN and infinities."""
    value: float = (_FLOAT if len(data) == 4 else _DOUBLE).unpack(data)[0]
    if not math.isfinite(value):
        return None
    if value == 0:
        return _ZERO  # a meter's minus zero is zero
    if len(data) == 8:
        return _plain(repr(value).removesuffix(".0"))  # which Python keeps shortest
    # A float32 has 6 digits for certain and never more than 9. A decimal reads back as the same bits if it is
    # nearer than half the step between float32 numbers. Too near to that to be judged in a float64, beside a
    # power of two (no bit in the fraction: the step changes), and where digits run out, the slow way is safe.
    if abs(value) >= _SMALLEST_NORMAL and (data[3] or data[2] or data[1] & 0x7F):
        half = math.ldexp(1.0, math.frexp(value)[1] - 25)
        for form in ("%.6g", "%.7g", "%.8g", "%.9g"):
            text = form % value
            distance = abs(float(text) - value)
            if distance < 0.999999 * half:
                return _plain(text)
            if distance < 1.000001 * half:
                break
    return _EXACT.add(Real(data).decimal(), _ZERO)


def _plain(text: str) -> Decimal:
    return _EXACT.add(Decimal(text), _ZERO) if "e" in text else Decimal(text)


def labelled(raw: int, labels: dict[int, str], *, bits: bool) -> str | None:
    """The label of a value, or those of the bits that are set; None where the profile names none of them."""
    if not bits:
        return labels.get(raw)
    named = [label for bit, label in sorted(labels.items()) if raw >> bit & 1]
    return ", ".join(named) or None


def is_bits(kind: RegisterType) -> bool:
    """Whether the value is flags, each with a meaning of its own."""
    return kind in _BITS


def column_integer(value: Decimal, channel: Channel) -> int | None:
    """``value`` as the raw integer of a column, None where the column cannot hold it exactly.

    What does not fit is for register_reads, unrounded.
    """
    return moved_integer(value, -channel.scaler)


def moved_integer(value: Decimal, places: int) -> int | None:
    """``value`` x 10**``places``, None where that is no integer of 64 bits."""
    if not value:
        return 0
    if not value.is_finite() or not 0 <= value.adjusted() + places <= _MOST_DIGITS:
        return None
    try:
        exact = value.scaleb(places, _EXACT)
    except ArithmeticError:  # more digits than any meter has
        return None
    number = int(exact)
    return number if number == exact and -(2**63) <= number < 2**63 else None


def scaled(raw: int | Decimal, scaler: int) -> Decimal:
    """``raw`` x 10**``scaler`` with every digit, in plain notation."""
    if not scaler:
        return Decimal(raw)
    # a sum takes the smaller exponent of the two: 23E+2 becomes 2300
    return _EXACT.add(_EXACT.scaleb(Decimal(raw), scaler), _ZERO)
