"""Activity Calendar (class 20, version 0): an active and a passive calendar of seasons, weeks and days.

Attributes 2 to 5 are name, seasons, weeks and days of the active calendar, 6 to 9 those of the passive one,
10 the time at which the passive becomes the active one, and method 1 makes it so at once. Written after the
Blue Book's definition of the class; its clause is not at hand here.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from protocols.dlms import axdr
from protocols.dlms.axdr import Data
from protocols.dlms.cosem.forms import (
    date_time,
    elements_of,
    fields_of,
    logical_name_of,
    natural_within,
    octets_of,
)
from protocols.dlms.cosem_time import CosemDate, CosemDateTime, CosemTime
from protocols.dlms.obis import Obis

CALENDAR_NAME: Final = 2
SEASONS: Final = 3
WEEKS: Final = 4
DAYS: Final = 5
#: From an attribute of the active calendar to the same one of the passive.
TO_PASSIVE: Final = 4
ACTIVATION_TIME: Final = 10
#: Method; its parameter is integer 0.
ACTIVATE: Final = 1

_U8: Final = 0xFF
_U16: Final = 0xFFFF
_WEEK: Final = 7
#: What an activation time is where none is set.
NEVER: Final = CosemDateTime(CosemDate(), CosemTime())


class SeasonProfile(NamedTuple):
    """season_profile: its name, when it begins, and which week it has. Names are octets of the maker's or
    ours."""

    name: bytes
    start: CosemDateTime
    week: bytes

    def encode(self) -> Data:
        """A structure of three octet-strings."""
        return axdr.structure(
            axdr.octets(self.name), axdr.octets(self.start.to_bytes()), axdr.octets(self.week)
        )

    @classmethod
    def decode(cls, data: Data) -> "SeasonProfile":
        """Raises RemoteProtocolError."""
        name, start, week = fields_of(data, 3, "season_profile")
        begins = date_time(start)
        return cls(
            octets_of(name, "season name"), NEVER if begins is None else begins, octets_of(week, "week name")
        )


class WeekProfile(NamedTuple):
    """week_profile: its name and seven day ids, Monday first."""

    name: bytes
    days: tuple[int, ...]

    def encode(self) -> Data:
        """A structure of the name and seven unsigned."""
        return axdr.structure(axdr.octets(self.name), *(axdr.u8(day) for day in self.days))

    @classmethod
    def decode(cls, data: Data) -> "WeekProfile":
        """Raises RemoteProtocolError."""
        name, *days = fields_of(data, 1 + _WEEK, "week_profile")
        return cls(octets_of(name, "week name"), tuple(natural_within(one, "day_id", 0, _U8) for one in days))


class DayAction(NamedTuple):
    """day_profile_action: from ``start`` on the script ``selector`` of the table ``script`` has been run."""

    start: CosemTime
    script: Obis
    selector: int

    def encode(self) -> Data:
        """A structure of time, logical name and long-unsigned."""
        return axdr.structure(
            axdr.octets(self.start.to_bytes()), axdr.octets(self.script.raw), axdr.u16(self.selector)
        )

    @classmethod
    def decode(cls, data: Data) -> "DayAction":
        """Raises RemoteProtocolError."""
        start, script, selector = fields_of(data, 3, "day_profile_action")
        return cls(
            CosemTime.from_bytes(octets_of(start, "start_time")),
            logical_name_of(script),
            natural_within(selector, "script_selector", 0, _U16),
        )


class DayProfile(NamedTuple):
    """day_profile: its id and what happens on such a day."""

    day_id: int
    actions: tuple[DayAction, ...]

    def encode(self) -> Data:
        """A structure of unsigned and an array."""
        return axdr.structure(axdr.u8(self.day_id), axdr.array(one.encode() for one in self.actions))

    @classmethod
    def decode(cls, data: Data) -> "DayProfile":
        """Raises RemoteProtocolError."""
        number, actions = fields_of(data, 2, "day_profile")
        return cls(
            natural_within(number, "day_id", 0, _U8),
            tuple(DayAction.decode(one) for one in elements_of(actions, "day_schedule")),
        )


Profile = SeasonProfile | WeekProfile | DayProfile


def table(profiles: Iterable[Profile]) -> Data:
    """An attribute of seasons, weeks or days."""
    return axdr.array(one.encode() for one in profiles)


def seasons(data: Data) -> tuple[SeasonProfile, ...]:
    """Attribute 3 or 7. Raises RemoteProtocolError."""
    return tuple(map(SeasonProfile.decode, _rows(data, "season_profile_table")))


def weeks(data: Data) -> tuple[WeekProfile, ...]:
    """Attribute 4 or 8. Raises RemoteProtocolError."""
    return tuple(map(WeekProfile.decode, _rows(data, "week_profile_table")))


def days(data: Data) -> tuple[DayProfile, ...]:
    """Attribute 5 or 9. Raises RemoteProtocolError."""
    return tuple(map(DayProfile.decode, _rows(data, "day_profile_table")))


def _rows(data: Data, what: str) -> Sequence[Data]:
    return () if data.type is axdr.DataType.NULL else elements_of(data, what)
