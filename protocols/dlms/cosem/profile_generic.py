"""Profile Generic: its columns, how often it captures, how many rows it has and in which order."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from protocols.dlms import axdr
from protocols.dlms.axdr import Data
from protocols.dlms.cosem.forms import elements_of, fields_of, integer_of, logical_name_of, natural_of
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError

#: Attributes of Profile Generic (Blue Book, class 7).
PROFILE_BUFFER: Final = 2
PROFILE_CAPTURE_OBJECTS: Final = 3
PROFILE_CAPTURE_PERIOD: Final = 4
PROFILE_SORT_METHOD: Final = 5
PROFILE_SORT_OBJECT: Final = 6
PROFILE_ENTRIES_IN_USE: Final = 7
PROFILE_ENTRIES: Final = 8


class SortMethod(IntEnum):
    """Order of a profile's buffer."""

    FIFO = 1
    LIFO = 2
    LARGEST = 3
    SMALLEST = 4
    NEAREST_TO_ZERO = 5
    FAREST_FROM_ZERO = 6


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
        class_id, name, attribute, index = fields_of(data, 4, "capture object")
        return cls(
            integer_of(class_id, "class id"),
            logical_name_of(name),
            integer_of(attribute, "attribute index"),
            integer_of(index, "data index"),
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
    return tuple(CaptureObject.decode(item) for item in elements_of(data, "capture_objects"))


def seconds(data: Data) -> int:
    """Attribute capture_period: seconds, 0 where capturing is triggered from outside."""
    return natural_of(data, "capture_period")


def entries(data: Data) -> int:
    """Attributes entries_in_use and profile_entries."""
    return natural_of(data, "number of entries")


def sort_method(data: Data) -> SortMethod:
    """Attribute sort_method."""
    value = integer_of(data, "sort_method")
    try:
        return SortMethod(value)
    except ValueError as exc:
        raise RemoteProtocolError(f"sort_method {value} is none of 1 to 6") from exc
