"""The work that all clients do: one load-profile day, as bytes written by hand from the A-XDR rules.

An array of 96 structures of six: octet-string(12) date-time, unsigned status, four double-long-unsigned.
Rows of 38 bytes, 3,650 bytes in all. Only the standard library is used, so that peers can read it too.
"""

import datetime as dt
import hashlib
import struct
from collections.abc import Iterable
from typing import Final

ROWS: Final = 96
#: The first stamp: 2 March 2026, 00:00 at UTC+1.
FIRST: Final = dt.datetime(2026, 3, 1, 23, 0, tzinfo=dt.UTC)
PERIOD: Final = dt.timedelta(minutes=15)
#: The last stamp.
LAST: Final = FIRST + (ROWS - 1) * PERIOD
EAST_MIN: Final = 60

#: (UTC seconds of the stamp, status, the four registers)
Row = tuple[int, int, int, int, int, int]


def rows(seed: int = 1, first: dt.datetime = FIRST) -> list[Row]:
    """The day of one meter: registers that only rise, and a status that changes."""
    a, b, c, d = 10_000_000 + seed * 37, 5_000 + seed, 700_000 + seed, 90_000 + seed
    out = []
    for i in range(ROWS):
        a, b, c, d = a + (i * 7 + seed) % 97, b + i % 3, c + (i * 5 + seed) % 31, d + i % 7
        out.append((int((first + i * PERIOD).timestamp()), (i * 13 + seed) % 5, a, b, c, d))
    return out


def buffer(day: Iterable[Row]) -> bytes:
    """The buffer attribute of these rows."""
    body = b"".join(
        b"\x02\x06\x09\x0c"
        + _date_time(seconds)
        + bytes((0x11, status))
        + b"".join(b"\x06" + value.to_bytes(4, "big") for value in values)
        for seconds, status, *values in day
    )
    return bytes((0x01, ROWS)) + body


def get_response(day: Iterable[Row], invoke: int = 0xC1) -> bytes:
    """A GET.response-normal with the buffer."""
    return bytes((0xC4, 0x01, invoke, 0x00)) + buffer(day)


def frame(apdu: bytes, source: int = 1, destination: int = 16) -> bytes:
    """Behind a wrapper header."""
    return struct.pack(">HHHH", 1, source, destination, len(apdu)) + apdu


def fingerprint(day: Iterable[Row]) -> str:
    """What clients compare: SHA-256 over all values of all rows."""
    text = ";".join(",".join(map(str, row)) for row in day)
    return hashlib.sha256(text.encode()).hexdigest()


def _date_time(seconds: int) -> bytes:
    local = dt.datetime.fromtimestamp(seconds, dt.UTC) + dt.timedelta(minutes=EAST_MIN)
    clock = (local.hour, local.minute, local.second, 0)
    day = (local.year, local.month, local.day, local.isoweekday())
    return struct.pack(">HBBBBBBBhB", *day, *clock, -EAST_MIN, 0)
