"""Tariff programs in messages of our own schema (`schemas.tariff_message`): tables to calendars and back."""

from typing import TypeVar

from protocols.errors import RemoteProtocolError
from protocols.mqtt import messages
from schemas.tariff.calendar import (
    Calendar,
    CalendarDay,
    CalendarSeason,
    CalendarSpecial,
    CalendarSwitch,
    CalendarWeek,
    Compiled,
    ordered_specials,
)
from schemas.tariff.document import date_of, minute_of, month_day
from schemas.tariff_message import (
    MESSAGE,
    ProgramDay,
    ProgramSeason,
    ProgramSpecialDay,
    ProgramSwitch,
    ProgramWeek,
    TariffMessage,
    TariffTables,
)

T = TypeVar("T")


def decode(payload: bytes) -> TariffMessage:
    """A request or an answer. Raises RemoteProtocolError as `protocols.mqtt.messages.decode`."""
    return messages.decode(MESSAGE, payload)


def tables_of(wanted: Compiled) -> TariffTables:
    """The tables that are sent. Raises ValueError where the form has no room for them (a season of one year
    alone, a switch to a script of another table)."""
    calendar = wanted.calendar
    if any(one.year is not None for one in calendar.seasons):
        raise ValueError("a season of one year alone")
    if any(switch.table for day in calendar.days for switch in day.switches):
        raise ValueError("a switch to a script of another table")
    return TariffTables(
        name=calendar.name,
        seasons=tuple(
            ProgramSeason(name=one.name, start=f"{one.month:02d}-{one.day:02d}", week=one.week)
            for one in calendar.seasons
        ),
        weeks=tuple(ProgramWeek(name=one.name, days=one.days) for one in calendar.weeks),
        days=tuple(
            ProgramDay(number=one.number, switches=tuple(map(_switch, one.switches))) for one in calendar.days
        ),
        special_days=tuple(
            ProgramSpecialDay(date=_date(one), day=one.number) for one in ordered_specials(wanted.specials)
        ),
    )


def compiled_of(tables: TariffTables) -> Compiled:
    """The reverse, its tables in order. Raises RemoteProtocolError for a date that is none (02-30)."""
    calendar = Calendar(
        tables.name,
        tuple(
            CalendarSeason(one.name, *_found(month_day(one.start), one.start), one.week)
            for one in tables.seasons
        ),
        tuple(CalendarWeek(one.name, one.days) for one in tables.weeks),
        tuple(
            CalendarDay(
                one.number,
                tuple(
                    CalendarSwitch(_found(minute_of(switch.start), switch.start), switch.tariff)
                    for switch in one.switches
                ),
            )
            for one in tables.days
        ),
    )
    specials = [CalendarSpecial(*_found(date_of(one.date), one.date), one.day) for one in tables.special_days]
    return Compiled(calendar.ordered(), ordered_specials(specials))


def _found(value: T | None, text: str) -> T:
    if value is None:
        raise RemoteProtocolError(f"{text!r} is no date and no time of day")
    return value


def _switch(one: CalendarSwitch) -> ProgramSwitch:
    return ProgramSwitch(start=f"{one.minute // 60:02d}:{one.minute % 60:02d}", tariff=one.selector)


def _date(one: CalendarSpecial) -> str:
    year = "" if one.year is None else f"{one.year:04d}-"
    return f"{year}{one.month:02d}-{one.day:02d}"
