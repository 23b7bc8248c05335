"""Tariff tables of DL/T 645-2007: time zones of the year and the periods of days, in two sets.

One set counts, the other waits; both change their places at the switching times. Identifiers, with s for the
set, 1 or 2: 04-0s-00-00 the time zones (start MMDD and number of a day table), 04-0s-00-01 to 08 the day
tables (start hhmm and number of a tariff), 04-00-01-06 and 07 the times at which time zones and day tables
change their sets, 04-00-05-03 the status word that tells which set counts: bit 0 of the day tables, bit 5 of
the time zones. Written after what makers' manuals tell of the standard; its clause is not at hand, in
particular that rows which are not used repeat the last one.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from protocols.dlt645.identifiers import DataId
from protocols.errors import LocalProtocolError, RemoteProtocolError

STATUS: Final = DataId.parse("04-00-05-03")
SWITCH_ZONES: Final = DataId.parse("04-00-01-06")
SWITCH_DAYS: Final = DataId.parse("04-00-01-07")
SETS: Final = (1, 2)
#: Rows of a table, and day tables of a set.
ROWS: Final = 14
TABLES: Final = 8
#: A switching time where none is set.
NEVER: Final = bytes.fromhex("9999999999")
_ROW: Final = 3
_TIME: Final = 5
_ZONE_BIT: Final = 5


class Zone(NamedTuple):
    """From this day of the year on, this day table counts."""

    month: int
    day: int
    table: int


class Period(NamedTuple):
    """From this minute of the day on, this tariff counts."""

    minute: int
    tariff: int


def zones_id(one_of: int) -> DataId:
    """The time zones of set 1 or 2."""
    return DataId(4, one_of, 0, 0)


def table_id(one_of: int, table: int) -> DataId:
    """Day table 1 to 8 of set 1 or 2."""
    return DataId(4, one_of, 0, table)


def encode_zones(zones: Sequence[Zone]) -> bytes:
    """All rows, what is not used as the last. Raises LocalProtocolError."""
    return _rows([(one.month, one.day, one.table) for one in zones], "time zones of the year")


def encode_table(periods: Sequence[Period]) -> bytes:
    """The same of a day table."""
    return _rows([(one.minute // 60, one.minute % 60, one.tariff) for one in periods], "periods of a day")


def decode_zones(data: bytes) -> tuple[Zone, ...]:
    """Without those that repeat; none where the set was never written. Raises RemoteProtocolError."""
    found = []
    for month, day, table in _triples(data):
        if not (1 <= month <= 12 and 1 <= day <= 31 and 1 <= table <= TABLES):
            raise RemoteProtocolError(f"a time zone from {month:02d}-{day:02d} with day table {table}")
        found.append(Zone(month, day, table))
    return tuple(dict.fromkeys(found))


def decode_table(data: bytes) -> tuple[Period, ...]:
    """The same of a day table."""
    found = []
    for hour, minute, tariff in _triples(data):
        if hour > 23 or minute > 59:
            raise RemoteProtocolError(f"a period from {hour:02d}:{minute:02d}")
        found.append(Period(60 * hour + minute, tariff))
    return tuple(dict.fromkeys(found))


def encode_time(local: datetime) -> bytes:
    """A switching time, in the meter's local time; whole minutes. Raises LocalProtocolError."""
    if local.second or local.microsecond:
        raise LocalProtocolError(f"{local}: DL/T 645 switches at whole minutes")
    return bytes(reversed(bytes.fromhex(local.strftime("%y%m%d%H%M"))))


def decode_time(data: bytes) -> datetime | None:
    """Naive; None where none is set. Raises RemoteProtocolError for a length that it has not."""
    if len(data) != _TIME:
        raise RemoteProtocolError(f"a switching time has {_TIME} bytes, not {len(data)}")
    try:
        return datetime.strptime(bytes(reversed(data)).hex(), "%y%m%d%H%M")  # noqa: DTZ007 - the meter's
    except ValueError:
        return None


def decode_status(data: bytes) -> tuple[int, int]:
    """Which sets count, of the time zones and of the day tables: 1 or 2 each."""
    if len(data) != 2:
        raise RemoteProtocolError(f"a status word has 2 bytes, not {len(data)}")
    word = int.from_bytes(data, "little")
    return 1 + (word >> _ZONE_BIT & 1), 1 + (word & 1)


def encode_status(zones: int, days: int) -> bytes:
    """The reverse, all else zero."""
    return ((zones - 1) << _ZONE_BIT | (days - 1)).to_bytes(2, "little")


def _rows(rows: Sequence[tuple[int, int, int]], what: str) -> bytes:
    if not 0 < len(rows) <= ROWS:
        raise LocalProtocolError(f"1 to {ROWS} {what} can be written, not {len(rows)}")
    filled = [*rows, *[rows[-1]] * (ROWS - len(rows))]
    return b"".join(bytes.fromhex(f"{third:02d}{second:02d}{first:02d}") for first, second, third in filled)


def _triples(data: bytes) -> list[tuple[int, int, int]]:
    if len(data) % _ROW:
        raise RemoteProtocolError(f"rows of {_ROW} bytes are no {len(data)} bytes")
    out = []
    for at in range(0, len(data), _ROW):
        raw = data[at : at + _ROW]
        if set(raw) in ({0}, {0xFF}):
            continue  # never written
        try:
            third, second, first = (int(f"{one:02x}") for one in raw)
        except ValueError:
            raise RemoteProtocolError(f"{raw.hex()} is not binary-coded decimal", offset=at) from None
        out.append((first, second, third))
    return out
