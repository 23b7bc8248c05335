"""The tariff calendar of a simulated meter: what is written to it really switches its tariff registers.

::

    passive calendar <── SET 6..9 ─── client            special days <── SET ─── client
          │ at activate_passive_calendar_time, or method 1     │ at once
          ▼                                                    ▼
    active calendar ──────────── which script at a moment ──> mask ──> register that counts

A meter that was never written to has the default calendar, and its registers stay a pure function of time
(`concentrator_sim.billing`). From the first change on they are what they were, and what was drawn since while
the calendar of each moment let them count. All local times are of the meter's clock.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from concentrator_sim import billing
from concentrator_sim.faults import Faults
from concentrator_sim.object_model import Asked, CosemObject, Meter, Read
from concentrator_sim.tariff_ledger import TariffLedger, never_written, script_at
from protocols.dlms import axdr
from protocols.dlms.cosem import ClassId, date_time, script_table, special_days
from protocols.dlms.cosem import activity_calendar as calendars
from protocols.dlms.cosem import register_activation as activation
from protocols.dlms.cosem.activity_calendar import DayAction, DayProfile, SeasonProfile, WeekProfile
from protocols.dlms.cosem.special_days import SpecialDayEntry
from protocols.dlms.cosem_time import CosemDate, CosemDateTime, CosemTime
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError

CALENDAR: Final = Obis.parse("0-0:13.0.0*255")
SPECIAL_DAYS: Final = Obis.parse("0-0:11.0.0*255")
SCRIPTS: Final = Obis.parse("0-0:10.0.100*255")
REGISTERS: Final = Obis.parse("0-0:14.0.1*255")

#: What the meter takes at most.
MOST_SEASONS: Final = 12
MOST_DAYS: Final = 32
MOST_ACTIONS: Final = 24
MOST_SPECIAL_DAYS: Final = 100
LONGEST_NAME: Final = 8
#: How far a meter that stores wrongly moves one switch, in minutes.
WRONG_BY_MIN: Final = 15
_OPEN: Final = CosemDateTime(CosemDate(), CosemTime())


class Rules(NamedTuple):
    """A calendar with its special days, decoded."""

    seasons: tuple[SeasonProfile, ...]
    weeks: tuple[WeekProfile, ...]
    days: tuple[DayProfile, ...]
    specials: tuple[SpecialDayEntry, ...]

    def switches(self, date: dt.date) -> Sequence[tuple[int, int]]:
        """(second of the day, script) of a date, in order; empty where the calendar says nothing of it."""
        number = self._day_id(date)
        for one in self.days:
            if one.day_id == number:
                return sorted((_second(action.start), action.selector) for action in one.actions)
        return ()

    def script(self, local_s: int) -> int:
        """Which script has been run last at a local second. Where no day says any, the first."""
        return script_at(self, local_s)

    def _day_id(self, date: dt.date) -> int | None:
        for one in self.specials:
            when = one.date
            if (when.year in (None, date.year) and (when.month, when.day) == (date.month, date.day)
                    and when.weekday in (None, date.isoweekday())):  # fmt: skip
                return one.day_id
        begun = [start for start in (_start(one, date) for one in self.seasons) if start is not None]
        if not begun:
            return None
        _, name = max(begun)
        week = next((one for one in self.weeks if one.name == name), None)
        return None if week is None or len(week.days) < date.isoweekday() else week.days[date.weekday()]


def _start(season: SeasonProfile, date: dt.date) -> tuple[dt.date, bytes] | None:
    """When the season has begun last, and its week; None where it has not."""
    when = season.start.date
    if when.month is None or when.day is None:
        return None
    for year in (date.year, date.year - 1) if when.year is None else (when.year,):
        try:
            start = dt.date(year, when.month, when.day)
        except ValueError:
            continue
        if start <= date:
            return start, season.week
    return None


def _second(start: CosemTime) -> int:
    return 3600 * (start.hour or 0) + 60 * (start.minute or 0) + (start.second or 0)


class TariffBook:
    """What was written to one meter: its parts as A-XDR bytes, and what counts when."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.active = list(_DEFAULT)
        self.passive = list(_EMPTY)
        self.specials = _NO_SPECIALS
        self.activation = _NEVER
        self._ledger = TariffLedger(meter.consumption, meter.deviation_min)
        #: whether a new day table is stored with one switch wrong
        self.is_wrong: Callable[[], bool] | None = None

    def settle(self, now_s: int) -> None:
        """The activation takes place whose time has come."""
        told = date_time(axdr.decode_exact(self.activation))
        if told is None or None in (told.date.year, told.date.month, told.date.day, told.time.hour):
            return
        deviation = self._meter.deviation_min if told.deviation_min is None else told.deviation_min
        at_s = int(told.local().replace(tzinfo=dt.UTC).timestamp()) + deviation * 60
        if at_s <= now_s:
            self.activate(at_s)

    def activate(self, at_s: int) -> None:
        """The passive calendar is the active one too."""
        self.active = list(self.passive)
        self.activation = _NEVER
        self._changed(at_s)

    def write(self, index: int, value: bytes, now_s: int) -> DataAccessResult:
        """Attributes 6 to 9. Raises RemoteProtocolError for what is of another form."""
        place = index - calendars.CALENDAR_NAME - calendars.TO_PASSIVE
        data = axdr.decode_exact(value)
        if index == 9:
            days = calendars.days(data)
            if len(days) > MOST_DAYS or any(len(one.actions) > MOST_ACTIONS for one in days):
                return DataAccessResult.OTHER_REASON
            if self.is_wrong is not None and self.is_wrong():
                value = axdr.encode(calendars.table(_one_wrong(days)))
        elif index == 6:
            if data.type is not axdr.DataType.OCTET_STRING or len(data.value) > LONGEST_NAME:
                return DataAccessResult.TYPE_UNMATCHED
        elif len(calendars.seasons(data) if index == 7 else calendars.weeks(data)) > MOST_SEASONS:
            return DataAccessResult.OTHER_REASON
        self.settle(now_s)
        self.passive[place] = value
        return DataAccessResult.SUCCESS

    def write_specials(self, value: bytes, now_s: int) -> DataAccessResult:
        """The whole table. Raises RemoteProtocolError."""
        if len(special_days.special_days(axdr.decode_exact(value))) > MOST_SPECIAL_DAYS:
            return DataAccessResult.OTHER_REASON
        self.settle(now_s)
        self.specials = value
        self._changed(now_s)
        return DataAccessResult.SUCCESS

    def write_activation(self, value: bytes, now_s: int) -> DataAccessResult:
        """When the passive calendar becomes active. Raises RemoteProtocolError."""
        date_time(axdr.decode_exact(value))
        self.activation = value
        self.settle(now_s)
        return DataAccessResult.SUCCESS

    def registers(self, moment_s: int) -> tuple[int, ...]:
        """Energy of each tariff in Wh."""
        self.settle(moment_s)
        return self._ledger.registers(moment_s)

    def script(self, moment_s: int) -> int:
        """Which script has been run last."""
        self.settle(moment_s)
        return script_at(self._ledger.rules or DEFAULT_RULES, moment_s - self._meter.deviation_min * 60)

    def _changed(self, at_s: int) -> None:
        self._ledger.change(at_s, _rules(self.active, self.specials))


def follow_faults(meter: Meter, faults: Faults, clock: Callable[[], int]) -> None:
    """Have the meter store wrongly while its faults say so; ``clock`` is the field's."""
    if faults.touches_tariffs:
        meter.part(TariffBook).is_wrong = lambda: faults.stores_wrongly(clock())


def tariffs(meter: Meter, moment_s: int) -> tuple[int, ...]:
    """The registers of all tariffs at ``moment_s`` (Unix seconds), in Wh; together they are the total, but
    for what they and it have at the beginning."""
    book = meter.part_if_any(TariffBook)
    if book is None:
        return never_written(meter.consumption, moment_s, meter.deviation_min)
    return book.registers(moment_s)


def _one_wrong(days: Sequence[DayProfile]) -> list[DayProfile]:
    """The same with the last switch of the first day that has several later than it was written."""
    out = list(days)
    for n, one in enumerate(out):
        if len(one.actions) > 1 or n == len(out) - 1:
            *first, last = one.actions or (DayAction(CosemTime(0, 0, 0, 0), SCRIPTS, 1),)
            minute = (60 * (last.start.hour or 0) + (last.start.minute or 0) + WRONG_BY_MIN) % 1440
            wrong = last._replace(start=CosemTime(minute // 60, minute % 60, 0, 0))
            out[n] = DayProfile(one.day_id, (*first, wrong))
            break
    return out


def _rules(parts: Sequence[bytes], specials: bytes) -> Rules:
    _, seasons, weeks, days = (axdr.decode_exact(one) for one in parts)
    return Rules(
        calendars.seasons(seasons),
        calendars.weeks(weeks),
        calendars.days(days),
        special_days.special_days(axdr.decode_exact(specials)),
    )


def _action(hour: int, selector: int) -> DayAction:
    return DayAction(CosemTime(hour, 0, 0, 0), SCRIPTS, selector)


_NEVER: Final = axdr.encode(axdr.octets(_OPEN.to_bytes()))
_NO_SPECIALS: Final = axdr.encode(axdr.array(()))
#: Name, seasons, weeks, days.
_EMPTY: Final = (axdr.encode(axdr.octets(b"")), *(_NO_SPECIALS for _ in range(3)))
#: 06:00 to 22:00 every day, and the night: what `billing.tariffs` counts.
_DEFAULT: Final = (
    axdr.encode(axdr.octets(b"DAYNIGHT")),
    axdr.encode(
        calendars.table(
            [SeasonProfile(b"1", CosemDateTime(CosemDate(None, 1, 1), CosemTime(0, 0, 0, 0)), b"1")]
        )
    ),
    axdr.encode(calendars.table([WeekProfile(b"1", (1,) * 7)])),
    axdr.encode(calendars.table([DayProfile(1, (_action(0, 2), _action(6, 1), _action(22, 2)))])),
)
DEFAULT_RULES: Final = _rules(_DEFAULT, _NO_SPECIALS)


# ---- objects ---------------------------------------------------------------------------------------------


def _book(asked: Asked) -> TariffBook | None:
    book = asked.device.meter.part_if_any(TariffBook)
    if book is not None:
        book.settle(asked.now_s)
    return book


def _table(index: int) -> Read:
    place = index - calendars.CALENDAR_NAME

    def read(asked: Asked) -> bytes:
        book = _book(asked)
        if place < len(_DEFAULT):
            return (_DEFAULT if book is None else book.active)[place]
        passive = place - calendars.TO_PASSIVE
        return (_EMPTY if book is None else book.passive)[passive]

    return read


def _write(index: int) -> Callable[[Asked, bytes], DataAccessResult]:
    return lambda asked, value: asked.device.meter.part(TariffBook).write(index, value, asked.now_s)


def _activation(asked: Asked) -> bytes:
    book = _book(asked)
    return _NEVER if book is None else book.activation


def _set_activation(asked: Asked, value: bytes) -> DataAccessResult:
    return asked.device.meter.part(TariffBook).write_activation(value, asked.now_s)


def _activate(asked: Asked, parameter: bytes | None) -> ActionResult:
    if parameter is None or axdr.decode_exact(parameter).type is not axdr.DataType.INTEGER:
        raise RemoteProtocolError("activate_passive_calendar takes an integer")
    asked.device.meter.part(TariffBook).activate(asked.now_s)
    return ActionResult.SUCCESS


def _specials(asked: Asked) -> bytes:
    book = _book(asked)
    return _NO_SPECIALS if book is None else book.specials


def _set_specials(asked: Asked, value: bytes) -> DataAccessResult:
    return asked.device.meter.part(TariffBook).write_specials(value, asked.now_s)


def _mask(tariff: int) -> bytes:
    return b"TARIFF%d" % tariff


def _active_mask(asked: Asked) -> bytes:
    book, meter = _book(asked), asked.device.meter
    if book is None:
        script = DEFAULT_RULES.script(asked.now_s - meter.deviation_min * 60)
    else:
        script = book.script(asked.now_s)
    return axdr.encode(axdr.octets(_mask(script)))


def _constant(data: axdr.Data) -> Read:
    raw = axdr.encode(data)
    return lambda asked: raw


_TARIFFS: Final = range(1, len(billing.TARIFFS) + 1)
_MASK_LIST: Final = axdr.array(activation.Mask(_mask(one), (one,)).encode() for one in _TARIFFS)
_ASSIGNED: Final = axdr.array(
    activation.Assigned(ClassId.REGISTER, obis).encode() for obis in billing.TARIFFS
)
_SCRIPT_LIST: Final = axdr.array(
    script_table.Script(
        one,
        (
            script_table.ScriptAction(
                script_table.Service.WRITE,
                ClassId.REGISTER_ACTIVATION,
                REGISTERS,
                activation.ACTIVE_MASK,
                axdr.octets(_mask(one)),
            ),
        ),
    ).encode()
    for one in _TARIFFS
)
#: Activity calendar, special days, the scripts that it runs, and the registers that they switch.
OBJECTS: Final = (
    CosemObject(
        ClassId.ACTIVITY_CALENDAR,
        0,
        CALENDAR,
        {**{index: _table(index) for index in range(2, 10)}, calendars.ACTIVATION_TIME: _activation},
        writes={
            **{index: _write(index) for index in range(6, 10)},
            calendars.ACTIVATION_TIME: _set_activation,
        },
        methods={calendars.ACTIVATE: _activate},
    ),
    CosemObject(
        ClassId.SPECIAL_DAYS_TABLE,
        0,
        SPECIAL_DAYS,
        {special_days.ENTRIES: _specials},
        writes={special_days.ENTRIES: _set_specials},
    ),
    CosemObject(ClassId.SCRIPT_TABLE, 0, SCRIPTS, {script_table.SCRIPTS: _constant(_SCRIPT_LIST)}),
    CosemObject(
        ClassId.REGISTER_ACTIVATION,
        0,
        REGISTERS,
        {
            activation.ASSIGNMENT: _constant(_ASSIGNED),
            activation.MASKS: _constant(_MASK_LIST),
            activation.ACTIVE_MASK: _active_mask,
        },
    ),
)
