"""The Metering cluster (0x0702): summations, demand, and what turns their integers into amounts.

A meter sends integers; multiplier, divisor and unit are attributes of their own, usually read once and not in
every report. So a value keeps its raw integer with the multiplier and divisor that applied, and has a decimal
only where these are known and the fraction ends; nothing is rounded and no default of 1 is assumed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final

from protocols.dlms import units
from protocols.zigbee.zcl import Attribute

CLUSTER: Final = 0x0702

_SNAPSHOT_TIME: Final = 0x0007
_STATUS: Final = 0x0200
_UNIT: Final = 0x0300
_MULTIPLIER: Final = 0x0301
_DIVISOR: Final = 0x0302
_DEMAND: Final = 0x0400
#: Tiers 1 to 48: delivered at 0x0100, received at 0x0101, and so on.
_TIERS: Final = range(0x0100, 0x0160)
_SUMMATIONS: Final = {0x0000: "active_import", 0x0001: "active_export"}
_BCD: Final = 0x80
_KWH: Final = 0x00
#: ZCL's UTC counts seconds from 2000.
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Scaling:
    """What is known of a meter's unit, multiplier and divisor. ``unit`` is the code of UnitOfMeasure."""

    multiplier: int | None = None
    divisor: int | None = None
    unit: int | None = None


@dataclass(frozen=True, slots=True)
class Metered:
    """A summation or demand: ``raw`` x ``multiplier`` / ``divisor`` kWh or kW.

    ``value`` is that in ``unit`` (Wh or W) where it is a decimal, else ``reason`` says why not.
    """

    quantity: str
    raw: int
    tariff: int
    multiplier: int | None
    divisor: int | None
    value: Decimal | None
    unit: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class MeterReport:
    """What a frame told of a meter. ``scaling`` includes what was known before; ``status`` are the raw flags
    of attribute 0x0200; ``time`` the meter's own snapshot time; ``missing`` attributes without a value."""

    values: tuple[Metered, ...]
    scaling: Scaling
    status: int | None
    time: datetime | None
    missing: tuple[str, ...]


def read(attributes: Iterable[Attribute], known: Scaling | None = None) -> MeterReport:
    """The metering values among ``attributes``; others are passed over."""
    found = {one.id: one for one in attributes}
    scaling = known or Scaling()
    for number, field in ((_MULTIPLIER, "multiplier"), (_DIVISOR, "divisor"), (_UNIT, "unit")):
        if (value := _integer(found.get(number))) is not None:
            scaling = replace(scaling, **{field: value})
    values, missing = [], []
    for number, one in found.items():
        meaning = _meaning(number)
        if meaning is None:
            continue
        raw = _integer(one)
        if raw is None:
            missing.append(f"{meaning[0]}_t{meaning[1]}" if meaning[1] else meaning[0])
        else:
            values.append(_metered(*meaning, raw, scaling))
    seconds = _integer(found.get(_SNAPSHOT_TIME))
    time = None if seconds is None or not 0 < seconds < 1 << 32 else _EPOCH + timedelta(seconds=seconds)
    return MeterReport(tuple(values), scaling, _integer(found.get(_STATUS)), time, tuple(missing))


def exact(raw: int, multiplier: int, divisor: int) -> Decimal | None:
    """``raw`` x ``multiplier`` / ``divisor`` with every digit; None where the decimal does not end.

    Raises:
        ZeroDivisionError: the divisor is 0.
    """
    fraction = Fraction(raw * multiplier, divisor)
    rest, places = fraction.denominator, 0
    for prime in (2, 5):
        power = 0
        while rest % prime == 0:
            rest, power = rest // prime, power + 1
        places = max(places, power)
    if rest != 1:
        return None
    return units.scale(fraction.numerator * 10**places // fraction.denominator, -places)


def _meaning(number: int) -> tuple[str, int] | None:
    if number in _SUMMATIONS:
        return _SUMMATIONS[number], 0
    if number in _TIERS:
        tier, received = divmod(number - _TIERS.start, 2)
        return _SUMMATIONS[received], tier + 1
    return ("active_power", 0) if number == _DEMAND else None


def _integer(one: Attribute | None) -> int | None:
    # a boolean is an int to Python, and no number of a meter
    return one.value if one is not None and type(one.value) is int else None


def _metered(quantity: str, tariff: int, raw: int, scaling: Scaling) -> Metered:
    multiplier, divisor, unit = scaling.multiplier, scaling.divisor, scaling.unit

    def without(reason: str) -> Metered:
        return Metered(quantity, raw, tariff, multiplier, divisor, None, None, reason)

    if multiplier is None or divisor is None or unit is None:
        absent = [
            word
            for word, value in (("multiplier", multiplier), ("divisor", divisor), ("unit", unit))
            if value is None
        ]
        return without(f"{' and '.join(absent)} not known")
    if unit & ~_BCD != _KWH:
        return without(f"unit of measure {unit:02x} is not kWh")
    number = raw
    if unit & _BCD:
        digits = f"{raw:x}"
        if not digits.isdecimal():
            return without(f"{digits} has digits above 9")
        number = int(digits)
    if divisor == 0 or multiplier == 0:
        return without("multiplier or divisor is 0")
    value = exact(number, multiplier, divisor)
    if value is None:
        return without(f"{number} x {multiplier} / {divisor} is no finite decimal")
    symbol = "W" if quantity == "active_power" else "Wh"
    return Metered(quantity, raw, tariff, multiplier, divisor, units.scale(value, 3), symbol, None)
