"""What the objects of a P1 telegram mean: values with units, times, the devices on the meter's M-Bus.

Values stand in several layouts, all taken here:

- ``(value*unit)``, or a plain number, or a text in hexadecimal digits;
- ``(time)(value*unit)``: an M-Bus device's last reading, or a maximum with its time;
- ``(time)(status)(period)(1)(object)(unit)`` and ``(value)`` on the next line: the same before version 4;
- ``(n)(object)`` and n pairs of end and duration: the log of power failures;
- ``(n)(object)(object)`` and n of time, time, value: the maxima of past months.

Times tell whether they are summer or winter time, not of which country. Where no country is told by the
identification, Central European Time is meant.
"""

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

from protocols.dlms.cosem_time import ClockStatus, CosemDate, CosemDateTime, CosemTime
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError
from protocols.iec62056_21.data_sets import DataSet, Part, obis_of, split
from protocols.iec62056_21.p1 import P1Telegram

CENTRAL_EUROPE_MIN: Final = 60
#: Minutes east of Greenwich in winter, where the identification tells the country: Iskraemeco's meter for
#: Ireland calls itself MIE5T.
_WINTER_MIN: Final = ((re.compile(r"ISk5.MIE", re.DOTALL), 0),)

_STAMP: Final = re.compile(r"(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})([SW]?)", re.ASCII)
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_CENTURY: Final = 2000

#: By groups C.D.E (or C.D): texts in hexadecimal digits, and plain numbers that are counted or numbered.
_TEXTS: Final = ("96.1.", "96.13.")
_COUNTS: Final = (
    "96.7.",
    "32.32.",
    "52.32.",
    "72.32.",
    "32.36.",
    "52.36.",
    "72.36.",
    "24.1.",
    "24.4.",
    "96.3.",
)

POWER_FAILURES: Final = "99.97.0"
_MAXIMA: Final = "98.1.0"
_OLD_DEVICE: Final = "24.3.0"
_DEVICE_TYPE: Final = "24.1.0"


class P1Value(NamedTuple):
    """One value. ``name`` is the object as written, ``obis`` what the value belongs to: the same, except in
    logs and in readings of M-Bus devices before version 4.

    ``time`` is when it was read or occurred, ``kept`` when a log's row was written, both as the meter tells
    them. ``value`` is None where the object is empty.
    """

    name: str
    obis: Obis | None
    value: Decimal | str | CosemDateTime | None
    unit: str | None = None
    time: CosemDateTime | None = None
    kept: CosemDateTime | None = None


class Device(NamedTuple):
    """A device on the meter's M-Bus: channel (group B), type (EN 13757-3: 3 gas, 4 heat, 7 water), number."""

    channel: int
    type: int | None
    number: str | None


class P1Objects(NamedTuple):
    """What one telegram says. ``time`` is its own, of object 0-0:1.0.0. ``problems``: offset in the text
    of the telegram, and reason."""

    values: tuple[P1Value, ...]
    time: CosemDateTime | None
    devices: tuple[Device, ...]
    problems: tuple[tuple[int, str], ...]


def read(telegram: P1Telegram, winter_min: int | None = None) -> P1Objects:
    """The values of ``telegram``. Never raises for what it holds.

    ``winter_min``: minutes east of Greenwich of the meter's winter time; None goes by the identification.
    """
    if winter_min is None:
        known = (east for pattern, east in _WINTER_MIN if pattern.match(telegram.identification))
        winter_min = next(known, CENTRAL_EUROPE_MIN)
    reader = _Reader(winter_min)
    sets, malformed = telegram.sets()
    problems = [(bad.offset, f"{bad.reason}: {bad.text!r}") for bad in malformed]
    values: list[P1Value] = []
    for one in sets:
        try:
            values += reader.values(one)
        except RemoteProtocolError as exc:
            problems.append((one.offset, f"{one.address}: {exc.reason}"))
    times = [value.value for value in values if value.obis == _CLOCK]
    moment = next((time for time in times if isinstance(time, CosemDateTime)), None)
    return P1Objects(tuple(values), moment, _devices(values), tuple(sorted(problems)))


_CLOCK: Final = Obis.parse("0-0:1.0.0")


def stamp(text: str, winter_min: int) -> CosemDateTime:
    """YYMMDDhhmmss and S or W (none before version 4: then no offset from UTC is known).

    Raises:
        RemoteProtocolError: no such time.
    """
    found = _STAMP.fullmatch(text)
    if found is None:
        raise RemoteProtocolError(f"no time: {text!r}")
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 60):
        raise RemoteProtocolError(f"no such time: {text!r}")
    summer = found[7] == "S"
    deviation = -(winter_min + 60 * summer) if found[7] else None
    status = ClockStatus.DST_ACTIVE if summer else ClockStatus(0)
    date, time = CosemDate(_CENTURY + year, month, day), CosemTime(hour, minute, second)
    return CosemDateTime(date, time, deviation, status if found[7] else None)


class _Reader:
    def __init__(self, winter_min: int) -> None:
        self._winter_min = winter_min
        self._layouts: dict[str, Callable[[DataSet, Obis | None], list[P1Value]]] = {
            POWER_FAILURES: self._failures,
            _MAXIMA: self._maxima,
            _OLD_DEVICE: self._old_device,
        }

    def values(self, one: DataSet) -> list[P1Value]:
        obis = obis_of(one.address)
        if obis is None:
            raise RemoteProtocolError("no OBIS code")
        layout = self._layouts.get(_code(one.address))
        if layout is not None and len(one.groups) > 1:
            return layout(one, obis)
        if len(one.groups) == 1:
            return [self._simple(one.address, obis, one.groups[0])]
        if len(one.groups) == 2:
            time = self._stamp(one.groups[0])
            return [self._simple(one.address, obis, one.groups[1])._replace(time=time)]
        raise RemoteProtocolError(f"{len(one.groups)} groups in no known layout")

    def _stamp(self, text: str) -> CosemDateTime:
        return stamp(text, self._winter_min)

    def _simple(self, address: str, obis: Obis | None, group: str) -> P1Value:
        if not group:
            return P1Value(address, obis, None)
        (part, *others) = split(group)
        if others:
            raise RemoteProtocolError(f"several values in one: {group!r}")
        if part.unit is not None:
            return P1Value(address, obis, _number(part), part.unit)
        code = _code(address)
        if code.startswith(_TEXTS):
            return P1Value(address, obis, _text(part.text))
        if code.startswith(_COUNTS):
            return P1Value(address, obis, _number(part))
        if _STAMP.fullmatch(part.text) and (part.text[-1] in "SW" or obis == _CLOCK):
            return P1Value(address, obis, self._stamp(part.text))
        return P1Value(address, obis, part.text)

    def _failures(self, one: DataSet, obis: Obis | None) -> list[P1Value]:
        """The end of each power failure and its duration."""
        count, name, rows = _rows(one, objects=1, width=2)
        found = [P1Value(one.address, obis, count)]
        failure = obis_of(name[0])
        for end, duration in rows:
            (part,) = split(duration)[:1]
            found.append(P1Value(one.address, failure, _number(part), part.unit, self._stamp(end)))
        return found

    def _maxima(self, one: DataSet, obis: Obis | None) -> list[P1Value]:
        """The maximum of each month: when the row was kept, when the maximum occurred, and how high."""
        count, names, rows = _rows(one, objects=2, width=3)
        found = [P1Value(one.address, obis, count)]
        maximum = obis_of(names[1])
        for kept, occurred, value in rows:
            (part,) = split(value)[:1]
            time = self._stamp(occurred)
            found.append(P1Value(one.address, maximum, _number(part), part.unit, time, self._stamp(kept)))
        return found

    def _old_device(self, one: DataSet, obis: Obis | None) -> list[P1Value]:
        """An M-Bus device before version 4; some meters have several objects behind one time."""
        if len(one.groups) < 6 or not one.groups[3].isdecimal():
            raise RemoteProtocolError("not the layout of an M-Bus device's reading")
        time = self._stamp(one.groups[0])
        count = int(one.groups[3])
        heads, values = one.groups[4 : 4 + 2 * count], one.groups[4 + 2 * count :]
        if not count or len(heads) != 2 * count or len(values) != count:
            raise RemoteProtocolError(f"{len(values)} values for {count} objects of an M-Bus device")
        return [
            P1Value(one.address, obis_of(name) or obis, _number(Part(value)), unit or None, time)
            for name, unit, value in zip(heads[::2], heads[1::2], values, strict=True)
        ]


def _rows(one: DataSet, *, objects: int, width: int) -> tuple[Decimal, Sequence[str], list[tuple[str, ...]]]:
    """The count, the names of the objects, and the rows of a log."""
    count = _number(split(one.groups[0])[0])
    names, cells = one.groups[1 : 1 + objects], one.groups[1 + objects :]
    if len(names) < objects or len(cells) != count * width:
        raise RemoteProtocolError(f"a log of {count} rows with {len(cells)} cells")
    return count, names, [cells[at : at + width] for at in range(0, len(cells), width)]


def _number(part: Part) -> Decimal:
    number = part.number
    if number is None:
        raise RemoteProtocolError(f"no number: {part.text!r}")
    return number


def _text(text: str) -> str:
    """What the hexadecimal digits say, where they say printable characters; else as written."""
    if _HEX.fullmatch(text):
        decoded = bytes.fromhex(text)
        if all(32 <= byte < 127 for byte in decoded):
            return decoded.decode("ascii")
    return text


def _code(address: str) -> str:
    """Groups C.D.E."""
    return address.rpartition(":")[2].partition("*")[0]


def _devices(values: Sequence[P1Value]) -> tuple[Device, ...]:
    types: dict[int, int | None] = {}
    numbers: dict[int, str | None] = {}
    for value in values:
        if value.obis is None or value.obis.raw[0] != 0 or not value.obis.raw[1]:
            continue
        channel, code = value.obis.raw[1], _code(value.name)
        if code == _DEVICE_TYPE and isinstance(value.value, Decimal):
            types[channel] = int(value.value)
        elif code.startswith("96.1."):
            numbers[channel] = value.value if isinstance(value.value, str) else None
    return tuple(
        Device(channel, types.get(channel), numbers.get(channel)) for channel in sorted(types | numbers)
    )
