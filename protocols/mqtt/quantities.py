"""Words of ours for measured quantities, their OBIS codes and units, and what is believable of them.

Group B is the channel: the number of a device's relay or input; 0 where it has but one. Group C of a phase
lies 20, 40 and 60 above the total's. A single voltage or current is that of L1, as single-phase meters have
it. Reactive power with a sign has no code that we are certain of, and gets none.
"""

from dataclasses import dataclass
from decimal import (
    Clamped,
    Context,
    Decimal,
    DecimalException,
    Inexact,
    InvalidOperation,
    Overflow,
    Rounded,
    Subnormal,
    Underflow,
)
from functools import lru_cache
from typing import Final

from protocols.errors import RemoteProtocolError
from protocols.mqtt.reading import Fraction, Reading

#: Low-voltage meters: what lies beyond is a fault of the device, or of us.
_POWER: Final = (-100_000_000, 100_000_000)
_ENERGY: Final = (0, 10**15)


@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """``group`` is OBIS group C of the total (None: no code), ``energy`` whether it counts up. What is
    outside ``bounds``, both included, is not believed."""

    name: str
    group: int | None
    unit: str | None
    bounds: tuple[int, int] = _POWER
    energy: bool = False


ACTIVE_IMPORT: Final = Quantity("active_import", 1, "Wh", _ENERGY, energy=True)
ACTIVE_EXPORT: Final = Quantity("active_export", 2, "Wh", _ENERGY, energy=True)
REACTIVE_IMPORT: Final = Quantity("reactive_import", 3, "varh", _ENERGY, energy=True)
REACTIVE_EXPORT: Final = Quantity("reactive_export", 4, "varh", _ENERGY, energy=True)
#: The register of a meter behind a gateway that counts on its own account as well.
ACTIVE_IMPORT_BEHIND: Final = Quantity("active_import_behind", None, "Wh", _ENERGY, energy=True)
ACTIVE_POWER: Final = Quantity("active_power", 16, "W")
ACTIVE_POWER_IMPORT: Final = Quantity("active_power_import", 1, "W")
ACTIVE_POWER_EXPORT: Final = Quantity("active_power_export", 2, "W")
APPARENT_POWER: Final = Quantity("apparent_power", 9, "VA")
REACTIVE_POWER: Final = Quantity("reactive_power", None, "var")
POWER_FACTOR: Final = Quantity("power_factor", 13, None, (-1, 1))
FREQUENCY: Final = Quantity("frequency", 14, "Hz", (40, 70))
VOLTAGE: Final = Quantity("voltage", 12, "V", (0, 1000))
CURRENT: Final = Quantity("current", 11, "A", (-10_000, 10_000))
TOTAL_CURRENT: Final = Quantity("total_current", 90, "A", (-30_000, 30_000))
NEUTRAL_CURRENT: Final = Quantity("neutral_current", 91, "A", (-10_000, 10_000))
PHASE_ANGLE: Final = Quantity("phase_angle", None, "deg", (-360, 360))

#: Numbers of more digits, or further from 1, than any meter's would only cost memory; nothing is rounded.
_EXACT: Final = Context(
    prec=40,
    Emin=-40,
    Emax=40,
    traps=[Clamped, Inexact, InvalidOperation, Overflow, Rounded, Subnormal, Underflow],
)
_ZERO: Final = Decimal(0)


def reading(
    quantity: Quantity,
    value: object,
    *,
    power: int = 0,
    phase: int = 0,
    channel: int = 0,
    tariff: int = 0,
    doubt: str | None = None,
) -> Reading:
    """A reading of ``value`` x 10**``power``; phases and tariffs count from 1, 0 is the total.

    Raises:
        RemoteProtocolError: ``value`` is no number that a meter could send.
    """
    number = number_of(value, quantity.name, power)
    name, obis = _identity(quantity, phase, channel, tariff)
    return Reading(name, obis, number, quantity.unit, doubt or doubt_of(quantity, number))


def fraction(
    quantity: Quantity, parts: Fraction, value: Decimal | None, tariff: int, why: str | None
) -> Reading:
    """A reading that keeps an integer with multiplier and divisor; ``why`` it has no decimal."""
    name, obis = _identity(quantity, 0, 0, tariff)
    if value is None:
        return Reading(name, obis, None, None, why, parts)
    return Reading(name, obis, value, quantity.unit, doubt_of(quantity, value), parts)


def name_of(quantity: Quantity, *, phase: int = 0, channel: int = 0, tariff: int = 0) -> str:
    """The quantity's name with channel, phase and tariff: ``active_import_t2``, ``voltage_l1``."""
    return _identity(quantity, phase, channel, tariff)[0]


@lru_cache(maxsize=4096)
def _identity(quantity: Quantity, phase: int, channel: int, tariff: int) -> tuple[str, str | None]:
    parts = [quantity.name]
    parts += [
        f"{letter}{number}" for letter, number in (("c", channel), ("l", phase), ("t", tariff)) if number
    ]
    name = "_".join(parts)
    if quantity.group is None:
        return name, None
    if quantity in (VOLTAGE, CURRENT):
        phase = phase or 1
    reading = 8 if quantity.energy else 7
    return name, f"1-{channel}:{quantity.group + 20 * phase}.{reading}.{tariff}*255"


def doubt_of(quantity: Quantity, value: Decimal) -> str | None:
    """Why the value is not to be believed, None where nothing speaks against it."""
    low, high = quantity.bounds
    if low <= value <= high:
        return None
    unit = f" {quantity.unit}" if quantity.unit else ""
    return f"{quantity.name} {value}{unit} is outside {low} to {high}"


def number_of(value: object, name: str, power: int = 0) -> Decimal:
    """A JSON number x 10**``power``, exactly and in plain notation.

    Raises:
        RemoteProtocolError: it is none, or one that no meter could send.
    """
    if type(value) is not int and type(value) is not Decimal:
        raise RemoteProtocolError(f"{name} is {type(value).__name__}, not a number")
    try:
        number = _EXACT.create_decimal(value)
        # a sum takes the smaller exponent of the two: 4.3E+2 becomes 430
        return _EXACT.add(_EXACT.scaleb(number, power), _ZERO) if power else number
    except DecimalException as error:
        raise RemoteProtocolError(f"{name} is no number of a meter") from error
