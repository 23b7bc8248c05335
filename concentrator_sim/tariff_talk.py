"""A meter that is given tariff programs over MQTT, in messages of our own schema, and counts by them."""

from collections.abc import Callable
from typing import Final

from concentrator_sim.object_model import Meter
from concentrator_sim.tariff_ledger import TableRules, TariffLedger
from protocols.errors import RemoteProtocolError
from protocols.mqtt import messages, tariffs
from schemas.tariff.calendar import (
    Calendar,
    CalendarDay,
    CalendarSeason,
    CalendarSwitch,
    CalendarWeek,
    Compiled,
)
from schemas.tariff_message import (
    TariffActivate,
    TariffAnswer,
    TariffAsk,
    TariffRefused,
    TariffTold,
    TariffWrite,
)

#: What the meter takes at most.
MOST_DAYS: Final = 32
MOST_SWITCHES: Final = 24
MOST_SPECIAL_DAYS: Final = 100
#: How far a meter that stores wrongly moves one switch, in minutes.
WRONG_BY_MIN: Final = 15
#: 06:00 to 22:00 every day, and the night: what `billing.tariffs` counts.
DEFAULT: Final = Compiled(
    Calendar(
        "DAYNIGHT",
        (CalendarSeason("1", 1, 1, "1"),),
        (CalendarWeek("1", (1,) * 7),),
        (CalendarDay(1, (CalendarSwitch(0, 2), CalendarSwitch(360, 1), CalendarSwitch(1320, 2))),),
    ),
    (),
)


class ProgramBook:
    """What a meter holds, and counts. All times are of its own clock, Unix seconds."""

    def __init__(self, meter: Meter) -> None:
        self.active = DEFAULT
        self.passive: Compiled | None = None
        self.activates_at: int | None = None
        #: whether a program is stored with one switch wrong
        self.is_wrong: Callable[[], bool] | None = None
        self._ledger = TariffLedger(meter.consumption, meter.deviation_min)

    def settle(self, now_s: float) -> None:
        """The activation takes place whose time has come."""
        if self.activates_at is not None and self.activates_at <= now_s:
            self._activate(self.activates_at)

    def write(self, program: Compiled) -> str | None:
        """It waits; why not."""
        days = program.calendar.days
        if not program.calendar.seasons or not all(one.switches for one in days):
            return "nothing would count"
        if len(days) > MOST_DAYS or any(len(one.switches) > MOST_SWITCHES for one in days):
            return f"at most {MOST_DAYS} days of {MOST_SWITCHES} switches"
        if len(program.specials) > MOST_SPECIAL_DAYS:
            return f"at most {MOST_SPECIAL_DAYS} special days"
        if self.is_wrong is not None and self.is_wrong():
            program = program._replace(calendar=_one_wrong(program.calendar))
        self.passive, self.activates_at = program, None
        return None

    def activate(self, at_s: int | None, now_s: float) -> str | None:
        """What waits counts from ``at_s`` on, from now where that is past; None: never. Why not."""
        if self.passive is None:
            return "nothing waits"
        self.activates_at = at_s
        if at_s is not None and at_s <= now_s:
            self._activate(int(now_s))
        return None

    def _activate(self, at_s: int) -> None:
        if self.passive is not None:
            self.active = self.passive
            self._ledger.change(at_s, TableRules(self.active))
        self.passive = self.activates_at = None

    def registers(self, moment_s: int) -> tuple[int, ...]:
        """Energy of each tariff in Wh."""
        self.settle(moment_s)
        return self._ledger.registers(moment_s)


class TariffTalk:
    """What one meter answers; ``clock`` makes the field's time its own."""

    def __init__(self, meter: Meter, clock: Callable[[float], float] = lambda now_s: now_s) -> None:
        self._meter = meter
        self._clock = clock

    def answer(self, payload: bytes, now_s: float) -> bytes | None:
        """To a request; None where it is none."""
        try:
            request = tariffs.decode(payload)
        except RemoteProtocolError:
            return None  # without an id, nobody could be told
        if not isinstance(request, TariffAsk | TariffWrite | TariffActivate):
            return None
        now_s = self._clock(now_s)
        book = self._meter.part(ProgramBook)
        book.settle(now_s)
        reason = None
        if isinstance(request, TariffWrite | TariffActivate):
            reason = _change(request, book, now_s)
        found: TariffAnswer = _told(request.id, book)
        return messages.encode(found if reason is None else TariffRefused(id=request.id, reason=reason))


def _change(request: TariffWrite | TariffActivate, book: ProgramBook, now_s: float) -> str | None:
    if request.until < now_s:
        return "it came too late"
    if isinstance(request, TariffActivate):
        at = request.at
        return book.activate(None if at == "never" else int(now_s) if at == "now" else at, now_s)
    try:
        return book.write(tariffs.compiled_of(request.program))
    except RemoteProtocolError as error:
        return str(error)


def _told(request_id: str, book: ProgramBook) -> TariffTold:
    return TariffTold(
        id=request_id,
        active=tariffs.tables_of(book.active),
        passive=None if book.passive is None else tariffs.tables_of(book.passive),
        activates_at=book.activates_at,
    )


def _one_wrong(calendar: Calendar) -> Calendar:
    """The same with the last switch of the first day later than it was written."""
    first, *rest = calendar.days
    *switches, last = first.switches
    wrong = last._replace(minute=(last.minute + WRONG_BY_MIN) % 1440)
    return calendar._replace(days=(first._replace(switches=(*switches, wrong)), *rest))
