"""Tariff programs of DL/T 645 meters: the set of tables that waits is the passive calendar.

These meters know no names and no weeks: each season is one kind of day, but for rest days, which are the same
in all seasons; a calendar is the same where its time zones and day tables are. Special days are public
holidays, with their year. Both have no second set, as special days of COSEM have none.
"""

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from headend.drivers.commands.tariff import TariffPart
from protocols.dlms.cosem_time import local_to_utc
from protocols.dlt645 import conversation as dlt
from protocols.dlt645 import special_days
from protocols.dlt645 import tariff as tables
from protocols.dlt645.control import AbnormalAnswer, ErrorWord
from protocols.dlt645.identifiers import DataId
from protocols.errors import LocalProtocolError
from schemas.line_model import Dlt645Tariff, LineModel
from schemas.tariff.calendar import (
    Calendar,
    CalendarDay,
    CalendarSeason,
    CalendarSpecial,
    CalendarSwitch,
    CalendarWeek,
    Compiled,
    MeterTariff,
    ordered_specials,
)
from schemas.tariff.rest_days import RestDays, split

_WEEK: Final = 7
_MAY_LACK: Final = (special_days.COUNT, special_days.REST_WORD)
#: "At once" is so much later at least: the meter looks at its clock each minute.
_SOON: Final = timedelta(minutes=1)


class Dlt645Tariffs:
    """The `headend.drivers.commands.tariff.TariffConversation` of DL/T 645."""

    _model: LineModel
    _address: str
    _now: Callable[[], datetime]

    async def read_tariff(self, days: Collection[int] | None = None) -> MeterTariff:
        """Both sets, the switching time, public holidays and rest days."""
        zones, day_set = tables.decode_status(await self._ask_tariff(tables.STATUS))
        times = [
            tables.decode_time(await self._ask_tariff(di)) for di in (tables.SWITCH_ZONES, tables.SWITCH_DAYS)
        ]
        at = None if times[0] is None or times[0] != times[1] else local_to_utc(times[0], self._tariff_zone)
        specials, rest = await self._holidays(), await self._rest_days()
        used = {one.number for one in specials} | (set() if rest is None else {rest.number})
        beside = used if days is None else set(days)
        active = await self._set(zones, day_set, beside)
        passive = await self._set(3 - zones, 3 - day_set, beside)
        return MeterTariff(active, passive, specials, at, rest=rest)

    def tariff_as_stored(self, wanted: Compiled) -> Compiled:
        """Without names; rest days in place of weeks; days that nothing uses are not there."""
        seasons, weeks = wanted.calendar.seasons, {one.name: one.days for one in wanted.calendar.weeks}
        found = split([weeks[one.week] for one in seasons])
        if found is None:
            raise LocalProtocolError(f"the weeks of {wanted.calendar.name} are more than rest days")
        rest = None if found.rest is None else RestDays(found.weekdays, found.rest)
        zones = [tables.Zone(one.month, one.day, own) for one, own in zip(seasons, found.own, strict=True)]
        used = {one.table for one in zones} | {one.number for one in wanted.specials}
        used |= set() if rest is None else {rest.number}
        days = [one for one in wanted.calendar.days if one.number in used]
        return Compiled(_calendar(zones, days), wanted.specials, rest)

    async def tariff_misfits(self, wanted: Compiled, tariffs: Mapping[int, int]) -> list[str]:
        """Public holidays or rest days where the meter has none. Numbers of tariffs are what they are."""
        asked = [
            (bool(wanted.specials), special_days.COUNT, "public holidays"),
            (wanted.rest is not None, special_days.REST_WORD, "rest days"),
        ]
        return [
            f"the meter has no {what} ({di})"
            for is_wanted, di, what in asked
            if is_wanted and not await self._ask_tariff(di)
        ]

    async def write_tariff(self, parts: Sequence[TariffPart], wanted: Compiled) -> None:
        """Day tables and time zones of the set that waits; public holidays and rest days, which count at
        once. With the model's password."""
        zones, days = tables.decode_status(await self._ask_tariff(tables.STATUS))
        calendar = wanted.calendar
        if TariffPart.DAYS in parts:
            for one in calendar.days:
                periods = [tables.Period(switch.minute, switch.selector) for switch in one.switches]
                await self._write_tariff(tables.table_id(3 - days, one.number), tables.encode_table(periods))
        if TariffPart.SEASONS in parts:
            weeks = {one.name: one.days[0] for one in calendar.weeks}
            rows = [tables.Zone(one.month, one.day, weeks[one.week]) for one in calendar.seasons]
            await self._write_tariff(tables.zones_id(3 - zones), tables.encode_zones(rows))
        if TariffPart.SPECIAL_DAYS in parts:
            await self._write_holidays(wanted.specials)
        if TariffPart.REST_DAYS in parts:
            await self._write_rest_days(wanted.rest)

    async def _write_holidays(self, specials: Sequence[CalendarSpecial]) -> None:
        """Each, and then how many count."""
        for n, one in enumerate(specials, 1):
            if one.year is None:
                raise LocalProtocolError(f"{one.month:02d}-{one.day:02d} of each year is no public holiday")
            holiday = special_days.Holiday(one.year, one.month, one.day, one.number)
            await self._write_tariff(special_days.holiday_id(n), special_days.encode_holiday(holiday))
        await self._write_tariff(special_days.COUNT, special_days.encode_count(len(specials)))

    async def _write_rest_days(self, rest: RestDays | None) -> None:
        """The table first: the word makes it count."""
        if rest is not None:
            number = special_days.encode_table_number(rest.number)
            await self._write_tariff(special_days.REST_TABLE, number)
        weekdays = () if rest is None else rest.weekdays
        await self._write_tariff(special_days.REST_WORD, special_days.encode_rest_days(weekdays))

    async def disarm_tariff(self) -> None:
        """Switching times that never come."""
        for di in (tables.SWITCH_ZONES, tables.SWITCH_DAYS):
            await self._write_tariff(di, tables.NEVER)

    async def activate_tariff(self, at: datetime | None) -> datetime | None:
        """Both switching times; at once is the minute behind the next."""
        soon = (self._now() + 2 * _SOON).replace(second=0, microsecond=0)
        when = soon if at is None else at
        value = tables.encode_time(when.astimezone(self._tariff_zone).replace(tzinfo=None))
        for di in (tables.SWITCH_ZONES, tables.SWITCH_DAYS):
            await self._write_tariff(di, value)
        return when

    async def _set(self, zones: int, days: int, beside: Collection[int]) -> Calendar:
        """With the day tables that its time zones use, and those ``beside`` that are there."""
        rows = tables.decode_zones(await self._ask_tariff(tables.zones_id(zones)))
        used, found = {one.table for one in rows}, []
        for number in sorted(used.union(beside)):
            periods = tables.decode_table(await self._ask_tariff(tables.table_id(days, number)))
            if periods or number in used:
                switches = tuple(CalendarSwitch(one.minute, one.tariff) for one in periods)
                found.append(CalendarDay(number, switches))
        return _calendar(rows, found)

    async def _holidays(self) -> tuple[CalendarSpecial, ...]:
        """None where the meter knows no such thing."""
        count = await self._ask_tariff(special_days.COUNT)
        found = []
        for n in range(1, 1 + (special_days.decode_count(count) if count else 0)):
            row = await self._ask_tariff(special_days.holiday_id(n))
            one = special_days.decode_holiday(row) if row else None
            if one is not None:
                found.append(CalendarSpecial(one.year, one.month, one.day, one.table))
        return ordered_specials(found)

    async def _rest_days(self) -> RestDays | None:
        word = await self._ask_tariff(special_days.REST_WORD)
        weekdays = special_days.decode_rest_days(word) if word else ()
        if not weekdays:
            return None
        number = special_days.decode_table_number(await self._ask_tariff(special_days.REST_TABLE))
        return RestDays(weekdays, number)

    async def _ask_tariff(self, di: DataId) -> bytes:
        """Its value; nothing where the meter has not that table, or no such thing."""
        try:
            return await self._exchange(dlt.read(self._address, di))
        except AbnormalAnswer as refused:
            may_lack = di.di2 != 0 or di in _MAY_LACK
            if refused.word is None or ErrorWord.NO_SUCH_DATA not in refused.word or not may_lack:
                raise
            return b""

    async def _write_tariff(self, di: DataId, value: bytes) -> None:
        said = self._said
        password, operator = bytes.fromhex(said.password.get_secret_value()), bytes.fromhex(said.operator)
        await self._exchange(dlt.write(self._address, di, value, password=password, operator=operator))

    @property
    def _said(self) -> Dlt645Tariff:
        if self._model.tariff is None:
            raise LocalProtocolError(f"model {self._model.name} says nothing of tariffs: it needs [tariff]")
        return self._model.tariff

    @property
    def _tariff_zone(self) -> ZoneInfo:
        if self._model.tz is None:
            raise LocalProtocolError(f"model {self._model.name} has no zone for its clock")
        return self._model.tz

    @abstractmethod
    async def _exchange(self, request: dlt.Request) -> bytes:
        """One request and its answer."""


def _calendar(zones: Sequence[tables.Zone], days: list[CalendarDay]) -> Calendar:
    """Seasons and weeks have the names of what they are."""
    rows = sorted(zones)
    numbers = sorted({one.table for one in rows})
    return Calendar(
        "",
        tuple(
            CalendarSeason(str(n), one.month, one.day, f"day {one.table}") for n, one in enumerate(rows, 1)
        ),
        tuple(CalendarWeek(f"day {number}", (number,) * _WEEK) for number in numbers),
        tuple(days),
    ).ordered()
