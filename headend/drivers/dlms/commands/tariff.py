"""Tariff programs of DLMS meters: Activity Calendar, Special Days Table, Script Table, Register Activation.

What a meter may write otherwise than we did, and is the same: the order of tables, of days by their id, of
switches by time; names padded with NUL or blanks; seconds and hundredths, or a season's time of day, open
instead of zero; a deviation or status in a season's start; a season's or special day's day of the week; the
indices of special days.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from headend.drivers.commands.tariff import TariffPart
from headend.drivers.dlms.bounds import stamp
from headend.drivers.dlms.commands.base import Commands
from protocols.dlms import axdr
from protocols.dlms.axdr import Data
from protocols.dlms.cosem import Attribute, ClassId, Method, date_time, script_table, special_days
from protocols.dlms.cosem import activity_calendar as calendars
from protocols.dlms.cosem import register_activation as activation
from protocols.dlms.cosem.activity_calendar import DayAction, DayProfile, SeasonProfile, WeekProfile
from protocols.dlms.cosem.special_days import SpecialDayEntry
from protocols.dlms.cosem_time import CosemDate, CosemDateTime, CosemTime
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.obis import Obis
from protocols.errors import DataAccessRefused, LocalProtocolError, RemoteProtocolError
from schemas.model import MeterModel
from schemas.model.tariff import Tariff
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

_OF_PART: Final = {
    TariffPart.NAME: calendars.CALENDAR_NAME,
    TariffPart.SEASONS: calendars.SEASONS,
    TariffPart.WEEKS: calendars.WEEKS,
    TariffPart.DAYS: calendars.DAYS,
}
#: Name, seasons, weeks and days.
_TABLES: Final = 4
_ENERGY: Final = 8


class TariffCommands(Commands):
    """The `headend.drivers.commands.tariff.TariffConversation` of DLMS."""

    async def read_tariff(self, days: Collection[int] | None = None) -> MeterTariff:
        """Both calendars, the special days and the time of activation."""
        model = self._tariff_model()
        indices = [*range(calendars.CALENDAR_NAME, calendars.ACTIVATION_TIME + 1)]
        asked = [self._calendar(model, index) for index in indices]
        asked.append(_attribute(ClassId.SPECIAL_DAYS_TABLE, model.specials, special_days.ENTRIES))
        told = await self._session.get_many(asked)
        found = [_data(one, raw) for one, raw in zip(asked, told, strict=True)]
        return MeterTariff(
            _read(found[:_TABLES], model),
            _read(found[_TABLES : 2 * _TABLES], model),
            _read_specials(found[-1]),
            _moment(found[2 * _TABLES], self._model),
        )

    def tariff_as_stored(self, wanted: Compiled) -> Compiled:
        """As it is: COSEM knows all of it."""
        return wanted

    async def tariff_misfits(self, wanted: Compiled, tariffs: Mapping[int, int]) -> list[str]:
        """Scripts that the meter has not, or that switch to masks in which the tariff's register is not."""
        model = self._tariff_model()
        if model.scripts is None:
            return []
        used = sorted({switch.selector for day in wanted.calendar.days for switch in day.switches})
        (raw,) = await self._get([_attribute(ClassId.SCRIPT_TABLE, model.scripts, script_table.SCRIPTS)])
        scripts = {one.identifier: one for one in script_table.scripts(raw)}
        out = [f"script table {model.scripts} has no script {one}" for one in used if one not in scripts]
        if model.registers is None:
            return out
        name = model.registers
        assigned, masks = await self._get(
            [
                _attribute(ClassId.REGISTER_ACTIVATION, name, index)
                for index in (activation.ASSIGNMENT, activation.MASKS)
            ]
        )
        registers = activation.assignment(assigned)
        by_mask = {
            mask.name: [registers[place - 1].obis for place in mask.places if 0 < place <= len(registers)]
            for mask in activation.masks(masks)
        }
        for selector in used:
            if selector in scripts:
                out += _counts(scripts[selector], Obis.parse(name), by_mask, tariffs.get(selector))
        return out

    async def write_tariff(self, parts: Sequence[TariffPart], wanted: Compiled) -> None:
        """An attribute each."""
        for part in parts:
            await self._write_table(part, wanted)

    async def _write_table(self, part: TariffPart, wanted: Compiled) -> None:
        model = self._tariff_model()
        if part is TariffPart.SPECIAL_DAYS:
            attribute = _attribute(ClassId.SPECIAL_DAYS_TABLE, model.specials, special_days.ENTRIES)
            value = special_days.entries(
                SpecialDayEntry(n, CosemDate(one.year, one.month, one.day), one.number)
                for n, one in enumerate(wanted.specials, 1)
            )
        else:
            attribute = self._calendar(model, _OF_PART[part] + calendars.TO_PASSIVE)
            value = _written(part, wanted.calendar, Obis.parse(model.scripts or _SCRIPTS))
        await self._session.set(attribute, axdr.encode(value))

    async def disarm_tariff(self) -> None:
        """Attribute activate_passive_calendar_time, all of it open."""
        value = axdr.octets(calendars.NEVER.to_bytes())
        model = self._tariff_model()
        await self._session.set(self._calendar(model, calendars.ACTIVATION_TIME), axdr.encode(value))

    async def activate_tariff(self, at: datetime | None) -> datetime | None:
        """Attribute activate_passive_calendar_time, or the method."""
        model = self._tariff_model()
        if at is None:
            method = Method(ClassId.ACTIVITY_CALENDAR, Obis.parse(model.calendar), calendars.ACTIVATE)
            await self._session.action(method, axdr.encode(axdr.i8(0)))
            return None
        value = axdr.octets(stamp(at, self._model).to_bytes())
        await self._session.set(self._calendar(model, calendars.ACTIVATION_TIME), axdr.encode(value))
        return at

    def _tariff_model(self) -> Tariff:
        found = self._model.tariff
        if found is None:
            raise LocalProtocolError(
                f"meter model {self._model.name} says nothing of tariffs: it needs a section [tariff]"
            )
        return found

    def _calendar(self, model: Tariff, index: int) -> Attribute:
        return _attribute(ClassId.ACTIVITY_CALENDAR, model.calendar, index)

    async def _get(self, asked: Sequence[Attribute]) -> list[Data]:
        told = await self._session.get_many(asked)
        return [_data(one, raw) for one, raw in zip(asked, told, strict=True)]


_SCRIPTS: Final = "0-0:10.0.100*255"


def _attribute(class_id: ClassId, obis: str, index: int) -> Attribute:
    return Attribute(class_id, Obis.parse(obis), index)


def _data(attribute: Attribute, told: bytes | DataAccessResult) -> Data:
    if isinstance(told, DataAccessResult):
        raise DataAccessRefused(f"{attribute}: {told.name.lower()}", result=int(told))
    return axdr.decode_exact(told)


def _written(part: TariffPart, calendar: Calendar, script: Obis) -> Data:
    match part:
        case TariffPart.NAME:
            return axdr.octets(calendar.name.encode("ascii"))
        case TariffPart.SEASONS:
            return calendars.table(
                SeasonProfile(
                    one.name.encode("ascii"),
                    CosemDateTime(CosemDate(one.year, one.month, one.day), CosemTime(0, 0, 0, 0)),
                    one.week.encode("ascii"),
                )
                for one in calendar.seasons
            )
        case TariffPart.WEEKS:
            return calendars.table(WeekProfile(one.name.encode("ascii"), one.days) for one in calendar.weeks)
        case _:
            return calendars.table(
                DayProfile(
                    one.number,
                    tuple(
                        DayAction(
                            CosemTime(switch.minute // 60, switch.minute % 60, 0, 0), script, switch.selector
                        )
                        for switch in one.switches
                    ),
                )
                for one in calendar.days
            )


def _time(minute: int) -> CosemTime:
    return CosemTime(minute // 60, minute % 60, 0, 0)


def _read(tables: Sequence[Data], model: Tariff) -> Calendar:
    name, seasons, weeks, days = tables
    ours = Obis.parse(model.scripts or _SCRIPTS)
    return Calendar(
        "" if name.type is axdr.DataType.NULL else _name(_octets(name)),
        tuple(map(_season, calendars.seasons(seasons))),
        tuple(CalendarWeek(_name(one.name), one.days) for one in calendars.weeks(weeks)),
        tuple(
            CalendarDay(one.day_id, tuple(_switch(action, ours) for action in one.actions))
            for one in calendars.days(days)
        ),
    ).ordered()


def _octets(data: Data) -> bytes:
    if data.type is not axdr.DataType.OCTET_STRING:
        raise RemoteProtocolError(f"calendar_name is {data.type.name}, not an octet-string")
    value: bytes = data.value
    return value


def _name(raw: bytes) -> str:
    """Without what it is padded with; octets that are no text print as hexadecimal digits."""
    octets = raw.rstrip(b"\0 ")
    return octets.decode("ascii") if all(0x20 <= one < 0x7F for one in octets) else octets.hex()


def _season(one: SeasonProfile) -> CalendarSeason:
    date = one.start.date
    if date.month is None or date.day is None or (one.start.time.hour or one.start.time.minute):
        raise RemoteProtocolError(
            f"season {_name(one.name)} begins at {one.start}: no midnight of a year's day"
        )
    return CalendarSeason(_name(one.name), date.month, date.day, _name(one.week), date.year)


def _switch(one: DayAction, ours: Obis) -> CalendarSwitch:
    start = one.start
    if start.hour is None or start.minute is None or start.second or start.hundredths:
        raise RemoteProtocolError(f"a switch at {start}: no whole minute")
    table = "" if one.script == ours else str(one.script)
    return CalendarSwitch(60 * start.hour + start.minute, one.selector, table)


def _read_specials(data: Data) -> tuple[CalendarSpecial, ...]:
    out = []
    for one in special_days.special_days(data):
        if one.date.month is None or one.date.day is None:
            raise RemoteProtocolError(f"special day {one.place} is on {one.date}: no date")
        out.append(CalendarSpecial(one.date.year, one.date.month, one.date.day, one.day_id))
    return ordered_specials(out)


def _moment(data: Data, model: MeterModel) -> datetime | None:
    """The time of activation; None where none is set."""
    told = date_time(data)
    if told is None or None in (told.date.year, told.date.month, told.date.day, told.time.hour):
        return None
    clock = model.clock
    return told.to_utc(
        zone=clock.zone, follows_dst=clock.follows_dst, inverted_deviation=clock.deviation == "inverted"
    )


def _counts(
    script: script_table.Script, name: Obis, by_mask: Mapping[bytes, list[Obis]], tariff: int | None
) -> list[str]:
    """Why the script does not have the tariff's energy counted."""
    what = f"script {script.identifier}"
    masks = [
        action.parameter.value
        for action in script.actions
        if (action.class_id, action.obis, action.member)
        == (ClassId.REGISTER_ACTIVATION, name, activation.ACTIVE_MASK)
        and action.service is script_table.Service.WRITE
        and action.parameter.type is axdr.DataType.OCTET_STRING
    ]
    if not masks:
        return [f"{what} sets no mask of {name}"]
    registers = by_mask.get(masks[-1])
    if registers is None:
        return [f"{what} sets mask {_name(masks[-1])!r}, which {name} has not"]
    energies = {one.raw[4] for one in registers if one.raw[3] == _ENERGY}
    if tariff is not None and tariff not in energies:
        told = ", ".join(map(str, sorted(energies))) or "none"
        return [f"{what} counts energy of tariff {told}, not {tariff}: mask {_name(masks[-1])!r}"]
    return []
