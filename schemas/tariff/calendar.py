"""Tariff calendars as meters keep them, in no language: tables of seasons, weeks, days and special days.

A document is compiled to one; what a meter is read to have is one too, and then the two are compared element
by element. Two calendars are the same in meaning where they count the same on every day, whatever numbers
their days have.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final, NamedTuple, Self

from pydantic import TypeAdapter

from schemas.model.tariff import TariffLimits
from schemas.tariff.document import WEEKDAYS, TariffDocument, date_of, month_day
from schemas.tariff.rest_days import RestDays


class CalendarSeason(NamedTuple):
    """Begins on this day of each year; ``year`` None: each, as our own are."""

    name: str
    month: int
    day: int
    week: str
    year: int | None = None


class CalendarWeek(NamedTuple):
    """``days``: numbers of seven days, Monday first."""

    name: str
    days: tuple[int, ...]


class CalendarSwitch(NamedTuple):
    """From this minute of the day on, this script's tariff counts. ``table`` is named where the script is of
    another table than the model's."""

    minute: int
    selector: int
    table: str = ""


class CalendarDay(NamedTuple):
    """A kind of day, by its number in the meter."""

    number: int
    switches: tuple[CalendarSwitch, ...]


class CalendarSpecial(NamedTuple):
    """On this date (``year`` None: each year) this day counts."""

    year: int | None
    month: int
    day: int
    number: int

    def happens(self, since: date, until: date) -> bool:
        """Whether it falls into [since, until)."""
        years = range(since.year, until.year + 1) if self.year is None else (self.year,)
        for year in years:
            try:
                if since <= date(year, self.month, self.day) < until:
                    return True
            except ValueError:  # the 29th of February in other years
                continue
        return False


class Calendar(NamedTuple):
    """All tables but that of special days, which active and passive calendar may have in common."""

    name: str
    seasons: tuple[CalendarSeason, ...]
    weeks: tuple[CalendarWeek, ...]
    days: tuple[CalendarDay, ...]

    @property
    def numbers(self) -> frozenset[int]:
        """Numbers of its days."""
        return frozenset(one.number for one in self.days)

    def as_json(self) -> dict[str, Any]:
        """Plain values, short: for proofs and for the wire of those who speak JSON."""
        plain: dict[str, Any] = _CALENDAR.dump_python(self, mode="json")
        return plain

    @classmethod
    def of_json(cls, plain: object) -> Self:
        """The reverse. Raises ValueError."""
        return _CALENDAR.validate_python(plain, strict=False)  # type: ignore[return-value]

    def ordered(self) -> "Calendar":
        """The same with its tables in order: seasons by date, weeks by name, days by number, switches by
        time. Meters keep them in an order of their own."""
        return Calendar(
            self.name,
            tuple(sorted(self.seasons, key=lambda one: (one.month, one.day, one.name))),
            tuple(sorted(self.weeks)),
            tuple(
                CalendarDay(one.number, tuple(sorted(one.switches)))
                for one in sorted(self.days, key=lambda one: one.number)
            ),
        )


class MeterTariff(NamedTuple):
    """What a meter has: ``passive`` None where it has none, ``activates_at`` (aware UTC) where it will be
    activated by itself. ``specials`` are of both calendars, or, where there are ``passive_specials``, of the
    active one alone."""

    active: Calendar
    passive: Calendar | None
    specials: tuple[CalendarSpecial, ...]
    activates_at: datetime | None = None
    passive_specials: tuple[CalendarSpecial, ...] | None = None
    rest: RestDays | None = None

    @property
    def stored(self) -> "Compiled":
        """What counts."""
        return Compiled(self.active, self.specials, self.rest)


class Compiled(NamedTuple):
    """A document as tables: the calendar, its special days, and rest days of meters that know no weeks."""

    calendar: Calendar
    specials: tuple[CalendarSpecial, ...]
    rest: RestDays | None = None

    @property
    def numbers(self) -> frozenset[int]:
        """Numbers of the days that are there, or used."""
        rest = frozenset() if self.rest is None else frozenset({self.rest.number})
        return self.calendar.numbers | {one.number for one in self.specials} | rest

    def as_json(self) -> dict[str, Any]:
        """Plain values, for proofs and histories; rest days only where there are any."""
        plain = {
            "calendar": self.calendar.as_json(),
            "special_days": SPECIALS.dump_python(self.specials, mode="json"),
        }
        return (
            plain if self.rest is None else {**plain, "rest_days": _REST.dump_python(self.rest, mode="json")}
        )


_CALENDAR: Final = TypeAdapter(Calendar)
_REST: Final = TypeAdapter(RestDays)
SPECIALS: Final[TypeAdapter[tuple[CalendarSpecial, ...]]] = TypeAdapter(tuple[CalendarSpecial, ...])


def day_numbers(document: TariffDocument, limits: TariffLimits, taken: frozenset[int]) -> dict[str, int]:
    """A number for each day, none of those ``taken`` where there are enough; else from the first on."""
    first, last = limits.day_ids
    names = [one.name for one in document.days]
    free = [number for number in range(first, last + 1) if number not in taken]
    if len(free) < len(names):
        free = list(range(first, last + 1))
    return dict(zip(names, free, strict=False))


def compiled(document: TariffDocument, limits: TariffLimits, numbers: Mapping[str, int]) -> Compiled:
    """The tables of a document that was checked for ``limits``; ``numbers`` of its days by name."""
    days = []
    for one in document.days:
        switches = []
        for switch in one.switches:
            selector = limits.selector(document.periods[switch.period])
            if selector is None:
                raise ValueError(f"tariff {document.periods[switch.period]} has no script in the model")
            switches.append(CalendarSwitch(switch.minute, selector))
        days.append(CalendarDay(numbers[one.name], tuple(switches)))
    seasons = []
    for season in document.seasons:
        start = month_day(season.from_)
        if start is None:
            raise ValueError(f"{season.from_!r} is no day of a year")
        seasons.append(CalendarSeason(season.name, *start, season.week))
    specials = []
    for special in document.special_days:
        when = date_of(special.date)
        if when is None:
            raise ValueError(f"{special.date!r} is no date")
        specials.append(CalendarSpecial(*when, numbers[special.day]))
    weeks = tuple(CalendarWeek(one.name, tuple(numbers[day] for day in one.days)) for one in document.weeks)
    return Compiled(
        Calendar(document.name, tuple(seasons), weeks, tuple(days)).ordered(), ordered_specials(specials)
    )


def ordered_specials(specials: Sequence[CalendarSpecial]) -> tuple[CalendarSpecial, ...]:
    """By date, those of each year first."""
    return tuple(sorted(specials, key=lambda one: (one.year or 0, one.month, one.day, one.number)))


def meaning(calendar: Calendar, specials: Sequence[CalendarSpecial], rest: RestDays | None = None) -> object:
    """What counts when, without names and numbers: equal for calendars that count the same."""
    days = {one.number: tuple(sorted(one.switches)) for one in calendar.days}
    rests = {} if rest is None else dict.fromkeys(rest.weekdays, rest.number)
    weeks = {
        one.name: tuple(days.get(rests.get(weekday, number)) for weekday, number in enumerate(one.days))
        for one in calendar.weeks
    }
    seasons = sorted(
        ((one.year or 0, one.month, one.day), weeks.get(one.week) or ()) for one in calendar.seasons
    )
    special = {(one.year or 0, one.month, one.day): days.get(one.number) for one in specials}
    return seasons, special


def differences(wanted: Calendar, found: Calendar) -> list[str]:
    """Which elements differ, for people: what was meant, and what the meter has."""
    out = []
    if wanted.name != found.name:
        out.append(f"name is {found.name!r}, not {wanted.name!r}")
    out += _table(
        "season", {one.name: one for one in wanted.seasons}, {one.name: one for one in found.seasons}
    )
    out += _table(
        "week", {one.name: one.days for one in wanted.weeks}, {one.name: one.days for one in found.weeks}
    )
    meant, has = ({one.number: one.switches for one in which.days} for which in (wanted, found))
    for number in sorted(meant.keys() | has.keys()):
        if number not in has or number not in meant:
            out.append(f"day {number} is {'missing' if number in meant else 'not ours'}")
        elif sorted(meant[number]) != sorted(has[number]):
            out += _switches(number, sorted(meant[number]), sorted(has[number]))
    return out


def special_differences(wanted: Sequence[CalendarSpecial], found: Sequence[CalendarSpecial]) -> list[str]:
    """The same of special days."""
    meant, has = ({one[:3]: one.number for one in which} for which in (wanted, found))
    return _table(
        "special day",
        {_date(*key): n for key, n in meant.items()},
        {_date(*key): n for key, n in has.items()},
    )


def rest_differences(wanted: RestDays | None, found: RestDays | None) -> list[str]:
    """The same of rest days."""
    return [] if wanted == found else [f"rest days are {_rest(found)}, not {_rest(wanted)}"]


def _rest(rest: RestDays | None) -> str:
    if rest is None:
        return "none"
    return f"{' '.join(WEEKDAYS[n] for n in rest.weekdays)} with day {rest.number}"


def _date(year: int | None, month: int, day: int) -> str:
    return f"{'each year' if year is None else year}-{month:02d}-{day:02d}"


def _table(what: str, meant: Mapping[str, object], has: Mapping[str, object]) -> list[str]:
    out = []
    for name in sorted(meant.keys() | has.keys()):
        if name not in has:
            out.append(f"{what} {name} is missing")
        elif name not in meant:
            out.append(f"{what} {name} is not ours")
        elif meant[name] != has[name]:
            out.append(f"{what} {name} is {_plain(has[name])}, not {_plain(meant[name])}")
    return out


def _plain(value: object) -> str:
    if isinstance(value, CalendarSeason):
        return f"from {_date(value.year, value.month, value.day)} week {value.week}"
    return f"days {' '.join(map(str, value))}" if isinstance(value, tuple) else f"day {value}"


def _switches(number: int, meant: Sequence[CalendarSwitch], has: Sequence[CalendarSwitch]) -> list[str]:
    missing = [one for one in meant if one not in has]
    strange = [one for one in has if one not in meant]
    told = [f"has {_switch(one)}" for one in strange] + [f"has not {_switch(one)}" for one in missing]
    return [f"day {number} {one}" for one in told]


def _switch(one: CalendarSwitch) -> str:
    table = f" of {one.table}" if one.table else ""
    return f"{one.minute // 60:02d}:{one.minute % 60:02d} -> script {one.selector}{table}"
