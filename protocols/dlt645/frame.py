"""Frames of DL/T 645-2007, and a reader that finds them on a dirty line.

::

    FE FE FE FE | 68 | A0 .. A5 | 68 | C | L | data | CS | 16

FE wakes the receiver and is no part of the frame. The address goes low byte first, two decimal digits a byte;
AA in its place stands for any digits. Every byte of the data is sent plus 0x33. CS is the sum of all bytes
from the first 68 to the end of the data, modulo 256.
"""

from typing import Any, Final, NamedTuple

from construct import Byte, Bytes, Const, ConstructError, GreedyBytes, Prefixed, Struct

from protocols.dlms.framing import Found, Missing, Refusal, StreamReader
from protocols.dlt645.control import Control
from protocols.errors import LocalProtocolError

WILDCARD: Final = "A" * 12
BROADCAST: Final = "9" * 12

_START: Final = 0x68
_STOP: Final = 0x16
_WAKE: Final = 0xFE
_OFFSET: Final = 0x33
_HEAD: Final = 10  # up to and with L
MAX_PREAMBLE: Final = 16  # the standard asks for one to four, some gateways send more
MAX_FRAME: Final = _HEAD + 255 + 2

_BODY: Final = Struct(
    Const(_START, Byte),
    "address" / Bytes(6),
    Const(_START, Byte),
    "control" / Byte,
    "data" / Prefixed(Byte, GreedyBytes),
)
_PLUS: Final = bytes((value + _OFFSET) & 0xFF for value in range(256))
_MINUS: Final = bytes((value - _OFFSET) & 0xFF for value in range(256))


class Dlt645Frame(NamedTuple):
    """One frame whose checksum holds.

    ``address``: twelve characters as printed on the meter, high digits first, ``A`` where any digit is meant.
    ``data`` without the 0x33. ``preamble`` counts the FE before it, ``offset`` is where those begin.
    """

    address: str
    control: Control
    data: bytes = b""
    preamble: int = 0
    offset: int = 0

    def __repr__(self) -> str:
        # What is written to a meter may hold its password.
        return f"Dlt645Frame({self.address}, {self.control}, {len(self.data)} bytes, offset={self.offset})"

    def __str__(self) -> str:
        return f"DL/T 645 {self.address} {self.control}, {len(self.data)} bytes"


def encode_frame(frame: Dlt645Frame) -> bytes:
    """The frame on the wire, behind its preamble.

    Raises:
        LocalProtocolError: an address that is none, or data beyond 255 bytes.
    """
    if len(frame.data) > 0xFF:
        raise LocalProtocolError(f"a DL/T 645 frame carries at most 255 bytes, not {len(frame.data)}")
    body: bytes = _BODY.build(
        {
            "address": address_bytes(frame.address),
            "control": int(frame.control),
            "data": frame.data.translate(_PLUS),
        }
    )
    return bytes((_WAKE,)) * frame.preamble + body + bytes((sum(body) & 0xFF, _STOP))


def address_bytes(address: str) -> bytes:
    """The six bytes of an address on the wire; a shorter one gets zeros in front.

    Raises:
        LocalProtocolError: more than twelve characters, a character that is no digit, or ``A`` for half a
            byte.
    """
    digits = address.upper().rjust(12, "0")
    pairs = [digits[at : at + 2] for at in range(0, len(digits), 2)]
    if len(pairs) != 6 or not all(pair == "AA" or (pair.isascii() and pair.isdigit()) for pair in pairs):
        raise LocalProtocolError(f"not a DL/T 645 address: {address!r} (twelve digits, AA for any two)")
    return bytes.fromhex("".join(reversed(pairs)))


def parse(
    buffer: bytes | bytearray, start: int = 0, *, offset: int = 0
) -> Found[Dlt645Frame] | Missing | Refusal:
    """What begins at ``start``, FE included; the buffer lies at ``offset`` of the stream. Never raises."""
    head = start
    while head < len(buffer) and buffer[head] == _WAKE:
        head += 1
        if head - start > MAX_PREAMBLE:
            return Refusal("more FE than any preamble has", claimed=False)
    present = len(buffer) - start
    if head == len(buffer):
        return Missing(present, None)
    if buffer[head] != _START:
        return Refusal("no DL/T 645 start byte", claimed=False)
    address = bytes(buffer[head + 1 : head + 7])
    if not all(_is_bcd(byte) or byte == 0xAA for byte in address):
        return Refusal("no DL/T 645 address behind the start byte", claimed=False)
    if len(buffer) > head + 7 and buffer[head + 7] != _START:
        return Refusal("no second DL/T 645 start byte", claimed=False)
    if len(buffer) < head + _HEAD:
        return Missing(present, None)
    check = head + _HEAD + buffer[head + 9]
    end = check + 2
    if len(buffer) < end:
        return Missing(present, end - start)
    if buffer[check + 1] != _STOP:
        length = buffer[head + 9]
        return Refusal(f"no DL/T 645 stop byte behind the {length} bytes of data", claimed=True)
    if sum(buffer[head:check]) & 0xFF != buffer[check]:
        return Refusal("DL/T 645 checksum is wrong", claimed=True)
    try:
        body: Any = _BODY.parse(bytes(buffer[head:check]))
    except ConstructError as exc:  # cannot be: the head is checked and the length is there
        return Refusal(f"no DL/T 645 frame: {exc}", claimed=True)
    frame = Dlt645Frame(
        bytes(reversed(body.address)).hex().upper(),
        Control(body.control),
        bytes(body.data).translate(_MINUS),
        head - start,
        offset + start,
    )
    return Found(frame, end)


class Dlt645Reader(StreamReader[Dlt645Frame]):
    """Frames out of a byte stream; bad stretches are told as BadFrame and reading goes on behind them."""

    def __init__(self) -> None:
        super().__init__(bound=MAX_PREAMBLE + MAX_FRAME)

    def _find(self, start: int) -> int:
        found = (self._buffer.find(b"\x68", start), self._buffer.find(b"\xfe", start))
        return min((index for index in found if index >= 0), default=len(self._buffer))

    def _parse(self, start: int) -> Found[Dlt645Frame] | Missing | Refusal:
        return parse(self._buffer, start, offset=self._offset)

    def _is_filling(self, data: bytes) -> bool:
        return not data.strip(b"\xfe")


def _is_bcd(byte: int) -> bool:
    return byte >> 4 < 10 and byte & 0x0F < 10
