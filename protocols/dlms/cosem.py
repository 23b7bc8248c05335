"""COSEM interface classes as far as reading needs them: attributes of the Blue Book's objects, decoded by
name.

Decoders take the `Data` of one attribute and raise `RemoteProtocolError` where it has not the form of its
class.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum, IntFlag
from typing import Final
from zoneinfo import ZoneInfo

from protocols.dlms import axdr, units
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError


class ClassId(IntEnum):
    """Interface classes that the head-end reads."""

    DATA = 1
    REGISTER = 3
    EXTENDED_REGISTER = 4
    DEMAND_REGISTER = 5
    PROFILE_GENERIC = 7
    CLOCK = 8
    ASSOCIATION_LN = 15
    SAP_ASSIGNMENT = 17
    SECURITY_SETUP = 64


@dataclass(frozen=True, slots=True, order=True)
class Attribute:
    """One attribute of one object: cosem-attribute-descriptor. ``index`` 1 is the logical name, 0 all
    attributes."""

    class_id: int
    obis: Obis
    index: int

    def __str__(self) -> str:
        return f"{self.class_id}/{self.obis}/{self.index}"


@dataclass(frozen=True, slots=True, order=True)
class Method:
    """One method of one object: cosem-method-descriptor."""

    class_id: int
    obis: Obis
    index: int

    def __str__(self) -> str:
        return f"{self.class_id}/{self.obis}/method {self.index}"


CLOCK_TIME: Final = Attribute(ClassId.CLOCK, Obis.parse("0-0:1.0.0*255"), 2)
CURRENT_ASSOCIATION: Final = Obis.parse("0-0:40.0.0*255")
LOGICAL_DEVICE_NAME: Final = Attribute(ClassId.DATA, Obis.parse("0-0:42.0.0*255"), 2)
SAP_ASSIGNMENT_LIST: Final = Attribute(ClassId.SAP_ASSIGNMENT, Obis.parse("0-0:41.0.0*255"), 2)
#: HLS step 3 and 4: reply_to_HLS_authentication of the current association.
REPLY_TO_HLS: Final = Method(ClassId.ASSOCIATION_LN, CURRENT_ASSOCIATION, 1)

_INTEGERS: Final = frozenset(
    {
        DataType.INTEGER, DataType.LONG, DataType.DOUBLE_LONG, DataType.LONG64,
        DataType.UNSIGNED, DataType.LONG_UNSIGNED, DataType.DOUBLE_LONG_UNSIGNED, DataType.LONG64_UNSIGNED,
    }
)  # fmt: skip
_REALS: Final = frozenset({DataType.FLOAT32, DataType.FLOAT64})


# ---- forms that classes share --------------------------------------------------------------------


def _fields(data: Data, count: int, what: str) -> tuple[Data, ...]:
    if data.type is not DataType.STRUCTURE or len(data.value) != count:
        raise RemoteProtocolError(f"{what} is not a structure of {count}")
    fields: tuple[Data, ...] = data.value
    return fields


def _array(data: Data, what: str) -> tuple[Data, ...]:
    if data.type is DataType.COMPACT_ARRAY:
        elements: tuple[Data, ...] = data.value.elements
        return elements
    if data.type is not DataType.ARRAY:
        raise RemoteProtocolError(f"{what} is {data.type.name}, not an array")
    items: tuple[Data, ...] = data.value
    return items


def _integer(data: Data, what: str) -> int:
    if data.type not in _INTEGERS and data.type is not DataType.ENUM:
        raise RemoteProtocolError(f"{what} is {data.type.name}, not an integer")
    value: int = data.value
    return value


def _octets(data: Data, what: str) -> bytes:
    if data.type is not DataType.OCTET_STRING:
        raise RemoteProtocolError(f"{what} is {data.type.name}, not an octet-string")
    value: bytes = data.value
    return value


def _logical_name(data: Data) -> Obis:
    return Obis.from_bytes(_octets(data, "logical name"))


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
    octets = _octets(data, "text")
    return octets.decode("ascii") if all(0x20 <= octet < 0x7F for octet in octets) else octets.hex()


# ---- Register, Extended Register, Demand Register ------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScalerUnit:
    """Attribute scaler_unit: exact value = raw x 10**scaler, in the unit of this Blue Book code."""

    scaler: int
    unit: int

    @classmethod
    def decode(cls, data: Data) -> "ScalerUnit":
        """From structure { scaler: integer, unit: enum }."""
        scaler, unit = _fields(data, 2, "scaler_unit")
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
    """The value of a (demand, extended) register with every digit; None where the meter sent null or
    don't-care.

    A float becomes the shortest decimal that reads back as its bits. Without ``scaler_unit`` it is the raw
    number.

    Raises:
        RemoteProtocolError: not a number.
    """
    if value.type in (DataType.NULL, DataType.DONT_CARE):
        return None
    if value.type in _REALS:
        raw: int | Decimal = value.value.decimal()
    elif value.type in _INTEGERS or value.type is DataType.ENUM:
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


# ---- Profile Generic -----------------------------------------------------------------------------


class SortMethod(IntEnum):
    """Order of a profile's buffer."""

    FIFO = 1
    LIFO = 2
    LARGEST = 3
    SMALLEST = 4
    NEAREST_TO_ZERO = 5
    FAREST_FROM_ZERO = 6


#: Attributes of Profile Generic (Blue Book, class 7).
PROFILE_BUFFER: Final = 2
PROFILE_CAPTURE_OBJECTS: Final = 3
PROFILE_CAPTURE_PERIOD: Final = 4
PROFILE_SORT_METHOD: Final = 5
PROFILE_SORT_OBJECT: Final = 6
PROFILE_ENTRIES_IN_USE: Final = 7
PROFILE_ENTRIES: Final = 8


@dataclass(frozen=True, slots=True, order=True)
class CaptureObject:
    """One column of a profile. ``data_index`` 0 is the whole attribute, else its n-th element."""

    class_id: int
    obis: Obis
    attribute: int
    data_index: int = 0

    @classmethod
    def decode(cls, data: Data) -> "CaptureObject":
        """From structure { class_id, logical_name, attribute_index, data_index }."""
        class_id, name, attribute, index = _fields(data, 4, "capture object")
        return cls(
            _integer(class_id, "class id"),
            _logical_name(name),
            _integer(attribute, "attribute index"),
            _integer(index, "data index"),
        )

    def encode(self) -> Data:
        """As an element of capture_objects."""
        return axdr.structure(
            axdr.u16(self.class_id),
            axdr.octets(self.obis.raw),
            axdr.i8(self.attribute),
            axdr.u16(self.data_index),
        )


def capture_objects(data: Data) -> tuple[CaptureObject, ...]:
    """Attribute capture_objects: the columns of the buffer in their order."""
    return tuple(CaptureObject.decode(item) for item in _array(data, "capture_objects"))


def seconds(data: Data) -> int:
    """Attribute capture_period: seconds, 0 where capturing is triggered from outside."""
    return _natural(data, "capture_period")


def entries(data: Data) -> int:
    """Attributes entries_in_use and profile_entries."""
    return _natural(data, "number of entries")


def _natural(data: Data, what: str) -> int:
    value = _integer(data, what)
    if value < 0:
        raise RemoteProtocolError(f"{what} is negative: {value}")
    return value


def sort_method(data: Data) -> SortMethod:
    """Attribute sort_method."""
    value = _integer(data, "sort_method")
    try:
        return SortMethod(value)
    except ValueError as exc:
        raise RemoteProtocolError(f"sort_method {value} is none of 1 to 6") from exc


#: Access selectors of the buffer.
BY_RANGE: Final = 1
BY_ENTRY: Final = 2


@dataclass(frozen=True, slots=True)
class RangeDescriptor:
    """Selective access by range (selector 1): rows whose ``restricting`` column is within [low, high],
    both ends included. ``selected`` are the columns wanted; none means all."""

    restricting: CaptureObject
    low: Data
    high: Data
    selected: tuple[CaptureObject, ...] = ()

    @classmethod
    def between(
        cls,
        start: CosemDateTime,
        end: CosemDateTime,
        *,
        selected: Iterable[CaptureObject] = (),
        tagged_date_time: bool = False,
    ) -> "RangeDescriptor":
        """By the clock column, both stamps included; most meters want octet-strings, some a date-time's
        tag."""
        kind = DataType.DATE_TIME if tagged_date_time else DataType.OCTET_STRING
        clock = CaptureObject(CLOCK_TIME.class_id, CLOCK_TIME.obis, CLOCK_TIME.index)
        low, high = (Data(kind, stamp.to_bytes()) for stamp in (start, end))
        return cls(clock, low, high, tuple(selected))

    @classmethod
    def decode(cls, data: Data) -> "RangeDescriptor":
        """The server's side: from the access parameters of a request."""
        restricting, low, high, selected = _fields(data, 4, "range descriptor")
        columns = _array(selected, "selected values")
        chosen = tuple(CaptureObject.decode(item) for item in columns)
        return cls(CaptureObject.decode(restricting), low, high, chosen)

    def encode(self) -> Data:
        """As access parameters."""
        selected = axdr.array(item.encode() for item in self.selected)
        return axdr.structure(self.restricting.encode(), self.low, self.high, selected)


@dataclass(frozen=True, slots=True)
class EntryDescriptor:
    """Selective access by entry (selector 2): rows and columns by number from 1, both ends included.

    ``to_entry`` and ``to_value`` 0 mean the last one.
    """

    from_entry: int = 1
    to_entry: int = 0
    from_value: int = 1
    to_value: int = 0

    @classmethod
    def decode(cls, data: Data) -> "EntryDescriptor":
        """The server's side: from the access parameters of a request."""
        return cls(*(_natural(item, "entry descriptor") for item in _fields(data, 4, "entry descriptor")))

    def encode(self) -> Data:
        """As access parameters."""
        return axdr.structure(
            axdr.u32(self.from_entry),
            axdr.u32(self.to_entry),
            axdr.u16(self.from_value),
            axdr.u16(self.to_value),
        )


# ---- Clock ---------------------------------------------------------------------------------------


def clock_time(
    data: Data, *, zone: ZoneInfo | None = None, follows_dst: bool = True, inverted_deviation: bool = False
) -> dt.datetime:
    """Attribute time of a Clock as an aware UTC moment; see `CosemDateTime.to_utc`."""
    stamp = date_time(data)
    if stamp is None:
        raise RemoteProtocolError("the clock has no time")
    return stamp.to_utc(zone=zone, follows_dst=follows_dst, inverted_deviation=inverted_deviation)


def minutes(data: Data) -> int:
    """Attribute time_zone of a Clock: UTC - local standard time, in minutes."""
    return _integer(data, "time_zone")


# ---- Association LN, SAP Assignment --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AttributeAccess:
    """Access mode as sent: an enum before version 3 of the class, bits since; ``selectors`` the allowed
    ones."""

    index: int
    mode: int
    selectors: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class MethodAccess:
    """Access mode of a method as sent (versions 0 wrote a boolean: 0 or 1)."""

    index: int
    mode: int


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """One object that the association can see."""

    class_id: int
    version: int
    obis: Obis
    attributes: tuple[AttributeAccess, ...]
    methods: tuple[MethodAccess, ...]

    @classmethod
    def decode(cls, data: Data) -> "ObjectEntry":
        """From one element of object_list."""
        class_id, version, name, rights = _fields(data, 4, "object list element")
        attributes, methods = _fields(rights, 2, "access rights")
        return cls(
            _integer(class_id, "class id"),
            _integer(version, "version"),
            _logical_name(name),
            tuple(_attribute_access(item) for item in _array(attributes, "attribute access")),
            tuple(_method_access(item) for item in _array(methods, "method access")),
        )

    def encode(self) -> Data:
        """As an element of object_list."""
        attributes = axdr.array(
            axdr.structure(
                axdr.i8(item.index),
                axdr.enum(item.mode),
                axdr.array(axdr.i8(s) for s in item.selectors) if item.selectors else axdr.NULL,
            )
            for item in self.attributes
        )
        methods = axdr.array(
            axdr.structure(axdr.i8(item.index), axdr.enum(item.mode)) for item in self.methods
        )
        name = axdr.octets(self.obis.raw)
        rights = axdr.structure(attributes, methods)
        return axdr.structure(axdr.u16(self.class_id), axdr.u8(self.version), name, rights)


def _attribute_access(data: Data) -> AttributeAccess:
    index, mode, selectors = _fields(data, 3, "attribute access")
    allowed = () if selectors.type is DataType.NULL else _array(selectors, "access selectors")
    return AttributeAccess(
        _integer(index, "attribute index"),
        _integer(mode, "access mode"),
        tuple(_integer(item, "access selector") for item in allowed),
    )


def _method_access(data: Data) -> MethodAccess:
    index, mode = _fields(data, 2, "method access")
    if mode.type is DataType.BOOLEAN:
        return MethodAccess(_integer(index, "method index"), int(mode.value))
    return MethodAccess(_integer(index, "method index"), _integer(mode, "access mode"))


def object_list(data: Data) -> tuple[ObjectEntry, ...]:
    """Attribute object_list of Association LN."""
    return tuple(ObjectEntry.decode(item) for item in _array(data, "object_list"))


@dataclass(frozen=True, slots=True)
class LogicalDevice:
    """One server SAP and the name of the logical device behind it."""

    sap: int
    name: str


def sap_assignment_list(data: Data) -> tuple[LogicalDevice, ...]:
    """Attribute SAP_assignment_list."""
    devices = []
    for item in _array(data, "SAP_assignment_list"):
        sap, name = _fields(item, 2, "SAP assignment")
        devices.append(LogicalDevice(_natural(sap, "SAP"), text(name)))
    return tuple(devices)


# ---- Security Setup ------------------------------------------------------------------------------


class SecurityPolicy(IntFlag):
    """What a Security Setup demands: the bits of its version 1."""

    NONE = 0
    AUTHENTICATED_REQUEST = 1 << 2
    ENCRYPTED_REQUEST = 1 << 3
    SIGNED_REQUEST = 1 << 4
    AUTHENTICATED_RESPONSE = 1 << 5
    ENCRYPTED_RESPONSE = 1 << 6
    SIGNED_RESPONSE = 1 << 7


_AUTHENTICATED: Final = SecurityPolicy.AUTHENTICATED_REQUEST | SecurityPolicy.AUTHENTICATED_RESPONSE
_ENCRYPTED: Final = SecurityPolicy.ENCRYPTED_REQUEST | SecurityPolicy.ENCRYPTED_RESPONSE
#: Version 0 writes an enum, which always means both directions.
_POLICY_VERSION_0: Final = {
    0: SecurityPolicy.NONE,
    1: _AUTHENTICATED,
    2: _ENCRYPTED,
    3: _AUTHENTICATED | _ENCRYPTED,
}


def security_policy(data: Data, version: int) -> SecurityPolicy:
    """Attribute security_policy of Security Setup, ``version`` of the class being 0 (enum) or 1 (bits).

    Raises:
        RemoteProtocolError: a value that the version does not define, or another version.
    """
    value = _integer(data, "security_policy")
    if version == 0:
        if value not in _POLICY_VERSION_0:
            raise RemoteProtocolError(f"security_policy {value} is none of version 0's 0 to 3")
        return _POLICY_VERSION_0[value]
    if version != 1:
        raise RemoteProtocolError(f"Security Setup version {version} is not supported")
    if not 0 <= value <= 0xFF or value & 0x03:
        raise RemoteProtocolError(f"security_policy {value} has reserved bits set")
    return SecurityPolicy(value)


def security_suite(data: Data) -> int:
    """Attribute security_suite: 0, 1 or 2.

    Raises:
        RemoteProtocolError: a reserved suite.
    """
    value = _integer(data, "security_suite")
    if value not in (0, 1, 2):
        raise RemoteProtocolError(f"security suite {value} is reserved")
    return value


def system_title(data: Data) -> bytes:
    """Attributes client_system_title and server_system_title: 8 octets, or none where not yet known."""
    value = _octets(data, "system title")
    if len(value) not in (0, 8):
        raise RemoteProtocolError(f"a system title has 8 octets, not {len(value)}")
    return value
