"""The shape of a tariff document. What its words mean together is judged by `schemas.tariff.check`.

Times of day, dates and the activation stay the texts that their author wrote: all that is wrong with them is
told at once, each with its line. A document that was checked has no wrong ones, so the properties here read
them without further ado.
"""

import datetime as dt
import re
from functools import cached_property
from typing import Annotated, Final, TypeVar
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, ConfigDict, Field

from schemas.programs.shape import Shape

#: What stands for "as soon as it is there".
AT_ONCE: Final = "at once"
WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TIME: Final = re.compile(r"([0-9]{2}):([0-9]{2})")
_YEARLY: Final = re.compile(r"([0-9]{2})-([0-9]{2})")
#: A leap year: a yearly date exists if it exists in it.
LEAP: Final = 2024


def _plain(value: object) -> object:
    """TOML has times and dates of its own; they are meant as the same text."""
    if isinstance(value, dt.time) and not value.second and not value.microsecond:
        return value.strftime("%H:%M")
    return value.isoformat() if isinstance(value, dt.date | dt.datetime | dt.time) else value


_BY_ALIAS: Final = ConfigDict(serialize_by_alias=True, validate_by_name=True)
Text = Annotated[str, BeforeValidator(_plain), Field(min_length=1, max_length=64)]
Label = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[!-~]([ -~]*[!-~])?$")]


class Switch(Shape):
    """From this time of day on (HH:MM) this period counts, until the next switch or midnight."""

    model_config = _BY_ALIAS

    from_: Text = Field(alias="from")
    period: Label

    @property
    def minute(self) -> int:
        """Of the day."""
        minute = minute_of(self.from_)
        if minute is None:
            raise ValueError(f"{self.from_!r} is no time of day")
        return minute


class Day(Shape):
    """A kind of day: what counts when. The first switch is at 00:00."""

    name: Label
    switches: Annotated[tuple[Switch, ...], Field(max_length=1440)]


class Week(Shape):
    """Which day each day of the week is."""

    name: Label
    monday: Label
    tuesday: Label
    wednesday: Label
    thursday: Label
    friday: Label
    saturday: Label
    sunday: Label

    @property
    def days(self) -> tuple[str, ...]:
        """Monday first."""
        return tuple(getattr(self, name) for name in WEEKDAYS)


class Season(Shape):
    """From this day of each year on (MM-DD) this week counts, until another season begins."""

    name: Label
    model_config = _BY_ALIAS

    from_: Text = Field(alias="from")
    week: Label


class SpecialDay(Shape):
    """On this date (MM-DD: each year; YYYY-MM-DD: once) this day counts, whatever the week says.

    ``weekday`` may say on which day of the week its author believes it to be: it is checked.
    """

    date: Text
    day: Label
    weekday: Label | None = None
    name: Annotated[str, Field(max_length=64)] | None = None


class TariffDocument(Shape):
    """A time-of-use program.

    ``periods``: name of a period -> number of its tariff, 1 to 63. ``activation``: ``at once``, or a time;
    without an offset from UTC it is meant in ``zone``.
    """

    name: Label
    zone: Text
    activation: Text = AT_ONCE
    periods: Annotated[
        dict[Label, Annotated[int, Field(ge=1, le=63, strict=True)]], Field(min_length=1, max_length=63)
    ]
    days: Annotated[tuple[Day, ...], Field(min_length=1, max_length=255)]
    weeks: Annotated[tuple[Week, ...], Field(min_length=1, max_length=255)]
    seasons: Annotated[tuple[Season, ...], Field(min_length=1, max_length=255)]
    special_days: Annotated[tuple[SpecialDay, ...], Field(max_length=1000)] = ()

    @cached_property
    def tz(self) -> ZoneInfo:
        """The zone that its local times are of."""
        return ZoneInfo(self.zone)

    @property
    def activates_at(self) -> dt.datetime | None:
        """Aware; None: at once."""
        if self.activation == AT_ONCE:
            return None
        moment = dt.datetime.fromisoformat(self.activation)
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=self.tz)

    def day(self, name: str) -> Day:
        """The day of this name. Raises KeyError."""
        return _named(self.days, name)

    def week(self, name: str) -> Week:
        """The week of this name. Raises KeyError."""
        return _named(self.weeks, name)


_N = TypeVar("_N", Day, Week)


def minute_of(text: str) -> int | None:
    """Minute of the day of a text HH:MM; None for what is none (25:00)."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    hour, minute = int(found[1]), int(found[2])
    return 60 * hour + minute if hour < 24 and minute < 60 else None


def month_day(text: str) -> tuple[int, int] | None:
    """Month and day of a text MM-DD; None for what is none in any year."""
    found = _YEARLY.fullmatch(text)
    if found is None:
        return None
    month, day = int(found[1]), int(found[2])
    try:
        dt.date(LEAP, month, day)
    except ValueError:
        return None
    return month, day


def date_of(text: str) -> tuple[int | None, int, int] | None:
    """Year (None: each), month and day of a special day's date; None for what is none."""
    yearly = month_day(text)
    if yearly is not None:
        return None, *yearly
    if len(text) != len("2027-01-01"):
        return None
    try:
        date = dt.date.fromisoformat(text)
    except ValueError:
        return None
    return date.year, date.month, date.day


def _named(items: tuple[_N, ...], name: str) -> _N:
    for one in items:
        if one.name == name:
            return one
    raise KeyError(name)
