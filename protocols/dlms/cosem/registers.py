"""Register, Extended Register and Demand Register: exact values with their unit."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from protocols.dlms import axdr, units
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem.forms import INTEGERS, fields_of
from protocols.dlms.cosem.objects import ClassId
from protocols.errors import RemoteProtocolError

_REALS: Final = frozenset({DataType.FLOAT32, DataType.FLOAT64})


@dataclass(frozen=True, slots=True)
class ScalerUnit:
    """Attribute scaler_unit: exact value = raw x 10**scaler, in the unit of this Blue Book code."""

    scaler: int
    unit: int

    @classmethod
    def decode(cls, data: Data) -> "ScalerUnit":
        """From structure { scaler: integer, unit: enum }."""
        scaler, unit = fields_of(data, 2, "scaler_unit")
        if scaler.type is not DataType.INTEGER or unit.type not in (DataType.ENUM, DataType.UNSIGNED):
            raise RemoteProtocolError("scaler_unit is not a structure of integer and enum")
        return cls(scaler.value, unit.value)

    def encode(self) -> Data:
        """As an attribute."""
        return axdr.structure(axdr.i8(self.scaler), axdr.enum(self.unit))

    @property
    def symbol(self) -> str | None:
        """``Wh``, or None for a count or an unknown unit."""
        return units.symbol(self.unit)


@dataclass(frozen=True, slots=True)
class Register:
    """An exact register value with the symbol of its unit."""

    value: Decimal
    unit: str | None


def exact(value: Data, scaler_unit: ScalerUnit | None = None) -> Register | None:
    """The value of any register with every digit; None where the meter sent null or don't-care.

    A float becomes the shortest decimal that reads back as its bits. Without ``scaler_unit`` it is the raw
    number.

    Raises:
        RemoteProtocolError: not a number.
    """
    if value.type in (DataType.NULL, DataType.DONT_CARE):
        return None
    if value.type in _REALS:
        raw: int | Decimal = value.value.decimal()
    elif value.type in INTEGERS or value.type is DataType.ENUM:
        raw = value.value
    else:
        raise RemoteProtocolError(f"register value is {value.type.name}, not a number")
    if scaler_unit is None:
        return Register(Decimal(raw), None)
    return Register(units.scale(raw, scaler_unit.scaler), scaler_unit.symbol)


@dataclass(frozen=True, slots=True)
class RegisterAttributes:
    """Attribute numbers of a class with register values: the Demand Register counts differently."""

    value: int
    scaler_unit: int
    status: int | None = None
    capture_time: int | None = None
    last_value: int | None = None


#: Where each register class keeps what (Blue Book, classes 3, 4 and 5). Of a demand register ``value`` is
#: current_average_value and ``last_value`` last_average_value; the period's start is attribute 7.
REGISTER_ATTRIBUTES: Final[dict[int, RegisterAttributes]] = {
    ClassId.REGISTER: RegisterAttributes(value=2, scaler_unit=3),
    ClassId.EXTENDED_REGISTER: RegisterAttributes(value=2, scaler_unit=3, status=4, capture_time=5),
    ClassId.DEMAND_REGISTER: RegisterAttributes(
        value=2, scaler_unit=4, status=5, capture_time=6, last_value=3
    ),
}
