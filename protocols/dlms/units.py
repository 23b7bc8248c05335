"""Physical units of COSEM registers: codes of the Blue Book's unit table, and exact scaling."""

from decimal import Decimal
from typing import Final

#: Code of a value without a unit, and of a unit not known to the meter. Neither has a symbol here.
COUNT: Final = 255
OTHER: Final = 254

#: Code of the unit enumeration -> symbol. Symbols are plain ASCII where the field writes so (``Ohm``).
SYMBOLS: Final[dict[int, str]] = {
    1: "a", 2: "mo", 3: "wk", 4: "d", 5: "h", 6: "min", 7: "s", 8: "deg", 9: "degC", 10: "currency",
    11: "m", 12: "m/s", 13: "m3", 14: "m3", 15: "m3/h", 16: "m3/h", 17: "m3/d", 18: "m3/d", 19: "l", 20: "kg",
    21: "N", 22: "Nm", 23: "Pa", 24: "bar", 25: "J", 26: "J/h", 27: "W", 28: "VA", 29: "var", 30: "Wh",
    31: "VAh", 32: "varh", 33: "A", 34: "C", 35: "V", 36: "V/m", 37: "F", 38: "Ohm", 39: "Ohm m2/m", 40: "Wb",
    41: "T", 42: "A/m", 43: "H", 44: "Hz", 45: "1/Wh", 46: "1/varh", 47: "1/VAh", 48: "V2h", 49: "A2h",
    50: "kg/s", 51: "S", 52: "K", 53: "1/(V2h)", 54: "1/(A2h)", 55: "1/m3", 56: "%", 57: "Ah",
    60: "Wh/m3", 61: "J/m3", 62: "mol%", 63: "g/m3", 64: "Pa s", 65: "J/kg", 66: "g/cm2", 67: "atm",
    70: "dBm", 71: "dBuV", 72: "dB",
}  # fmt: skip

# 14, 16 and 18 are the corrected volumes and flows: their symbol belongs to the uncorrected code before them.
_CODES: Final[dict[str, int]] = {symbol: code for code, symbol in reversed(SYMBOLS.items())}


def symbol(code: int) -> str | None:
    """Symbol of a unit code; None for "count" (255), "other" (254) and reserved codes."""
    return SYMBOLS.get(code)


def code(symbol: str) -> int:
    """Unit code of a symbol; the uncorrected one of two codes that share it.

    Raises:
        ValueError: no such symbol.
    """
    try:
        return _CODES[symbol]
    except KeyError as exc:
        raise ValueError(f"no DLMS unit is written {symbol!r}") from exc


def scale(raw: int | Decimal, scaler: int) -> Decimal:
    """``raw`` x 10**``scaler`` with every digit, never in exponent form: scale(1204895, 1) is 12048950.

    ``scaler`` is an Integer8, -128 to 127. Beyond the precision of decimal contexts nothing is rounded
    either.
    """
    sign, digits, exponent = Decimal(raw).as_tuple()
    if not isinstance(exponent, int):  # NaN or infinity
        return Decimal(raw)
    exponent += scaler
    if exponent > 0:
        digits, exponent = (digits + (0,) * exponent if any(digits) else (0,)), 0
    return Decimal((sign, digits, exponent))
