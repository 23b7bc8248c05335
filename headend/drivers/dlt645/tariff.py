"""Tariff programs of DL/T 645 meters: the set of tables that waits is the passive calendar.

These meters know no names and no weeks: each season is one kind of day, and a calendar is the same where its
time zones and day tables are. Of public holidays (04-03-00-01 and on) nothing is written: they have no second
set, and how a date of each year is told is not known here.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from headend.drivers.commands.tariff import TariffPart
from protocols.dlms.cosem_time import local_to_utc
from protocols.dlt645 import conversation as dlt
from protocols.dlt645 import tariff as tables
from protocols.dlt645.control import AbnormalAnswer, ErrorWord
from protocols.dlt645.identifiers import DataId
from protocols.errors import LocalProtocolError
from schemas.line_model import Dlt645Tariff, LineModel
from schemas.tariff.calendar import (
    Calendar,
    CalendarDay,
    CalendarSeason,
    CalendarSwitch,
    CalendarWeek,
    Compiled,
    MeterTariff,
)

_WEEK: Final = 7
#: "At once" is so much later at least: the meter looks at its clock each minute.
_SOON: Final = timedelta(minutes=1)


class Dlt645Tariffs:
    """The `headend.drivers.commands.tariff.TariffConversation` of DL/T 645."""

    _model: LineModel
    _address: str
    _now: Callable[[], datetime]

    async def read_tariff(self) -> MeterTariff:
        """Both sets and the switching time."""
        zones, days = tables.decode_status(await self._ask_tariff(tables.STATUS))
        times = [
            tables.decode_time(await self._ask_tariff(di)) for di in (tables.SWITCH_ZONES, tables.SWITCH_DAYS)
        ]
        at = None if times[0] is None or times[0] != times[1] else local_to_utc(times[0], self._tariff_zone)
        active = await self._set(zones, days)
        return MeterTariff(active, await self._set(3 - zones, 3 - days), (), at)

    def tariff_as_stored(self, wanted: Compiled) -> Compiled:
        """Without names; days that no season uses are not there."""
        days = {one.number: one for one in wanted.calendar.days}
        weeks = {one.name: one.days[0] for one in wanted.calendar.weeks}
        zones = [tables.Zone(one.month, one.day, weeks[one.week]) for one in wanted.calendar.seasons]
        used = {one.table: days[one.table] for one in zones}
        return Compiled(_calendar(zones, list(used.values())), ())

    async def tariff_misfits(self, wanted: Calendar, tariffs: Mapping[int, int]) -> list[str]:
        """Nothing: numbers of tariffs are what they are."""
        return []

    async def write_tariff(self, parts: Sequence[TariffPart], wanted: Compiled) -> None:
        """Day tables and time zones of the set that waits, with the model's password."""
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

    async def _set(self, zones: int, days: int) -> Calendar:
        rows = tables.decode_zones(await self._ask_tariff(tables.zones_id(zones)))
        found = []
        for number in sorted({one.table for one in rows}):
            periods = tables.decode_table(await self._ask_tariff(tables.table_id(days, number)))
            switches = tuple(CalendarSwitch(one.minute, one.tariff) for one in periods)
            found.append(CalendarDay(number, switches))
        return _calendar(rows, found)

    async def _ask_tariff(self, di: DataId) -> bytes:
        """Its value; nothing where the meter has not that table."""
        try:
            return await self._exchange(dlt.read(self._address, di))
        except AbnormalAnswer as refused:
            if (
                refused.word is None
                or ErrorWord.NO_SUCH_DATA not in refused.word
                or di.di2 not in tables.SETS
            ):
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
