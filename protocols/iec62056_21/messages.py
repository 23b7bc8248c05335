"""Messages of IEC 62056-21 as they stand on the wire, and a reader that finds them on a dirty line.

::

    / ? address ! CR LF                     sign-on, from the reader
    / XXX Z identification CR LF            identification, from the meter
    ACK V Z Y CR LF                         option select, from the reader (and echoed before HDLC)
    STX data sets ! CR LF ETX BCC           readout in modes A, B, C
    data sets ! CR LF                       readout in mode D, without a check
    SOH C D STX data set ETX BCC            command of the programming mode

Characters have seven bit; a parity bit that the line left in is taken off. BCC is the exclusive or of all
bytes behind the first SOH or STX, up to and with ETX (or EOT, where another block follows).
"""

import re
from enum import StrEnum
from functools import reduce
from operator import xor
from typing import Final, NamedTuple

from protocols.dlms.framing import Found, Missing, Refusal, StreamReader
from protocols.iec62056_21.data_sets import DataSet, Malformed
from protocols.iec62056_21.data_sets import parse as parse_sets

ACK: Final = b"\x06"
NAK: Final = b"\x15"
MAX_LINE: Final = 80
MAX_BLOCK: Final = 65536

BAUD: Final = {"0": 300, "1": 600, "2": 1200, "3": 2400, "4": 4800, "5": 9600, "6": 19200}
_BAUD_MODE_B: Final = {"A": 600, "B": 1200, "C": 2400, "D": 4800, "E": 9600, "F": 19200}

_SEVEN_BITS: Final = bytes(value & 0x7F for value in range(256))
#: What stands between messages: line ends, the zeros that wake battery meters, single ACK and NAK.
_FILLING: Final = b"\r\n\0\x7f\x06\x15 "
_SOLID: Final = re.compile(b"[^" + re.escape(_FILLING) + b"]")
_STARTS: Final = re.compile(rb"[/\x01\x02\x06]")
_CONTROL: Final = re.compile(rb"[^\x20-\x7e\r\n\t]")
_MARKS: Final = re.compile(rb"[(!]")  # a readout has data sets, or at least its end mark
_SIGN_ON: Final = re.compile(rb"/\?([^/!\r\n]{0,32})!\r?\n")
_IDENTIFICATION: Final = re.compile(rb"/([A-Za-z]{3})([!-~])([ -~]{0,64})\r?\n")
_OPTION: Final = re.compile(rb"\x06([0-9])([0-9A-Z])([0-9A-Z])\r\n")
_COMMAND: Final = re.compile(rb"\x01([A-Z])([0-9A-Z])")
_PLAIN: Final = re.compile(rb"[0-9A-Za-z][0-9A-Za-z.:*&-]{0,31}\(")
_PLAIN_END: Final = re.compile(rb"\)[\r\n\t ]*(!)|\n(/)")
_PLAIN_WHOLE: Final = re.compile(rb"(?:[0-9A-Za-z][0-9A-Za-z.:*&-]{0,31}(?:\([^()\r\n]*\)[\r\n]*)+)+")


class Mode(StrEnum):
    """How a meter goes on behind its identification."""

    A = "A"  # readout at the same rate
    B = "B"  # readout at the rate of Z, without being asked
    C = "C"  # waits for the option select
    E = "E"  # like C, and offers another protocol


class SignOn(NamedTuple):
    """The reader calls. An empty address calls any meter."""

    address: str = ""
    offset: int = 0

    def to_bytes(self) -> bytes:
        """``/?address!`` and line end."""
        return f"/?{self.address}!\r\n".encode("ascii")


class Identification(NamedTuple):
    """The meter says who it is: ``maker`` (three letters), ``baud_char``, ``text`` with its escapes."""

    maker: str
    baud_char: str
    text: str
    offset: int = 0

    @property
    def escapes(self) -> str:
        r"""The characters behind the backslashes that ``text`` begins with: ``\2`` offers HDLC."""
        found = re.match(r"(?:\\.)+", self.text)
        return "" if found is None else found[0][1::2]

    @property
    def mode(self) -> Mode:
        """By the baud character, as the standard tells the modes apart."""
        if self.baud_char in BAUD:
            return Mode.E if "2" in self.escapes else Mode.C
        return Mode.B if self.baud_char in _BAUD_MODE_B else Mode.A

    @property
    def baud(self) -> int:
        """The rate that ``baud_char`` offers; 300 where it offers none."""
        return BAUD.get(self.baud_char) or _BAUD_MODE_B.get(self.baud_char) or BAUD["0"]


class OptionSelect(NamedTuple):
    """``protocol`` 0 normal, 2 HDLC; ``baud_char``; ``mode`` 0 readout, 1 programming, 2 binary (HDLC)."""

    protocol: str
    baud_char: str
    mode: str
    offset: int = 0

    def to_bytes(self) -> bytes:
        """ACK and three characters."""
        return ACK + f"{self.protocol}{self.baud_char}{self.mode}\r\n".encode("ascii")


class Block(NamedTuple):
    """Data sets. ``command`` is ``W2`` and the like in the programming mode, else None.

    ``checked`` tells whether a block check was there (and held); ``last`` is False where another block
    follows. ``complete`` is False where data without a frame ended without its ``!``.
    """

    text: str
    command: str | None = None
    checked: bool = True
    last: bool = True
    complete: bool = True
    offset: int = 0
    text_offset: int = 0

    @property
    def is_password(self) -> bool:
        """True where the text is a password: it is not to be shown."""
        return self.command in ("P1", "P2")

    def sets(self) -> tuple[tuple[DataSet, ...], tuple[Malformed, ...]]:
        """The data sets and what is malformed, offsets counted from ``text_offset``."""
        return parse_sets(self.text)

    def __repr__(self) -> str:
        kind = "readout" if self.command is None else f"command {self.command}"
        return f"Block({kind}, {len(self.text)} characters, offset={self.offset})"

    def __str__(self) -> str:
        return repr(self)


IecMessage = SignOn | Identification | OptionSelect | Block
Outcome = Found[IecMessage] | Missing | Refusal


def seven_bits(data: bytes) -> bytes:
    """The characters without their parity bit, byte for byte."""
    return data.translate(_SEVEN_BITS)


def block_check(data: bytes) -> int:
    """BCC of what stands behind the first SOH or STX, ETX included."""
    return reduce(xor, data, 0)


def parse(
    buffer: bytes | bytearray, start: int = 0, *, offset: int = 0, plain: bool = False, final: bool = False
) -> Outcome:
    """What begins at ``start``; the buffer lies at ``offset`` of the stream. Never raises.

    ``plain``: data sets without any frame are taken, too (mode D). ``final``: nothing comes behind them.
    """
    first = buffer[start : start + 1]
    if first == b"/":
        return _line(buffer, start, offset)
    if first == ACK:
        return _option(buffer, start, offset)
    if first in (b"\x01", b"\x02"):
        return _block(buffer, start, offset)
    if plain:
        return _plain(buffer, start, offset, final)
    return Refusal("no message of IEC 62056-21", claimed=False)


def _line(buffer: bytes | bytearray, start: int, offset: int) -> Outcome:
    end = buffer.find(b"\n", start, start + MAX_LINE) + 1
    line = bytes(buffer[start : end or start + MAX_LINE])
    if not end:
        if len(line) < MAX_LINE and not _CONTROL.search(line):
            return Missing(len(line), None)
        return Refusal("neither a sign-on nor an identification", claimed=False)
    if called := _SIGN_ON.fullmatch(line):
        return Found(SignOn(called[1].decode("latin-1"), offset + start), end)
    told = _IDENTIFICATION.fullmatch(line)
    if told is None:
        return Refusal("neither a sign-on nor an identification", claimed=False)
    maker, baud_char, text = (group.decode("ascii") for group in told.groups())
    return Found(Identification(maker, baud_char, text, offset + start), end)


def _option(buffer: bytes | bytearray, start: int, offset: int) -> Outcome:
    raw = bytes(buffer[start : start + 6])
    found = _OPTION.fullmatch(raw)
    if found is None:
        if len(raw) < 6 and _OPTION.fullmatch(raw + b"\x06000\r\n"[len(raw) :]):
            return Missing(len(raw), 6)
        return Refusal("no option select", claimed=False)
    protocol, baud_char, mode = (group.decode("ascii") for group in found.groups())
    return Found(OptionSelect(protocol, baud_char, mode, offset + start), start + 6)


def _block(buffer: bytes | bytearray, start: int, offset: int) -> Outcome:
    command = None
    text_start = start + 1
    if buffer[start] == 1:
        head = bytes(buffer[start : start + 4])
        if len(head) < 4 and (len(head) < 3 or _COMMAND.match(head)):
            return Missing(len(head), None)
        found = _COMMAND.match(head)
        if found is None or head[3] not in (2, 3):
            return Refusal("no command of IEC 62056-21", claimed=False)
        command = (found[1] + found[2]).decode("ascii")
        text_start = start + (4 if head[3] == 2 else 3)
    limit = start + MAX_BLOCK
    control = _CONTROL.search(buffer, text_start, limit)
    if control is None:
        if len(buffer) >= limit:
            return Refusal(f"a block of more than {MAX_BLOCK} bytes", claimed=True)
        return Missing(len(buffer) - start, None)
    close = control.start()
    if buffer[close] not in (3, 4):
        return Refusal(f"0x{buffer[close]:02X} inside a block", claimed=False)
    if len(buffer) < close + 2:
        return Missing(len(buffer) - start, close + 2 - start)
    if command is None and not _MARKS.search(buffer, text_start, close):
        return Refusal("a block without any data set", claimed=False)
    expected = block_check(bytes(buffer[start + 1 : close + 1]))
    if buffer[close + 1] != expected:
        told = buffer[close + 1]
        inside = _COMMAND.fullmatch(buffer[max(0, start - 3) : start])  # of a command that is told as bad
        return Refusal(f"block check is 0x{told:02X}, the bytes say 0x{expected:02X}", claimed=not inside)
    text = bytes(buffer[text_start:close]).decode("ascii")
    last = buffer[close] == 3
    return Found(
        Block(text, command, last=last, offset=offset + start, text_offset=offset + text_start), close + 2
    )


def _plain(buffer: bytes | bytearray, start: int, offset: int, final: bool) -> Outcome:
    head = bytes(buffer[start : start + 33])
    if not _PLAIN.match(head):
        if len(head) < 33 and _PLAIN.match(head + b"("):
            return Missing(len(head), None)
        return Refusal("no data set", claimed=False)
    limit = start + MAX_BLOCK
    control = _CONTROL.search(buffer, start, limit)
    until = limit if control is None else control.start()
    end = _PLAIN_END.search(buffer, start, until)
    if end is not None and end[1]:
        text = bytes(buffer[start : end.end()]).decode("ascii")
        return Found(Block(text, checked=False, offset=offset + start, text_offset=offset + start), end.end())
    if end is not None:
        return Refusal("data sets without an end: another message begins", claimed=True)
    if control is not None:
        return Refusal(f"0x{buffer[until]:02X} inside data sets", claimed=True)
    if len(buffer) >= limit:
        return Refusal(f"data sets of more than {MAX_BLOCK} bytes", claimed=True)
    if final and _PLAIN_WHOLE.fullmatch(buffer, start):
        text = bytes(buffer[start:]).decode("ascii")
        block = Block(text, checked=False, complete=False, offset=offset + start, text_offset=offset + start)
        return Found(block, len(buffer))
    return Missing(len(buffer) - start, None)


def filling(data: bytes | bytearray, start: int = 0, end: int | None = None) -> int:
    """Index of the first byte from ``start`` that is no filling; ``end`` (or all) where there is none."""
    end = len(data) if end is None else end
    found = _SOLID.search(data, start, end)
    return end if found is None else found.start()


class IecReader(StreamReader[IecMessage]):
    """Messages out of a byte stream; bad stretches are told as BadFrame and reading goes on behind them.

    Data sets without a frame are taken only behind another message or at the beginning: not out of the middle
    of a block whose check is wrong.
    """

    def __init__(self) -> None:
        super().__init__(bound=MAX_BLOCK + MAX_LINE)
        self._filled = 0  # leading bytes that are known as filling: a silent line sends nothing else

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Append received bytes; a parity bit is taken off, except from a block check that has none."""
        super().feed(seven_bits(bytes(data)))

    def _find(self, start: int) -> int:
        found = _STARTS.search(self._buffer, start)
        index = len(self._buffer) if found is None else found.start()
        clean = self._clean()
        return clean if start <= clean < index else index

    def _parse(self, start: int) -> Outcome:
        # `_find` comes with anything but the beginning of a framed message only where data sets may begin.
        return parse(self._buffer, start, offset=self._offset, plain=True, final=self._ended)

    def _clean(self) -> int:
        self._filled = filling(self._buffer, self._filled)
        return self._filled

    def _drop(self, count: int) -> None:
        super()._drop(count)
        self._filled = max(0, self._filled - count)

    def _is_filling(self, data: bytes) -> bool:
        return not data.strip(_FILLING)
