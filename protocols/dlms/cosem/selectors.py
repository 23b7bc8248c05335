"""Selective access to the buffer of a profile: by range and by entry."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from protocols.dlms import axdr
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem.forms import elements_of, fields_of, natural_of
from protocols.dlms.cosem.objects import CLOCK_TIME
from protocols.dlms.cosem.profile_generic import CaptureObject
from protocols.dlms.cosem_time import CosemDateTime

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
        """By the clock column, both ends included; most meters want octet-strings, some date-times."""
        kind = DataType.DATE_TIME if tagged_date_time else DataType.OCTET_STRING
        clock = CaptureObject(CLOCK_TIME.class_id, CLOCK_TIME.obis, CLOCK_TIME.index)
        low, high = (Data(kind, stamp.to_bytes()) for stamp in (start, end))
        return cls(clock, low, high, tuple(selected))

    @classmethod
    def decode(cls, data: Data) -> "RangeDescriptor":
        """The server's side: from the access parameters of a request."""
        restricting, low, high, selected = fields_of(data, 4, "range descriptor")
        columns = elements_of(selected, "selected values")
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
        return cls(*(natural_of(item, "entry descriptor") for item in fields_of(data, 4, "entry descriptor")))

    def encode(self) -> Data:
        """As access parameters."""
        return axdr.structure(
            axdr.u32(self.from_entry),
            axdr.u32(self.to_entry),
            axdr.u16(self.from_value),
            axdr.u16(self.to_value),
        )
