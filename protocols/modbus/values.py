"""Registers into exact values: words in, what they mean out.

A word is an integer 0 to 65535, as a Modbus library hands it out. Integers keep every digit and get their
power of ten; a float is the shortest decimal that reads back as the same bits, and says so (``rounded``);
what the meter marks as not there has a reason instead of a value, and zero is a value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from protocols.dlms import units
from protocols.dlms.axdr import Real
from protocols.errors import RemoteProtocolError
from schemas.reading import Channel
from schemas.register_model import RegisterType, WordOrder

_T = RegisterType
_SIGNED: Final = frozenset({_T.S16, _T.S32, _T.S64})
_BITS: Final = frozenset({_T.BITS16, _T.BITS32})
_BCD: Final = frozenset({_T.BCD16, _T.BCD32})


@dataclass(frozen=True, slots=True)
class RegisterValue:
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
        parts = [word.to_bytes(2, "big") for word in words]
    except OverflowError as error:
        raise RemoteProtocolError("a register is a number from 0 to 65535") from error
    if order is WordOrder.LITTLE:
        parts.reverse()
    return b"".join(parts)


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
    value = Real(data).decimal()
    if not value.is_finite():
        return None
    return value or Decimal(0)  # a meter's minus zero is zero


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
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return None
    shift = exponent - channel.scaler
    number = int("".join(map(str, digits)))
    if number and shift > 18:
        return None
    if shift >= 0:
        number *= 10**shift
    else:
        # beyond its own digits a divisor leaves a remainder of any number but zero
        number, rest = divmod(number, 10 ** min(-shift, len(digits) + 1))
        if rest:
            return None
    number = -number if sign else number
    return number if -(2**63) <= number < 2**63 else None


def scaled(raw: int | Decimal, scaler: int) -> Decimal:
    """``raw`` x 10**``scaler`` with every digit, in plain notation."""
    return units.scale(raw, scaler)
