"""Public holidays and rest days of DL/T 645-2007: days with another day table than the time zone's.

A public holiday goes before a rest day, and this before the time zone. Neither has a second set: what is
written counts at once, by the day tables of the set that counts. Identifiers: 04-00-02-05 how many public
holidays there are (at most 254), 04-03-00-01 to FE each of them (YYMMDDNN: date and day table), 04-00-08-01
the rest days of the week (bit 0 Sunday to bit 6 Saturday; 1 a working day, 0 a rest day), 04-00-08-02 their
day table. After tables of the standard's annexes A and C as others have written them down; the clauses are
not at hand, in particular for which goes before which, and that the number takes two bytes, as 254 needs.
"""

from collections.abc import Collection
from datetime import date
from typing import Final, NamedTuple

from protocols.dlt645.identifiers import DataId
from protocols.dlt645.tariff import TABLES
from protocols.errors import LocalProtocolError, RemoteProtocolError

COUNT: Final = DataId.parse("04-00-02-05")
REST_WORD: Final = DataId.parse("04-00-08-01")
REST_TABLE: Final = DataId.parse("04-00-08-02")
#: Public holidays at most, and the years that two digits tell.
MOST: Final = 254
YEARS: Final = range(2000, 2100)
_HOLIDAY: Final = 4
_ALL_WORK: Final = 0x7F
_WEEK: Final = 7


class Holiday(NamedTuple):
    """On this date, once, this day table counts."""

    year: int
    month: int
    day: int
    table: int


def holiday_id(number: int) -> DataId:
    """Public holiday 1 to 254."""
    return DataId(4, 3, 0, number)


def encode_count(count: int) -> bytes:
    """How many there are. Raises LocalProtocolError."""
    if not 0 <= count <= MOST:
        raise LocalProtocolError(f"a meter keeps up to {MOST} public holidays, not {count}")
    return bytes(reversed(bytes.fromhex(f"{count:04d}")))


def decode_count(data: bytes) -> int:
    """The reverse; some meters tell it in one byte. Raises RemoteProtocolError."""
    if len(data) not in (1, 2):
        raise RemoteProtocolError(f"a number of public holidays has 2 bytes, not {len(data)}")
    found = _digits(bytes(reversed(data)))
    if found > MOST:
        raise RemoteProtocolError(f"{found} public holidays, of at most {MOST}")
    return found


def encode_holiday(one: Holiday) -> bytes:
    """Four bytes, the table first. Raises LocalProtocolError for another century."""
    if one.year not in YEARS:
        raise LocalProtocolError(f"{one.year}: DL/T 645 tells years in two digits")
    told = f"{one.year % 100:02d}{one.month:02d}{one.day:02d}{one.table:02d}"
    return bytes(reversed(bytes.fromhex(told)))


def decode_holiday(data: bytes) -> Holiday | None:
    """None where none is set. Raises RemoteProtocolError for what is no date, or no day table."""
    if len(data) != _HOLIDAY:
        raise RemoteProtocolError(f"a public holiday has {_HOLIDAY} bytes, not {len(data)}")
    if set(data) in ({0}, {0xFF}, {0x99}):
        return None
    year, month, day, table = (_digits(data[n : n + 1]) for n in (3, 2, 1, 0))
    try:
        date(YEARS.start + year, month, day)
    except ValueError:
        raise RemoteProtocolError(f"a public holiday on {year:02d}-{month:02d}-{day:02d}") from None
    if not 1 <= table <= TABLES:
        raise RemoteProtocolError(f"a public holiday with day table {table}")
    return Holiday(YEARS.start + year, month, day, table)


def encode_rest_days(weekdays: Collection[int]) -> bytes:
    """The feature word; ``weekdays``: Monday 0."""
    word = _ALL_WORK
    for one in weekdays:
        word &= ~(1 << _bit(one))
    return bytes((word,))


def decode_rest_days(data: bytes) -> tuple[int, ...]:
    """Days of the week, Monday 0, in order. Bit 7 is reserved. Raises RemoteProtocolError."""
    if len(data) != 1:
        raise RemoteProtocolError(f"the word of rest days has 1 byte, not {len(data)}")
    return tuple(one for one in range(_WEEK) if not data[0] >> _bit(one) & 1)


def encode_table_number(number: int) -> bytes:
    """A day table's number."""
    return bytes.fromhex(f"{number:02d}")


def decode_table_number(data: bytes) -> int:
    """The reverse. Raises RemoteProtocolError."""
    found = _digits(data) if len(data) == 1 else 0
    if not 1 <= found <= TABLES:
        raise RemoteProtocolError(f"{data.hex()} is no number of a day table, 1 to {TABLES}")
    return found


def _bit(weekday: int) -> int:
    """Sunday is the first."""
    return (weekday + 1) % _WEEK


def _digits(data: bytes) -> int:
    try:
        return int(data.hex())
    except ValueError:
        raise RemoteProtocolError(f"{data.hex()} is not binary-coded decimal") from None
