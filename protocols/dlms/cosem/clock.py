"""Clock (class 8, version 0): its time, its zone, its summer time, and the methods that move it.

Attribute and method numbers and types are those of the Blue Book's class 8. time_zone and
daylight_savings_deviation are minutes, time_zone with the sign of deviations (UTC = local + time_zone).
"""

import datetime as dt
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from protocols.dlms import axdr
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem.forms import date_time, fields_of, integer_of, natural_within, octets_of
from protocols.dlms.cosem_time import (
    DAY_LAST,
    DAY_SECOND_LAST,
    ClockStatus,
    CosemDate,
    CosemDateTime,
    CosemTime,
    standard_offset,
)
from protocols.errors import LocalProtocolError, RemoteProtocolError

#: Attributes.
TIME: Final = 2
TIME_ZONE: Final = 3
STATUS: Final = 4
DST_BEGIN: Final = 5
DST_END: Final = 6
DST_DEVIATION: Final = 7
DST_ENABLED: Final = 8
CLOCK_BASE: Final = 9
#: Methods.
ADJUST_TO_QUARTER: Final = 1
ADJUST_TO_MEASURING_PERIOD: Final = 2
ADJUST_TO_MINUTE: Final = 3
ADJUST_TO_PRESET_TIME: Final = 4
PRESET_ADJUSTING_TIME: Final = 5
SHIFT_TIME: Final = 6

#: shift_time takes so many seconds at most, either way.
MOST_SHIFT_S: Final = 900
#: daylight_savings_deviation is so many minutes at most, either way.
MOST_DST_MIN: Final = 120
_WEEK: Final = 7
_MINUTE: Final = dt.timedelta(minutes=1)
#: A rule is believed when it tells the switches of so many years.
_YEARS_CHECKED: Final = 5


class ClockBase(IntEnum):
    """What a clock counts by."""

    NOT_DEFINED = 0
    INTERNAL_CRYSTAL = 1
    MAINS_50_HZ = 2
    MAINS_60_HZ = 3
    GPS = 4
    RADIO = 5


def clock_time(
    data: Data, *, zone: ZoneInfo | None = None, follows_dst: bool = True, inverted_deviation: bool = False
) -> dt.datetime:
    """Attribute time of a Clock as an aware UTC moment; see `CosemDateTime.to_utc`."""
    return clock_stamp(data).to_utc(zone=zone, follows_dst=follows_dst, inverted_deviation=inverted_deviation)


def clock_stamp(data: Data) -> CosemDateTime:
    """Attribute time, as the clock shows it."""
    stamp = date_time(data)
    if stamp is None:
        raise RemoteProtocolError("the clock has no time")
    return stamp


def time_data(stamp: CosemDateTime) -> bytes:
    """Attributes time, daylight_savings_begin and _end as A-XDR bytes: an octet-string of 12."""
    return axdr.encode(axdr.octets(stamp.to_bytes()))


def minutes(data: Data) -> int:
    """Attribute time_zone of a Clock: UTC - local standard time, in minutes."""
    return integer_of(data, "time_zone")


def status(data: Data) -> ClockStatus | None:
    """Attribute status; None where it is not specified (0xFF)."""
    word = natural_within(data, "clock status", 0, 0xFF)
    return None if word == 0xFF else ClockStatus(word)


def clock_base(data: Data) -> ClockBase:
    """Attribute clock_base."""
    return ClockBase(natural_within(data, "clock_base", 0, max(ClockBase)))


# ---- methods ----------------------------------------------------------------------------------------


def nothing_data() -> bytes:
    """The parameter of methods 1 to 4: integer (0)."""
    return axdr.encode(axdr.i8(0))


def shift_data(seconds: int) -> bytes:
    """The parameter of shift_time. Raises LocalProtocolError beyond `MOST_SHIFT_S`."""
    if not -MOST_SHIFT_S <= seconds <= MOST_SHIFT_S:
        raise LocalProtocolError(f"a clock is shifted by at most {MOST_SHIFT_S} s, not {seconds}")
    return axdr.encode(axdr.i16(seconds))


def shift_seconds(data: Data) -> int:
    """What shift_time is asked for. Raises RemoteProtocolError beyond `MOST_SHIFT_S`."""
    seconds = integer_of(data, "shift_time")
    if not -MOST_SHIFT_S <= seconds <= MOST_SHIFT_S:
        raise RemoteProtocolError(f"shift_time of {seconds} s: {MOST_SHIFT_S} at most")
    return seconds


@dataclass(frozen=True, slots=True)
class Preset:
    """preset_adjusting_time: adjust_to_preset_time within [since, until] sets the clock to ``time``."""

    time: CosemDateTime
    since: CosemDateTime
    until: CosemDateTime

    def encode(self) -> bytes:
        """The method's parameter as A-XDR bytes."""
        stamps = (axdr.octets(one.to_bytes()) for one in (self.time, self.since, self.until))
        return axdr.encode(axdr.structure(*stamps))

    @classmethod
    def decode(cls, data: Data) -> "Preset":
        """From the method's parameter."""
        one, two, three = (
            CosemDateTime.from_bytes(octets_of(field, "preset time"))
            for field in fields_of(data, 3, "preset_adjusting_time")
        )
        return cls(one, two, three)


# ---- summer time ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SummerTime:
    """Attributes 3 and 5 to 8: when summer time begins (by standard time) and ends (by summer time), how many
    minutes it is ahead, and whether it is followed at all."""

    zone_min: int
    begins: CosemDateTime
    ends: CosemDateTime
    ahead_min: int
    enabled: bool

    @classmethod
    def decode(cls, zone: Data, begins: Data, ends: Data, ahead: Data, enabled: Data) -> "SummerTime":
        """From the five attributes."""
        if enabled.type is not DataType.BOOLEAN:
            raise RemoteProtocolError(f"daylight_savings_enabled is {enabled.type.name}, not a boolean")
        return cls(minutes(zone), switch(begins), switch(ends), dst_minutes(ahead), bool(enabled.value))

    def encoded(self) -> dict[int, bytes]:
        """A-XDR bytes by attribute, in an order in which no half of it is wrong: enabled comes last."""
        return {
            TIME_ZONE: axdr.encode(axdr.i16(self.zone_min)),
            DST_BEGIN: time_data(self.begins),
            DST_END: time_data(self.ends),
            DST_DEVIATION: axdr.encode(axdr.i8(self.ahead_min)),
            DST_ENABLED: axdr.encode(axdr.boolean(self.enabled)),
        }

    def means(self, other: "SummerTime") -> bool:
        """Whether a clock with one shows what it would with the other: rules that are not followed do not
        matter, nor do parts of a rule that say nothing."""
        if self.zone_min != other.zone_min or self.enabled != other.enabled:
            return False
        if not self.enabled:
            return True
        return (self.ahead_min, _meant(self.begins), _meant(self.ends)) == (
            other.ahead_min,
            _meant(other.begins),
            _meant(other.ends),
        )


def switch(data: Data) -> CosemDateTime:
    """daylight_savings_begin or _end."""
    found = date_time(data)
    if found is None:
        return CosemDateTime(CosemDate(), CosemTime())
    return found


def dst_minutes(data: Data) -> int:
    """daylight_savings_deviation."""
    value = integer_of(data, "daylight_savings_deviation")
    if not -MOST_DST_MIN <= value <= MOST_DST_MIN:
        raise RemoteProtocolError(f"daylight_savings_deviation of {value} minutes")
    return value


def _meant(rule: CosemDateTime) -> tuple[int | None, ...]:
    """Year, month, day, weekday, hour, minute and second; an open second is zero."""
    date, time = rule.date, rule.time
    return date.year, date.month, date.day, date.weekday, time.hour, time.minute or 0, time.second or 0


@lru_cache(maxsize=256)
def summer_time(zone: ZoneInfo, year: int, *, follows_dst: bool = True) -> SummerTime | None:
    """What the zone's rules of ``year`` are for a clock: the last weekday of a month where that holds for
    some years on, else the weekday on or after a day. None where no such rule tells them."""
    standard_min = standard_offset(zone, year) // _MINUTE
    never = CosemDateTime(CosemDate(), CosemTime())
    moves = _switches(zone, year)
    if not follows_dst or not moves:
        return SummerTime(-standard_min, never, never, 0, enabled=False)
    years = [_switches(zone, later) for later in range(year, year + _YEARS_CHECKED)]
    if any(len(found) != 2 for found in years):
        return None
    forward = [next((one for one in found if one[1] > dt.timedelta(0)), None) for found in years]
    backward = [next((one for one in found if one[1] < dt.timedelta(0)), None) for found in years]
    begins = _rule([one[0] for one in forward if one is not None])
    ends = _rule([one[0] for one in backward if one is not None])
    if begins is None or ends is None or forward[0] is None:
        return None
    return SummerTime(-standard_min, begins, ends, forward[0][1] // _MINUTE, enabled=True)


def _switches(zone: ZoneInfo, year: int) -> list[tuple[dt.datetime, dt.timedelta]]:
    """(wall clock at which it is moved, by how much) of a year, by bisection between days."""
    found = []
    day = dt.datetime(year, 1, 1, tzinfo=dt.UTC)
    for _ in range(366):
        following = day + dt.timedelta(days=1)
        before, after = _east(day, zone), _east(following, zone)
        if before != after:
            low, high = day, following
            while high - low > dt.timedelta(seconds=1):
                middle = low + (high - low) // 2
                middle = middle.replace(microsecond=0)
                if _east(middle, zone) == before:
                    low = middle
                else:
                    high = middle
            found.append(((high + before).replace(tzinfo=None), after - before))
        day = following
    return [one for one in found if one[0].year == year]


def _east(moment: dt.datetime, zone: ZoneInfo) -> dt.timedelta:
    return moment.astimezone(zone).utcoffset() or dt.timedelta(0)


def _rule(walls: list[dt.datetime]) -> CosemDateTime | None:
    """One date-time with an open year for these wall clocks, one of each year."""
    first = walls[0]
    last = CosemDateTime(
        CosemDate(None, first.month, DAY_LAST, first.isoweekday()),
        CosemTime(first.hour, first.minute, first.second, 0),
    )
    earliest = min(wall.day for wall in walls)
    on_or_after = CosemDateTime(
        CosemDate(None, first.month, 1 + (earliest - 1) // _WEEK * _WEEK, first.isoweekday()), last.time
    )
    for rule in (last, on_or_after):
        if all(occurrence(rule, wall.year) == wall for wall in walls):
            return rule
    return None


def occurrence(rule: CosemDateTime, year: int) -> dt.datetime | None:
    """The wall clock, naive, at which a rule switches in ``year``; None where it does not, or names no day.

    Day and weekday belong together (Blue Book, date): the last (or second last) day of the month, the last
    such weekday of it, or the weekday on or following a day.
    """
    date, time = rule.date, rule.time
    if date.year not in (None, year) or date.month is None or date.month > 12 or date.day is None:
        return None
    begin = dt.datetime(year, date.month, 1)  # noqa: DTZ001 - a wall clock
    end = dt.datetime(year + date.month // 12, date.month % 12 + 1, 1)  # noqa: DTZ001
    if date.day in (DAY_LAST, DAY_SECOND_LAST):
        back = 1 if date.day == DAY_LAST else 2
        day = end - dt.timedelta(days=back if date.weekday is None else 1)
        if date.weekday is not None:
            day -= dt.timedelta(days=(day.isoweekday() - date.weekday) % _WEEK + _WEEK * (back - 1))
    else:
        day = begin + dt.timedelta(days=date.day - 1)
        if day >= end:
            return None
        if date.weekday is not None and date.year is None:
            day += dt.timedelta(days=(date.weekday - day.isoweekday()) % _WEEK)
    return day.replace(hour=time.hour or 0, minute=time.minute or 0, second=time.second or 0)


def is_summer(rules: SummerTime, moment: dt.datetime) -> bool:
    """Whether a clock with these rules is on summer time at ``moment`` (aware)."""
    if not rules.enabled:
        return False
    standard = moment.astimezone(dt.UTC).replace(tzinfo=None) - rules.zone_min * _MINUTE
    begins, ends = (occurrence(rule, standard.year) for rule in (rules.begins, rules.ends))
    if begins is None or ends is None:
        return False
    ends -= rules.ahead_min * _MINUTE  # it ends by summer time
    return begins <= standard < ends if begins < ends else not ends <= standard < begins
