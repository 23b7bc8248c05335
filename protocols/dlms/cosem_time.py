"""COSEM date-time, date and time: 12, 5 and 4 octets in which any part may be left open (Blue Book).

UTC = local time + deviation, in minutes: Central European Time sends -60, its summer time -120. A
deviation of zero is UTC, not "unknown"; unknown is 0x8000, here None. The local time already contains
daylight saving.
"""

import datetime as dt
import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import Final
from zoneinfo import ZoneInfo

from protocols.errors import LocalProtocolError, RemoteProtocolError

#: Month: the month in which daylight saving ends or begins, by the local rule.
MONTH_DST_END: Final = 0xFD
MONTH_DST_BEGIN: Final = 0xFE
#: Day of month: the second last and the last day.
DAY_SECOND_LAST: Final = 0xFD
DAY_LAST: Final = 0xFE
#: Deviation as sent when it is not specified.
DEVIATION_UNSPECIFIED: Final = -0x8000
#: Local time is at most 14 hours from UTC anywhere; the sign may be inverted by a maker's quirk.
DEVIATION_LIMIT_MIN: Final = 840

_OPEN: Final = 0xFF
_YEAR_OPEN: Final = 0xFFFF
_DATE_TIME: Final = struct.Struct(">HBBBBBBBhB")
_MINUTE: Final = dt.timedelta(minutes=1)


class ClockStatus(IntFlag):
    """Clock status octet of a date-time. 0xFF ("not specified") is None, never a ClockStatus."""

    INVALID = 0x01
    DOUBTFUL = 0x02
    DIFFERENT_CLOCK_BASE = 0x04
    INVALID_STATUS = 0x08
    DST_ACTIVE = 0x80


def dst_active(status: int | None) -> bool | None:
    """What a clock status says of daylight saving; None where not specified or invalid by its own word."""
    if status is None or status & ClockStatus.INVALID_STATUS:
        return None
    return bool(status & ClockStatus.DST_ACTIVE)


def _part(
    name: str, value: int, low: int, high: int, offset: int, markers: tuple[int, ...] = ()
) -> int | None:
    if value == _OPEN:
        return None
    if low <= value <= high or value in markers:
        return value
    raise RemoteProtocolError(f"{name} {value} is not within {low} to {high}", offset=offset)


def _octet(value: int | None) -> int:
    return _OPEN if value is None else value


@dataclass(frozen=True, slots=True)
class CosemDate:
    """None: not specified. ``weekday``: 1 Monday to 7 Sunday. Month and day may be a marker above."""

    year: int | None = None
    month: int | None = None
    day: int | None = None
    weekday: int | None = None

    @classmethod
    def from_bytes(cls, raw: bytes) -> "CosemDate":
        """Five octets.

        Raises:
            RemoteProtocolError: wrong length, or a part out of its range.
        """
        _sized("date", raw, 5)
        year = int.from_bytes(raw[:2], "big")
        return cls(
            None if year == _YEAR_OPEN else year,
            _part("month", raw[2], 1, 12, 2, (MONTH_DST_END, MONTH_DST_BEGIN)),
            _part("day of month", raw[3], 1, 31, 3, (DAY_SECOND_LAST, DAY_LAST)),
            _part("day of week", raw[4], 1, 7, 4),
        )

    def to_bytes(self) -> bytes:
        """Five octets."""
        year = _YEAR_OPEN if self.year is None else self.year
        return _packed(">HBBB", year, _octet(self.month), _octet(self.day), _octet(self.weekday))

    def __str__(self) -> str:
        month = {MONTH_DST_END: "dst-end", MONTH_DST_BEGIN: "dst-begin"}.get(
            _octet(self.month), _text(self.month, 2)
        )
        day = {DAY_SECOND_LAST: "second-last", DAY_LAST: "last"}.get(_octet(self.day), _text(self.day, 2))
        return f"{_text(self.year, 4)}-{month}-{day}"


@dataclass(frozen=True, slots=True)
class CosemTime:
    """None where a part is not specified. Hours 0 to 23."""

    hour: int | None = None
    minute: int | None = None
    second: int | None = None
    hundredths: int | None = None

    @classmethod
    def from_bytes(cls, raw: bytes) -> "CosemTime":
        """Four octets.

        Raises:
            RemoteProtocolError: wrong length, or a part out of its range.
        """
        _sized("time", raw, 4)
        return cls(
            _part("hour", raw[0], 0, 23, 0),
            _part("minute", raw[1], 0, 59, 1),
            _part("second", raw[2], 0, 59, 2),
            _part("hundredths of a second", raw[3], 0, 99, 3),
        )

    def to_bytes(self) -> bytes:
        """Four octets."""
        parts = (self.hour, self.minute, self.second, self.hundredths)
        return _packed(">BBBB", *(_octet(part) for part in parts))

    def __str__(self) -> str:
        text = ":".join(_text(part, 2) for part in (self.hour, self.minute, self.second))
        return text if self.hundredths in (None, 0) else f"{text}.{self.hundredths:02d}"


@dataclass(frozen=True, slots=True)
class CosemDateTime:
    """A date, a time, ``deviation_min`` (UTC - local) and ``status``; None: not specified."""

    date: CosemDate
    time: CosemTime
    deviation_min: int | None = None
    status: ClockStatus | None = None

    @classmethod
    def from_bytes(cls, raw: bytes) -> "CosemDateTime":
        """Twelve octets.

        Raises:
            RemoteProtocolError: wrong length, or a part out of its range.
        """
        _sized("date-time", raw, 12)
        date = CosemDate.from_bytes(raw[:5])
        try:
            time = CosemTime.from_bytes(raw[5:9])
        except RemoteProtocolError as exc:
            raise RemoteProtocolError(exc.reason, offset=5 + (exc.offset or 0)) from exc
        deviation = int.from_bytes(raw[9:11], "big", signed=True)
        if deviation != DEVIATION_UNSPECIFIED and abs(deviation) > DEVIATION_LIMIT_MIN:
            raise RemoteProtocolError(f"deviation of {deviation} minutes from UTC", offset=9)
        return cls(
            date,
            time,
            None if deviation == DEVIATION_UNSPECIFIED else deviation,
            None if raw[11] == _OPEN else ClockStatus(raw[11]),
        )

    def to_bytes(self) -> bytes:
        """Twelve octets."""
        deviation = DEVIATION_UNSPECIFIED if self.deviation_min is None else self.deviation_min
        tail = _packed(">hB", deviation, _octet(self.status))
        return self.date.to_bytes() + self.time.to_bytes() + tail

    @classmethod
    def from_utc(
        cls,
        moment: dt.datetime,
        deviation_min: int = 0,
        *,
        status: ClockStatus | None = ClockStatus(0),  # noqa: B008 - an immutable flag
        inverted_deviation: bool = False,
    ) -> "CosemDateTime":
        """``moment`` (aware; parts below a hundredth of a second are cut off) in the local time of
        ``deviation_min``.

        Raises:
            LocalProtocolError: naive moment, or a local time outside of years 1 to 9999.
        """
        sign = -1 if inverted_deviation else 1
        return cls._from_local(_utc(moment), -sign * deviation_min, deviation_min, status)

    @classmethod
    def from_zone(
        cls, moment: dt.datetime, zone: ZoneInfo, *, follows_dst: bool = True, deviation: bool = True
    ) -> "CosemDateTime":
        """``moment`` (aware) as a clock in ``zone`` shows it, with the DST bit where it applies.

        ``follows_dst`` False is a clock that stays on standard time; ``deviation`` False leaves it
        unspecified.
        """
        moment = _utc(moment)
        standard = standard_offset(zone, moment.year)
        offset = _offset(moment.astimezone(zone)) if follows_dst else standard
        minutes = offset // _MINUTE
        status = ClockStatus.DST_ACTIVE if offset > standard else ClockStatus(0)
        return cls._from_local(moment, minutes, -minutes if deviation else None, status)

    @classmethod
    def _from_local(
        cls, moment: dt.datetime, east_min: int, deviation_min: int | None, status: ClockStatus | None
    ) -> "CosemDateTime":
        try:
            local = moment + dt.timedelta(minutes=east_min)
        except OverflowError as exc:
            raise LocalProtocolError("local time outside of years 1 to 9999") from exc
        return cls(
            CosemDate(local.year, local.month, local.day, local.isoweekday()),
            CosemTime(local.hour, local.minute, local.second, local.microsecond // 10_000),
            deviation_min,
            status,
        )

    def local(self) -> dt.datetime:
        """The wall clock it shows, naive; unspecified hundredths are 0.

        Raises:
            RemoteProtocolError: another part is not specified, or the date does not exist.
        """
        d, t = self.date, self.time
        if (
            d.year is None or d.month is None or d.day is None
            or t.hour is None or t.minute is None or t.second is None
        ):  # fmt: skip
            raise RemoteProtocolError(f"{self} is not a whole moment: a part is not specified")
        micros = 0 if t.hundredths is None else t.hundredths * 10_000
        try:
            return dt.datetime(d.year, d.month, d.day, t.hour, t.minute, t.second, micros)  # noqa: DTZ001
        except ValueError as exc:
            raise RemoteProtocolError(f"{self} is not a whole moment: {exc}") from exc

    def to_utc(
        self, *, zone: ZoneInfo | None = None, follows_dst: bool = True, inverted_deviation: bool = False
    ) -> dt.datetime:
        """The moment, aware, in UTC.

        With a deviation that alone counts. Without one ``zone`` tells, and the DST bit of the status
        decides which of the two autumn hours is meant (see `local_to_utc`).

        Raises:
            RemoteProtocolError: not a whole moment, no deviation and no zone, or a local time that does not
                exist or exists twice.
        """
        local = self.local()
        if self.deviation_min is None:
            if zone is None:
                raise RemoteProtocolError(f"{self} has no deviation, and no time zone is known for it")
            return local_to_utc(local, zone, follows_dst=follows_dst, dst_active=dst_active(self.status))
        try:
            shift = dt.timedelta(minutes=-self.deviation_min if inverted_deviation else self.deviation_min)
            return (local + shift).replace(tzinfo=dt.UTC)
        except OverflowError as exc:
            raise RemoteProtocolError(f"{self} is outside of years 1 to 9999") from exc

    def __str__(self) -> str:
        east = None if self.deviation_min is None else -self.deviation_min
        offset = (
            "" if east is None else f"{'-' if east < 0 else '+'}{abs(east) // 60:02d}:{abs(east) % 60:02d}"
        )
        return f"{self.date} {self.time}{offset}"


def local_to_utc(
    local: dt.datetime, zone: ZoneInfo, *, follows_dst: bool = True, dst_active: bool | None = None
) -> dt.datetime:
    """UTC of a naive wall clock in ``zone``; ``dst_active`` chooses within the repeated autumn hour.

    Raises:
        RemoteProtocolError: the zone skips this local time, or repeats it and ``dst_active`` is None.
    """
    try:
        if not follows_dst:
            return (local - standard_offset(zone, local.year)).replace(tzinfo=dt.UTC)
        first, second = candidates(local, zone)
    except OverflowError as exc:
        raise RemoteProtocolError(f"{local} is outside of years 1 to 9999") from exc
    if first == second:
        return first
    if dst_active is None:
        raise RemoteProtocolError(f"{local} exists twice in {zone.key}, and no DST bit tells which is meant")
    return first if dst_active else second


def candidates(local: dt.datetime, zone: ZoneInfo) -> tuple[dt.datetime, dt.datetime]:
    """First and second moment at which clocks in ``zone`` show ``local``; equal outside of the repeated hour.

    Raises:
        RemoteProtocolError: the zone skips this local time.
    """
    first, second = (
        (local - _offset(local.replace(tzinfo=zone, fold=fold))).replace(tzinfo=dt.UTC) for fold in (0, 1)
    )
    # In the spring gap neither fold leads back to the wall clock it came from (PEP 495).
    if first != second and first.astimezone(zone).replace(tzinfo=None) != local:
        raise RemoteProtocolError(f"{local} does not exist in {zone.key}: clocks skip it")
    return first, second


def standard_offset(zone: ZoneInfo, year: int) -> dt.timedelta:
    """Offset east of UTC outside of daylight saving: the smaller one of January and July.

    Not utcoffset() - dst(): Ireland's dst() is negative in winter.
    """
    return min(_offset(dt.datetime(year, month, 1, tzinfo=zone)) for month in (1, 7))


def _offset(moment: dt.datetime) -> dt.timedelta:
    return moment.utcoffset() or dt.timedelta(0)


def _utc(moment: dt.datetime) -> dt.datetime:
    if moment.utcoffset() is None:
        raise LocalProtocolError(f"naive datetime {moment}: give it a time zone")
    return moment.astimezone(dt.UTC)


def _sized(name: str, raw: bytes, size: int) -> None:
    if len(raw) != size:
        raise RemoteProtocolError(f"a {name} has {size} octets, not {len(raw)}", offset=min(len(raw), size))


def _packed(layout: str, *parts: int) -> bytes:
    try:
        return struct.pack(layout, *parts)
    except struct.error as exc:
        raise LocalProtocolError(f"a part of a date or time does not fit: {parts}") from exc


def _text(value: int | None, width: int) -> str:
    return "?" * width if value is None else f"{value:0{width}d}"
