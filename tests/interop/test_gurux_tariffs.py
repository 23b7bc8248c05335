"""Tariff calendars against Gurux: its client writes our simulated meter's, we read those of a meter of its.

No recorded trace of a meter with these classes was at hand.
"""

import datetime as dt

import pytest
from gurux_dlms import GXDate, GXDateTime, GXTime
from gurux_dlms.enums import DataType
from gurux_dlms.enums.DateTimeSkips import DateTimeSkips
from gurux_dlms.objects import (
    GXDLMSActivityCalendar,
    GXDLMSDayProfile,
    GXDLMSDayProfileAction,
    GXDLMSRegisterActivation,
    GXDLMSScriptTable,
    GXDLMSSeasonProfile,
    GXDLMSSpecialDay,
    GXDLMSSpecialDaysTable,
    GXDLMSWeekProfile,
)

from concentrator_sim.calendar import DEFAULT_RULES, TariffBook
from concentrator_sim.meter import SimulatedMeter
from headend.drivers.dlms.commands import DlmsCommands
from schemas.model.tariff import Tariff
from schemas.tariff.calendar import CalendarDay, CalendarSeason, CalendarSpecial, CalendarSwitch, CalendarWeek
from tests.interop.gurux_client import talking
from tests.interop.gurux_server import GuruxMeter, serving
from tests.interop.test_gurux_client import client_for, run
from tests.interop.test_gurux_server import model, plan_for, session_of

pytestmark = pytest.mark.interop

CALENDAR, SPECIALS = "0.0.13.0.0.255", "0.0.11.0.0.255"
SCRIPTS, REGISTERS = "0.0.10.0.100.255", "0.0.14.0.1.255"


def _season(name: str, month: int, day: int, week: str) -> GXDLMSSeasonProfile:
    season = GXDLMSSeasonProfile()
    start = GXDateTime(dt.datetime(2026, month, day))  # noqa: DTZ001 - of each year
    start.skip = (
        DateTimeSkips.YEAR | DateTimeSkips.DAY_OF_WEEK | DateTimeSkips.DEVITATION | DateTimeSkips.STATUS
    )
    season.name, season.start, season.weekName = name.encode(), start, week.encode()
    return season


def _week(name: str, number: int, sunday: int) -> GXDLMSWeekProfile:
    week = GXDLMSWeekProfile()
    week.name = name.encode()
    week.monday = week.tuesday = week.wednesday = week.thursday = week.friday = week.saturday = number
    week.sunday = sunday
    return week


def _day(number: int, *switches: tuple[int, int, int]) -> GXDLMSDayProfile:
    day = GXDLMSDayProfile()
    day.dayId, day.daySchedules = number, []
    for hour, minute, selector in switches:
        action = GXDLMSDayProfileAction()
        action.startTime = GXTime(dt.datetime(2026, 1, 1, hour, minute))  # noqa: DTZ001 - of each day
        action.scriptLogicalName, action.scriptSelector = SCRIPTS, selector
        day.daySchedules.append(action)
    return day


def _special(place: int, date: dt.date, number: int) -> GXDLMSSpecialDay:
    special = GXDLMSSpecialDay()
    special.index, special.dayId = place, number
    special.date = GXDate(dt.datetime(date.year, date.month, date.day))  # noqa: DTZ001 - a date
    return special


DAYS = [_day(5, (0, 0, 2), (6, 30, 1), (22, 0, 2)), _day(6, (0, 0, 2))]
SEASONS = [_season("WI", 10, 1, "A"), _season("SU", 4, 1, "A")]


@pytest.mark.parametrize("mode", ["none", "hls5"])
def test_a_gurux_client_writes_and_activates_our_calendar(mode: str) -> None:
    def work(meter: SimulatedMeter, port: int) -> None:
        client = client_for(meter)
        calendar = GXDLMSActivityCalendar(CALENDAR)
        specials = GXDLMSSpecialDaysTable(SPECIALS)
        with talking(client, port) as connection:
            for index in range(2, 6):
                connection.read(calendar, index)
            assert calendar.dayProfileTableActive[0].dayId == DEFAULT_RULES.days[0].day_id
            assert [one.scriptSelector for one in calendar.dayProfileTableActive[0].daySchedules] == [2, 1, 2]
            calendar.calendarNamePassive = "GURUX"
            calendar.seasonProfilePassive = SEASONS
            calendar.weekProfileTablePassive = [_week("A", 5, 6)]
            calendar.dayProfileTablePassive = DAYS
            for index in (9, 8, 7, 6):
                connection.exchange(client.write(calendar, index))
            specials.entries = [_special(1, dt.date(2026, 12, 25), 6)]
            connection.exchange(client.write(specials, 2))
            connection.exchange(client.method(calendar, 1, 0, DataType.INT8))
            connection.read(calendar, 2)
            scripts = GXDLMSScriptTable(SCRIPTS)
            assert [one.id for one in connection.read(scripts, 2)] == [1, 2, 3, 4]
            masks = GXDLMSRegisterActivation(REGISTERS)
            connection.read(masks, 2)
            connection.read(masks, 3)
            assert len(masks.registerAssignment) == len(masks.maskList) == 4
        book = meter.part(TariffBook)
        assert b"GURUX" in book.active[0]

        # 2026-12-28, a Monday, and Christmas: minutes of the meter's local time
        def script(day: int, hour: int, minute: int) -> int:
            at = dt.datetime(2026, 12, day, hour, minute, tzinfo=dt.timezone(dt.timedelta(hours=1)))
            return book.script(int(at.timestamp()))

        assert [script(28, 6, 29), script(28, 6, 30), script(25, 12, 0), script(27, 12, 0)] == [2, 1, 2, 2]

    run(work, security=mode)


async def test_we_read_the_calendars_of_a_gurux_meter() -> None:
    meter = GuruxMeter(lists=False)
    calendar, specials = GXDLMSActivityCalendar(CALENDAR), GXDLMSSpecialDaysTable(SPECIALS)
    calendar.calendarNameActive, calendar.calendarNamePassive = "OLD", "NEW"
    calendar.seasonProfileActive = calendar.seasonProfilePassive = SEASONS
    calendar.weekProfileTableActive = calendar.weekProfileTablePassive = [_week("A", 5, 6)]
    calendar.dayProfileTableActive, calendar.dayProfileTablePassive = DAYS, DAYS[:1]
    calendar.time = GXDateTime(dt.datetime(2027, 1, 1, tzinfo=dt.UTC))
    specials.entries = [_special(1, dt.date(2026, 12, 25), 6)]
    for item in (calendar, specials):
        meter.items.append(item)
    known = model().model_copy(update={"tariff": Tariff()})
    with serving(meter) as port:
        async with session_of(plan_for(f"tcp://127.0.0.1:{port}", known)) as session:
            has = await DlmsCommands(session, known).read_tariff()
    assert meter.faults == []
    assert has.active.name == "OLD"
    assert has.active.seasons == (CalendarSeason("SU", 4, 1, "A"), CalendarSeason("WI", 10, 1, "A"))
    assert has.active.weeks == (CalendarWeek("A", (5, 5, 5, 5, 5, 5, 6)),)
    assert has.active.days == (
        CalendarDay(5, (CalendarSwitch(0, 2), CalendarSwitch(390, 1), CalendarSwitch(1320, 2))),
        CalendarDay(6, (CalendarSwitch(0, 2),)),
    )
    assert has.passive is not None
    assert (has.passive.name, len(has.passive.days)) == ("NEW", 1)
    assert has.specials == (CalendarSpecial(2026, 12, 25, 6),)
    assert has.activates_at == dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
