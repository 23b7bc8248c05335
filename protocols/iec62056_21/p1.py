"""P1 telegrams (DSMR and its relatives in Belgium, Luxembourg, Austria, Ireland), and their reader.

::

    / XXX Z identification CR LF
    CR LF
    data sets
    ! CRC CR LF

CRC is CRC-16/ARC over everything from ``/`` to ``!``, in four hex digits; some meters leave out leading
zeros, versions 2 and 3 have none. What the data sets mean is `p1_objects`.
"""

import re
from typing import Final, NamedTuple

from protocols.dlms.framing import Found, Missing, Refusal, StreamReader
from protocols.iec62056_21.data_sets import DataSet, Malformed
from protocols.iec62056_21.data_sets import parse as parse_sets

MAX_TELEGRAM: Final = 16384
_MAX_LINE: Final = 80
_FIRST: Final = re.compile(rb"/[A-Za-z]{3}([^\r\n/!]{1,64})\r?\n")
#: The same, as far as it has come: what can still become one.
_BEGUN: Final = re.compile(rb"/(?:[A-Za-z]{0,2}|[A-Za-z]{3}[^\r\n/!]{0,64}\r?)")
#: The end, or the first line of another telegram where this one is cut.
_END: Final = re.compile(rb"\n(!)|/[A-Za-z]{3}[^\r\n/!()]{1,64}\r?\n")
_DIGITS: Final = re.compile(rb"[0-9A-Fa-f]{0,4}")
_STRANGE: Final = re.compile(rb"[^\x20-\x7e\r\n\t]")
#: Versions 4 and 5 tell themselves in one of these objects, and always have a CRC.
_VERSION: Final = re.compile(rb"\n(?:1-3:0\.2\.8\(([45])\d\)|0-0:96\.1\.4\(([45])\d{4}\))")
#: Objects that no plain IEC 62056-21 readout has: the equipment identifier and the tariff indicator.
_TYPICAL: Final = re.compile(rb"\n(?:1-3:0\.2\.8|0-0:96\.1\.[14]|0-0:96\.14\.0)\(")


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        crc = value
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC: Final = _table()


def crc16(data: bytes) -> int:
    """CRC-16/ARC: polynomial 0x8005 reflected, from 0."""
    crc = 0
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc


class P1Telegram(NamedTuple):
    """One telegram. ``crc`` None where it has none; else it holds.

    ``identification`` is the first line without its slash, ``text`` the lines between it and ``!``; they
    begin at ``text_offset`` of the stream. ``bare_line_ends``: the CRC holds with every line end made CR LF.
    """

    identification: str
    text: str
    crc: int | None = None
    bare_line_ends: bool = False
    offset: int = 0
    text_offset: int = 0

    @property
    def maker(self) -> str:
        """The three letters of the manufacturer."""
        return self.identification[:3]

    @property
    def is_typical(self) -> bool:
        """True where it is surely P1, and not a readout of IEC 62056-21 in mode D, which looks the same."""
        return self.crc is not None or _TYPICAL.search(b"\n" + self.text.encode("latin-1")) is not None

    def sets(self) -> tuple[tuple[DataSet, ...], tuple[Malformed, ...]]:
        """Data sets and what is malformed, offsets counted from ``text_offset``."""
        return parse_sets(self.text)

    def __str__(self) -> str:
        return f"P1 /{self.identification}, {len(self.text)} characters"


def parse(
    buffer: bytes | bytearray, start: int = 0, *, offset: int = 0, final: bool = False
) -> Found[P1Telegram] | Missing | Refusal:
    """What begins at ``start``; the buffer lies at ``offset`` of the stream. Never raises.

    ``final``: nothing comes behind the buffer, so that a line end behind ``!`` may be missing.
    """
    line_end = buffer.find(b"\n", start, start + _MAX_LINE) + 1
    line = bytes(buffer[start : line_end or start + _MAX_LINE])
    if not line_end:
        if len(line) < _MAX_LINE and _BEGUN.fullmatch(line):
            return Missing(len(line), None)
        return Refusal("no first line of a P1 telegram", claimed=False)
    if not _FIRST.fullmatch(line):
        return Refusal("no first line of a P1 telegram", claimed=False)
    limit = start + MAX_TELEGRAM
    end = _END.search(buffer, line_end - 1, limit)
    # Only whole lines: one that is still coming may be the first of another telegram.
    lines_end = buffer.rfind(b"\n", line_end, limit) + 1 if end is None else end.start()
    strange = _STRANGE.search(buffer, line_end, max(line_end, lines_end))
    if strange is not None:
        place = strange.start() - start
        byte = buffer[strange.start()]
        return Refusal(f"0x{byte:02X} at byte {place} of a P1 telegram", claimed=True)
    if end is None:
        if len(buffer) >= limit:
            return Refusal(f"a P1 telegram of more than {MAX_TELEGRAM} bytes", claimed=True)
        return Missing(len(buffer) - start, None)
    if end[1] is None:
        return Refusal("P1 telegram cut short: another one begins", claimed=True)
    close = end.start(1)
    digits = _DIGITS.match(buffer, close + 1)
    told = b"" if digits is None else digits[0]
    behind = close + 1 + len(told)
    if behind == len(buffer) and len(told) < 4 and not final:
        return Missing(len(buffer) - start, None)
    body = bytes(buffer[start : close + 1])
    bare = False
    if told:
        crc = crc16(body)
        if crc != int(told, 16) and b"\r" not in body:
            bare = True
            crc = crc16(body.replace(b"\n", b"\r\n"))
        if crc != int(told, 16):
            return Refusal(f"P1 CRC is {told.decode()}, the bytes say {crc16(body):04X}", claimed=True)
    elif _VERSION.search(body):
        return Refusal("P1 telegram of a version that has a CRC, and it has none", claimed=True)
    telegram = P1Telegram(
        line[1:].decode("latin-1").rstrip("\r\n"),
        bytes(buffer[line_end:close]).decode("ascii"),
        int(told, 16) if told else None,
        bare,
        offset + start,
        offset + line_end,
    )
    return Found(telegram, behind)


class P1Reader(StreamReader[P1Telegram]):
    """Telegrams out of a byte stream; bad stretches are told as BadFrame and reading goes on behind them."""

    def __init__(self) -> None:
        super().__init__(bound=MAX_TELEGRAM)

    def _find(self, start: int) -> int:
        index = self._buffer.find(b"/", start)
        return len(self._buffer) if index < 0 else index

    def _parse(self, start: int) -> Found[P1Telegram] | Missing | Refusal:
        return parse(self._buffer, start, offset=self._offset, final=self._ended)

    def _is_filling(self, data: bytes) -> bool:
        return not data.strip(b"\r\n\0")
