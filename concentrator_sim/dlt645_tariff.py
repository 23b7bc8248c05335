"""Tariff tables of a DL/T 645 meter: two sets, of which one counts, public holidays and rest days; written
with a password. What is written is kept, told, and counts: sets change at their switching time by the meter's
own clock, holidays and rest days at once.
"""

from collections.abc import Callable
from typing import Final

from concentrator_sim.dlt645_clock import CHINA, PASSWORD
from concentrator_sim.line_meters import LineMeter
from concentrator_sim.object_model import Meter
from concentrator_sim.tariff_ledger import TableRules, TariffLedger, never_written
from protocols.dlt645 import special_days
from protocols.dlt645 import tariff as tables
from protocols.dlt645.control import ErrorWord
from protocols.dlt645.identifiers import DataId
from protocols.errors import RemoteProtocolError
from schemas.tariff.calendar import (
    Calendar,
    CalendarDay,
    CalendarSeason,
    CalendarSpecial,
    CalendarSwitch,
    CalendarWeek,
    Compiled,
)
from schemas.tariff.rest_days import RestDays

#: From local time to UTC, as COSEM counts.
DEVIATION_MIN: Final = -480
_KEYS: Final = 8
_FORMS: Final[dict[DataId, Callable[[bytes], object]]] = {
    special_days.COUNT: special_days.decode_count,
    special_days.REST_WORD: special_days.decode_rest_days,
    special_days.REST_TABLE: special_days.decode_table_number,
}
_DEFAULT_ZONES: Final = tables.encode_zones([tables.Zone(1, 1, 1)])
_DEFAULT_TABLE: Final = tables.encode_table(
    [tables.Period(0, 2), tables.Period(360, 1), tables.Period(1320, 2)]
)


class TariffTables:
    """What was written; which sets count."""

    def __init__(self, meter: Meter) -> None:
        self.values: dict[DataId, bytes] = {
            tables.zones_id(1): _DEFAULT_ZONES,
            tables.table_id(1, 1): _DEFAULT_TABLE,
            tables.SWITCH_ZONES: tables.NEVER,
            tables.SWITCH_DAYS: tables.NEVER,
            special_days.COUNT: special_days.encode_count(0),
            special_days.REST_WORD: special_days.encode_rest_days(()),
            special_days.REST_TABLE: special_days.encode_table_number(1),
        }
        self._sets = {tables.SWITCH_ZONES: 1, tables.SWITCH_DAYS: 1}
        self._pending: set[DataId] = set()
        self._ledger = TariffLedger(meter.consumption, DEVIATION_MIN)

    def settle(self, now_s: int, shown_s: int) -> None:
        """Sets change whose time has come: by its crystal it is ``now_s``, its clock shows ``shown_s``."""
        times = {di: tables.decode_time(self.values[di]) for di in self._pending}
        for at in sorted({at for at in times.values() if at is not None}):
            due_s = int(at.replace(tzinfo=CHINA).timestamp())
            if due_s <= shown_s:
                for di in [one for one, when in times.items() if when == at]:
                    self._sets[di] = 3 - self._sets[di]
                    self._pending.discard(di)
                self._ledger.change(due_s - shown_s + now_s, self._rules())

    def write(self, di: DataId, value: bytes, now_s: int) -> ErrorWord:
        """0: it is done."""
        try:
            if di in self._sets:
                tables.decode_time(value)
                self._pending.add(di)
            else:
                _FORMS.get(di, _form(di))(value)
        except RemoteProtocolError:
            return ErrorWord.OTHER
        if len(value) > 3 * tables.ROWS:
            return ErrorWord.TOO_MANY_DAY_PERIODS if di.di0 else ErrorWord.TOO_MANY_YEAR_ZONES
        self.values[di] = value
        if di not in self._sets:
            self._ledger.change(now_s, self._rules())
        return ErrorWord(0)

    def registers(self, moment_s: int) -> tuple[int, ...]:
        """Energy of each tariff in Wh."""
        return self._ledger.registers(moment_s)

    def _rules(self) -> TableRules:
        """What counts by what is written now."""
        zone_set, day_set = self._sets[tables.SWITCH_ZONES], self._sets[tables.SWITCH_DAYS]
        zones = tables.decode_zones(self.values.get(tables.zones_id(zone_set), b""))
        days = [
            CalendarDay(n, tuple(CalendarSwitch(*one) for one in tables.decode_table(raw)))
            for n in range(1, tables.TABLES + 1)
            if (raw := self.values.get(tables.table_id(day_set, n))) is not None
        ]
        seasons = [CalendarSeason("", one.month, one.day, str(one.table)) for one in zones]
        weeks = [CalendarWeek(str(one.table), (one.table,) * 7) for one in zones]
        count = special_days.decode_count(self.values[special_days.COUNT])
        rows = [self.values.get(special_days.holiday_id(n)) for n in range(1, count + 1)]
        holidays = [special_days.decode_holiday(one) for one in rows if one is not None]
        rest = RestDays(
            special_days.decode_rest_days(self.values[special_days.REST_WORD]),
            special_days.decode_table_number(self.values[special_days.REST_TABLE]),
        )
        calendar = Calendar("", tuple(seasons), tuple(weeks), tuple(days))
        return TableRules(
            Compiled(calendar, tuple(CalendarSpecial(*one) for one in holidays if one is not None), rest)
        )

    @property
    def status(self) -> bytes:
        """The status word."""
        return tables.encode_status(self._sets[tables.SWITCH_ZONES], self._sets[tables.SWITCH_DAYS])


def is_tariff(di: DataId) -> bool:
    """Whether it is one of these."""
    if di in (tables.SWITCH_ZONES, tables.SWITCH_DAYS, *_FORMS) or di[:3] == (4, 3, 0):
        return True
    return di.di3 == 4 and di.di2 in tables.SETS and di.di1 == 0 and di.di0 <= tables.TABLES


def read(one: LineMeter, di: DataId) -> bytes | None:
    """Its value; None where the table was never written."""
    found = one.meter.part(TariffTables)
    found.settle(one.now, one.shown_s)
    return found.values.get(di)


def status(one: LineMeter) -> bytes:
    """Its bits of status word 3; zero where nothing was ever written."""
    found = one.meter.part_if_any(TariffTables)
    if found is None:
        return bytes(2)
    found.settle(one.now, one.shown_s)
    return found.status


def write(one: LineMeter, di: DataId, data: bytes) -> ErrorWord:
    """What is wrong with writing it behind password and operator code; 0: it is done."""
    if data[: len(PASSWORD)] != PASSWORD:
        return ErrorWord.NOT_AUTHORISED
    found = one.meter.part(TariffTables)
    found.settle(one.now, one.shown_s)
    return found.write(di, data[_KEYS:], one.now)


def registers(one: LineMeter) -> tuple[int, ...]:
    """Energies of all tariffs, in Wh."""
    found = one.meter.part_if_any(TariffTables)
    if found is None:
        return never_written(one.meter.consumption, one.now, DEVIATION_MIN)
    found.settle(one.now, one.shown_s)
    return found.registers(one.now)


def _form(di: DataId) -> Callable[[bytes], object]:
    """What reads a value, or raises RemoteProtocolError."""
    if di.di2 == special_days.holiday_id(1).di2:
        return special_days.decode_holiday
    return tables.decode_table if di.di0 else tables.decode_zones
