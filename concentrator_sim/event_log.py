"""What happens to a simulated meter: its event logs, the log of its power failures, its alarm registers.

Everyday events are drawn day by day from the field's seed, so that a meter that is started again has the
same past. What happens while the field runs (a fault that takes its power) is added with `EventBook.add`.
Codes and objects are those of the head-end's profile "idis".
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

from concentrator_sim.dice import Dice
from protocols.dlms import axdr
from protocols.dlms.apdu.fields import Selection
from protocols.dlms.axdr import Data
from protocols.dlms.cosem import (
    BY_ENTRY,
    BY_RANGE,
    CLOCK_TIME,
    CaptureObject,
    ClassId,
    EntryDescriptor,
    RangeDescriptor,
    date_time,
)
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError

STANDARD: Final = Obis.parse("0-0:99.98.0*255")
FRAUD: Final = Obis.parse("0-0:99.98.1*255")
CONTROL: Final = Obis.parse("0-0:99.98.2*255")
QUALITY: Final = Obis.parse("0-0:99.98.4*255")
POWER_FAILURES: Final = Obis.parse("1-0:99.97.0*255")
#: Alarm registers 1 and 2, and their descriptors, which pushes tell.
ALARMS: Final = (Obis.parse("0-0:97.98.0*255"), Obis.parse("0-0:97.98.1*255"))
DESCRIPTORS: Final = (Obis.parse("0-0:97.98.20*255"), Obis.parse("0-0:97.98.21*255"))

POWER_DOWN: Final = 1
POWER_UP: Final = 2
CLOCK_BEFORE: Final = 4
CLOCK_AFTER: Final = 5
TERMINAL_COVER_OPENED: Final = 40
TERMINAL_COVER_CLOSED: Final = 41
MANUAL_DISCONNECTION: Final = 60
MANUAL_CONNECTION: Final = 61
REMOTE_DISCONNECTION: Final = 62
REMOTE_CONNECTION: Final = 63
LOCAL_DISCONNECTION: Final = 64
LIMITER_EXCEEDED: Final = 65
LOCAL_CONNECTION: Final = 69
UNDER_VOLTAGE_L1: Final = 76
VOLTAGE_NORMAL_L1: Final = 85
#: Bits of alarm register 1 and 2.
REPLACE_BATTERY: Final = 1
TOTAL_POWER_FAILURE: Final = 0

#: A log goes back so far.
DAYS: Final = 30
#: Shorter ones are told by the standard log alone: the log of power failures is of long ones.
LONG_FAILURE_S: Final = 180
_DAY_S: Final = 86_400
#: How often a day has one, by chance.
_FAILURES: Final = 1 / 20
_SAGS: Final = 1 / 10
_COVERS: Final = 1 / 400
_CLOCKS: Final = 1 / 30
_BATTERIES: Final = 1 / 50  # of all meters

_CLOCK: Final = CaptureObject(ClassId.CLOCK, CLOCK_TIME.obis, 2)
#: The columns of each log: the clock, and what it tells.
COLUMNS: Final = {
    **{
        log: (_CLOCK, CaptureObject(ClassId.DATA, Obis.parse(f"0-0:96.11.{log.raw[4]}*255"), 2))
        for log in (STANDARD, FRAUD, CONTROL, QUALITY)
    },
    POWER_FAILURES: (_CLOCK, CaptureObject(ClassId.REGISTER, Obis.parse("0-0:96.7.19*255"), 2)),
}


class Entry(NamedTuple):
    """A row of a log: Unix seconds, and the code, or the duration of a power failure in seconds."""

    at_s: int
    told: int


class EventBook:
    """Events of meter ``number`` of the field ``seed``."""

    __slots__ = ("_added", "_dice", "_failures")

    def __init__(self, seed: int, number: int) -> None:
        self._dice = (seed, number)
        self._added: list[tuple[Obis, Entry]] = []
        self._failures: Callable[[float], Iterable[tuple[int, int]]] | None = None

    def follow(self, failures: Callable[[float], Iterable[tuple[int, int]]]) -> None:
        """Tell of the power failures [begin, end) that ``failures`` says have begun at a moment."""
        self._failures = failures

    def add(self, log: Obis, at_s: int, told: int) -> None:
        """Something that happens now."""
        self._added.append((log, Entry(at_s, told)))

    def power_failure(self, begin_s: int, end_s: int) -> None:
        """The power was away in [begin_s, end_s): told by the standard log, and by that of long failures."""
        self._added += _failure(begin_s, end_s)

    def entries(self, log: Obis, now_s: int) -> list[Entry]:
        """The rows of a log at ``now_s``, oldest first."""
        today = now_s // _DAY_S
        drawn = (item for day in range(today - DAYS, today + 1) for item in self._day(day))
        first = (today - DAYS) * _DAY_S
        failures = () if self._failures is None else self._failures(now_s)
        struck = (item for begin_s, end_s in failures for item in _failure(begin_s, end_s))
        told = (*drawn, *self._added, *struck)
        return sorted(entry for name, entry in told if name == log and first <= entry.at_s <= now_s)

    def alarms(self, register: int) -> int:
        """The word of alarm register 1 or 2 (place 0 or 1)."""
        if register == 0 and Dice("battery", *self._dice).happens(_BATTERIES):
            return 1 << REPLACE_BATTERY
        return 0

    def _day(self, day: int) -> Iterator[tuple[Obis, Entry]]:
        """What a day brings by chance; all of it ends within the day."""
        dice = Dice("events", *self._dice, day)
        begin_s = day * _DAY_S
        if dice.happens(_FAILURES):
            at_s = begin_s + dice.below(80_000)
            yield from _failure(at_s, at_s + 20 + dice.below(6_000))
        if dice.happens(_SAGS):
            at_s = begin_s + dice.below(80_000)
            yield QUALITY, Entry(at_s, UNDER_VOLTAGE_L1)
            yield QUALITY, Entry(at_s + 5 + dice.below(600), VOLTAGE_NORMAL_L1)
        if dice.happens(_COVERS):
            at_s = begin_s + dice.below(80_000)
            yield FRAUD, Entry(at_s, TERMINAL_COVER_OPENED)
            yield FRAUD, Entry(at_s + 60 + dice.below(3_000), TERMINAL_COVER_CLOSED)
        if dice.happens(_CLOCKS):
            at_s = begin_s + dice.below(80_000)
            yield STANDARD, Entry(at_s, CLOCK_BEFORE)
            yield STANDARD, Entry(at_s + 1 + dice.below(20), CLOCK_AFTER)


def _failure(begin_s: int, end_s: int) -> list[tuple[Obis, Entry]]:
    items = [(STANDARD, Entry(begin_s, POWER_DOWN)), (STANDARD, Entry(end_s, POWER_UP))]
    if end_s - begin_s >= LONG_FAILURE_S:
        items.append((POWER_FAILURES, Entry(end_s, end_s - begin_s)))  # the stamp is the end
    return items


class Stamped(Protocol):
    """A row with the Unix second of its clock column."""

    @property
    def at_s(self) -> int: ...


_Row = TypeVar("_Row", bound=Stamped)


def select(
    held: Sequence[_Row], selection: Selection, deviation_min: int
) -> Sequence[_Row] | DataAccessResult:
    """The rows that ``selection`` asks for, all columns, or why it cannot be granted.

    ``deviation_min`` is the meter's, for bounds that have none.
    """
    try:
        parameters = axdr.decode_exact(selection.parameters)
        if selection.selector == BY_ENTRY:
            asked = EntryDescriptor.decode(parameters)
            if asked.from_entry == 0:
                return DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
            return held[asked.from_entry - 1 : asked.to_entry or None]
        if selection.selector != BY_RANGE:
            return DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
        bounds = RangeDescriptor.decode(parameters)
        if bounds.restricting != _CLOCK or bounds.selected:
            return DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
        low, high = (_moment(bound, deviation_min) for bound in (bounds.low, bounds.high))
    except RemoteProtocolError:
        return DataAccessResult.TYPE_UNMATCHED
    return [
        entry for entry in held if (low is None or entry.at_s >= low) and (high is None or entry.at_s <= high)
    ]


def _moment(bound: Data, deviation_min: int) -> int | None:
    stamp = date_time(bound)
    if stamp is None:
        return None
    deviation = deviation_min if stamp.deviation_min is None else stamp.deviation_min
    local = stamp.local().replace(tzinfo=dt.UTC)
    return int(local.timestamp()) + deviation * 60


def encode(log: Obis, entries: Sequence[Entry], deviation_min: int) -> bytes:
    """A log's buffer as an A-XDR array of structures of date-time and code, or duration."""
    told = axdr.u32 if log == POWER_FAILURES else axdr.u8
    return axdr.encode(
        axdr.array(
            axdr.structure(axdr.octets(stamp_of(entry.at_s, deviation_min)), told(entry.told))
            for entry in entries
        )
    )


def stamp_of(at_s: int, deviation_min: int) -> bytes:
    """A Unix second as the meter's clock writes it."""
    return CosemDateTime.from_utc(dt.datetime.fromtimestamp(at_s, dt.UTC), deviation_min).to_bytes()
