"""Special Days Table (class 11, version 0): days that are not what the week says.

It has no passive side: active and passive Activity Calendar share it. Attribute 2 is the whole table; methods
1 (insert) and 2 (delete) change single entries and are not used here. Written after the Blue Book's
definition of the class; its clause is not at hand here.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from protocols.dlms import axdr
from protocols.dlms.axdr import Data
from protocols.dlms.cosem.forms import elements_of, fields_of, natural_within, octets_of
from protocols.dlms.cosem_time import CosemDate

ENTRIES: Final = 2


class SpecialDayEntry(NamedTuple):
    """spec_day_entry: its place in the table, the date (parts may be open), the id of a day profile."""

    place: int
    date: CosemDate
    day_id: int

    def encode(self) -> Data:
        """A structure of long-unsigned, octet-string and unsigned."""
        return axdr.structure(axdr.u16(self.place), axdr.octets(self.date.to_bytes()), axdr.u8(self.day_id))

    @classmethod
    def decode(cls, data: Data) -> "SpecialDayEntry":
        """Raises RemoteProtocolError."""
        place, date, day_id = fields_of(data, 3, "spec_day_entry")
        return cls(
            natural_within(place, "index", 0, 0xFFFF),
            CosemDate.from_bytes(octets_of(date, "specialday_date")),
            natural_within(day_id, "day_id", 0, 0xFF),
        )


def entries(items: Iterable[SpecialDayEntry]) -> Data:
    """Attribute entries."""
    return axdr.array(one.encode() for one in items)


def special_days(data: Data) -> tuple[SpecialDayEntry, ...]:
    """The reverse. Raises RemoteProtocolError."""
    return tuple(map(SpecialDayEntry.decode, elements_of(data, "special days")))
