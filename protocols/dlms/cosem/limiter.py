"""Limiter (class 71, version 0): a monitored value, its thresholds, and what is done above and below them.

Attributes follow the Blue Book's class description as it is commonly cited; the clause was not at hand.
"""

from dataclasses import dataclass
from typing import Final

from protocols.dlms import axdr
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem.forms import (
    INTEGERS,
    date_time,
    elements_of,
    fields_of,
    integer_of,
    logical_name_of,
    natural_of,
)
from protocols.dlms.cosem.objects import Attribute
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.obis import Obis
from protocols.errors import LocalProtocolError, RemoteProtocolError

MONITORED_VALUE: Final = 2
THRESHOLD_ACTIVE: Final = 3
THRESHOLD_NORMAL: Final = 4
THRESHOLD_EMERGENCY: Final = 5
MIN_OVER_DURATION: Final = 6  # double-long-unsigned, seconds
MIN_UNDER_DURATION: Final = 7
EMERGENCY_PROFILE: Final = 8
EMERGENCY_GROUPS: Final = 9
EMERGENCY_ACTIVE: Final = 10
ACTIONS: Final = 11


@dataclass(frozen=True, slots=True)
class EmergencyProfile:
    """While it is active the emergency threshold holds: ``duration_s`` seconds from ``begins`` (None: not
    specified). The meter takes it only where ``number`` is one of its groups."""

    number: int
    begins: CosemDateTime | None
    duration_s: int

    @classmethod
    def decode(cls, data: Data) -> "EmergencyProfile":
        """From attribute emergency_profile."""
        number, begins, duration = fields_of(data, 3, "emergency_profile")
        return cls(
            natural_of(number, "emergency_profile_id"),
            date_time(begins),
            natural_of(duration, "emergency_duration"),
        )

    def encode(self) -> Data:
        """As attribute emergency_profile; the time is an octet-string of 12."""
        begins = CosemDateTime.from_bytes(_UNSPECIFIED) if self.begins is None else self.begins
        return axdr.structure(
            axdr.u16(self.number), axdr.octets(begins.to_bytes()), axdr.u32(self.duration_s)
        )


@dataclass(frozen=True, slots=True)
class ActionItem:
    """A script of a script table."""

    script: Obis
    selector: int

    @classmethod
    def decode(cls, data: Data) -> "ActionItem":
        """From one field of attribute actions."""
        script, selector = fields_of(data, 2, "action item")
        return cls(logical_name_of(script), natural_of(selector, "script_selector"))

    def encode(self) -> Data:
        """As one field of attribute actions."""
        return axdr.structure(axdr.octets(self.script.raw), axdr.u16(self.selector))


@dataclass(frozen=True, slots=True)
class LimiterActions:
    """What is executed when the value is above the threshold for long enough, and below."""

    over: ActionItem
    under: ActionItem

    @classmethod
    def decode(cls, data: Data) -> "LimiterActions":
        """From attribute actions."""
        over, under = fields_of(data, 2, "actions")
        return cls(ActionItem.decode(over), ActionItem.decode(under))

    def encode(self) -> Data:
        """As attribute actions."""
        return axdr.structure(self.over.encode(), self.under.encode())


def monitored_value(data: Data) -> Attribute:
    """Attribute monitored_value: what is limited."""
    class_id, name, index = fields_of(data, 3, "monitored_value")
    return Attribute(
        natural_of(class_id, "class id"), logical_name_of(name), integer_of(index, "attribute index")
    )


def encode_monitored_value(of: Attribute) -> Data:
    """As attribute monitored_value."""
    return axdr.structure(axdr.u16(of.class_id), axdr.octets(of.obis.raw), axdr.i8(of.index))


def threshold(data: Data) -> int:
    """Attributes threshold_...: as the monitored value counts, without its scaler."""
    return natural_of(data, "threshold")


def encode_threshold(value: int, like: Data) -> Data:
    """A threshold in the type of another: that of the monitored value. Raises LocalProtocolError where it
    cannot hold it."""
    if like.type not in INTEGERS:
        raise LocalProtocolError(f"a threshold of type {like.type.name} is not written here")
    made = Data(like.type, value)
    axdr.encode(made)  # raises where the type cannot hold it
    return made


def groups(data: Data) -> tuple[int, ...]:
    """Attribute emergency_profile_group_id_list."""
    return tuple(natural_of(one, "group id") for one in elements_of(data, "emergency_profile_group_id_list"))


def encode_groups(numbers: tuple[int, ...]) -> Data:
    """As attribute emergency_profile_group_id_list."""
    return axdr.array(axdr.u16(one) for one in numbers)


def is_active(data: Data) -> bool:
    """Attribute emergency_profile_active."""
    if data.type is not DataType.BOOLEAN:
        raise RemoteProtocolError(f"emergency_profile_active is {data.type.name}, not a boolean")
    return bool(data.value)


#: date-time with every field not specified.
_UNSPECIFIED: Final = bytes.fromhex("ffffffffffffffffff8000ff")
