"""HDLC frames of the DLMS data link layer (IEC 62056-46, frame format type 3), and their reader.

::

    7E | format 1010 S LLL LLLLLLLL | destination | source | control | HCS | information | FCS | 7E

S is the segmentation bit, L the number of bytes between the flags. HCS stands only where there is
information. There is no octet stuffing: 7E and 7D may stand inside, the length rules. Two frames may share
one flag. HCS and FCS are CRC-16/X.25, low byte first.
"""

import binascii
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from protocols.dlms.framing import Found, Missing, Refusal, StreamReader
from protocols.errors import LocalProtocolError

FLAG = 0x7E
MAX_FRAME = 0x7FF  # the length field has 11 bit
_MIN_FRAME = 7  # format 2, addresses 1 + 1, control 1, FCS 2

LLC_COMMAND = b"\xe6\xe6\x00"  # client to server
LLC_RESPONSE = b"\xe6\xe7\x00"  # server to client

_FLAG_BYTES = b"\x7e"
# CRC-16/X.25 is the reflected form of the CRC that binascii computes in C: reflect the bytes, then the
# result.
_REFLECT = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_RESIDUE = 0x1D0F  # register after data and its own check, not reflected


def fcs16(data: bytes | bytearray | memoryview) -> bytes:
    """CRC-16/X.25 over ``data`` as its two bytes on the wire, low byte first."""
    register = binascii.crc_hqx(bytes(data).translate(_REFLECT), 0xFFFF) ^ 0xFFFF
    return bytes((_REFLECT[register >> 8], _REFLECT[register & 0xFF]))


def check_ok(data: bytes | bytearray | memoryview) -> bool:
    """True if the last two bytes are the CRC-16/X.25 of those before."""
    return binascii.crc_hqx(bytes(data).translate(_REFLECT), 0xFFFF) == _RESIDUE


class HdlcAddress(NamedTuple):
    """An address of one byte (``lower`` None), two bytes (upper, lower) or four (``wide``: 14 bit each).

    A client has ``upper`` alone; on the server's side ``upper`` is the logical device and ``lower`` the
    physical one.
    """

    upper: int
    lower: int | None = None
    wide: bool = False

    @property
    def station(self) -> tuple[int, int | None]:
        """The address without its width: a meter may answer with another width than it was called."""
        return self.upper, self.lower

    @property
    def is_all_station(self) -> bool:
        """True for the broadcast address (0x7F, or 0x3FFF in the wide form)."""
        every = 0x3FFF if self.wide else 0x7F
        return self.upper == every and self.lower in (None, every)

    @property
    def is_no_station(self) -> bool:
        """True for address 0, which nobody has: what goes there is dropped."""
        return self.upper == 0 and not self.lower

    def to_bytes(self) -> bytes:
        """1, 2 or 4 bytes, the last with bit 0 set. Raises LocalProtocolError when a part does not fit."""
        top = 0x3FFF if self.wide else 0x7F
        lower = 0 if self.lower is None else self.lower
        if not (0 <= self.upper <= top and 0 <= lower <= top) or (self.wide and self.lower is None):
            raise LocalProtocolError(f"HDLC address {self} cannot be written")
        parts: tuple[int, ...]
        if self.wide:
            parts = (self.upper >> 7, self.upper & 0x7F, lower >> 7, lower & 0x7F)
        elif self.lower is None:
            parts = (self.upper,)
        else:
            parts = (self.upper, lower)
        return bytes(part << 1 for part in parts[:-1]) + bytes((parts[-1] << 1 | 1,))

    def __str__(self) -> str:
        return f"{self.upper}" if self.lower is None else f"{self.upper}/{self.lower}"


NO_STATION = HdlcAddress(0)
CLIENT_MANAGEMENT = HdlcAddress(0x01)
PUBLIC_CLIENT = HdlcAddress(0x10)
ALL_STATION = HdlcAddress(0x7F)


def server_address(logical: int, physical: int | None = None, size: int | None = None) -> HdlcAddress:
    """The server's address in ``size`` bytes (1, 2 or 4), by default the shortest that holds it.

    Raises LocalProtocolError when the parts do not fit the size.
    """
    if size is None:
        size = 1 if physical is None and logical <= 0x7F else 2 if max(logical, physical or 0) <= 0x7F else 4
    if size not in (1, 2, 4) or (size == 1 and physical is not None):
        raise LocalProtocolError(
            f"no HDLC address of {size} bytes for logical {logical}, physical {physical}"
        )
    address = HdlcAddress(logical, None if size == 1 else physical or 0, wide=size == 4)
    address.to_bytes()
    return address


@lru_cache(maxsize=4096)
def _address(raw: bytes) -> HdlcAddress:
    if len(raw) == 1:
        return HdlcAddress(raw[0] >> 1)
    if len(raw) == 2:
        return HdlcAddress(raw[0] >> 1, raw[1] >> 1)
    return HdlcAddress(raw[0] >> 1 << 7 | raw[1] >> 1, raw[2] >> 1 << 7 | raw[3] >> 1, wide=True)


class FrameType(StrEnum):
    """What the control field says."""

    I = "I"  # noqa: E741 - the standard's name
    RR = "RR"
    RNR = "RNR"
    SNRM = "SNRM"
    DISC = "DISC"
    UA = "UA"
    DM = "DM"
    FRMR = "FRMR"
    UI = "UI"
    UNKNOWN = "unknown"


POLL = 0x10
_UNNUMBERED = {
    0x83: FrameType.SNRM,
    0x43: FrameType.DISC,
    0x63: FrameType.UA,
    0x0F: FrameType.DM,
    0x87: FrameType.FRMR,
    0x03: FrameType.UI,
}
_SUPERVISORY = {0x01: FrameType.RR, 0x05: FrameType.RNR}
_U_CODE = {frame_type: code for code, frame_type in _UNNUMBERED.items()}
_S_CODE = {frame_type: code for code, frame_type in _SUPERVISORY.items()}


def _type_of(control: int) -> FrameType:
    if not control & 1:
        return FrameType.I
    if not control & 2:
        return _SUPERVISORY.get(control & 0x0F, FrameType.UNKNOWN)
    return _UNNUMBERED.get(control & ~POLL, FrameType.UNKNOWN)


_TYPES = tuple(_type_of(control) for control in range(256))


def i_control(ns: int, nr: int, *, poll: bool) -> int:
    """Control field of an I frame: N(S) and N(R) modulo 8, poll/final bit."""
    return (nr & 7) << 5 | poll << 4 | (ns & 7) << 1


def s_control(frame_type: FrameType, nr: int, *, poll: bool) -> int:
    """Control field of RR or RNR."""
    return (nr & 7) << 5 | poll << 4 | _S_CODE[frame_type]


def u_control(frame_type: FrameType, *, poll: bool) -> int:
    """Control field of SNRM, DISC, UA, DM, FRMR or UI."""
    return _U_CODE[frame_type] | poll << 4


class HdlcFrame(NamedTuple):
    """One frame whose checks hold.

    ``information`` includes the LLC header; ``offset`` is that of its first flag.
    """

    destination: HdlcAddress
    source: HdlcAddress
    control: int
    information: bytes = b""
    segmented: bool = False
    offset: int = 0

    @property
    def type(self) -> FrameType:
        return _TYPES[self.control]

    @property
    def poll(self) -> bool:
        """The poll bit of a command, the final bit of a response."""
        return bool(self.control & POLL)

    @property
    def ns(self) -> int:
        """N(S), of I frames only."""
        return self.control >> 1 & 7

    @property
    def nr(self) -> int:
        """N(R), of I, RR and RNR frames only."""
        return self.control >> 5

    def __str__(self) -> str:
        numbers = ""
        if self.type is FrameType.I:
            numbers = f" N(S)={self.ns} N(R)={self.nr}"
        elif self.type in _S_CODE:
            numbers = f" N(R)={self.nr}"
        marks = (" P/F" if self.poll else "") + (" segmented" if self.segmented else "")
        return f"{self.type} {self.source}->{self.destination}{numbers}{marks}, {len(self.information)} bytes"


def encode_frame(
    destination: HdlcAddress,
    source: HdlcAddress,
    control: int,
    information: bytes = b"",
    *,
    segmented: bool = False,
) -> bytes:
    """A whole frame with both flags.

    Raises LocalProtocolError when it is longer than the length field can say.
    """
    addresses = destination.to_bytes() + source.to_bytes()
    length = 2 + len(addresses) + 1 + 2 + (2 + len(information) if information else 0)
    if length > MAX_FRAME:
        raise LocalProtocolError(f"an HDLC frame has at most {MAX_FRAME} bytes, not {length}")
    head = (0xA000 | segmented << 11 | length).to_bytes(2, "big") + addresses + bytes((control,))
    body = head + fcs16(head) + information if information else head
    return _FLAG_BYTES + body + fcs16(body) + _FLAG_BYTES


def split_llc(information: bytes) -> tuple[bytes, bytes]:
    """(LLC header, the rest).

    The header is empty where there is none, as in the second segment of an APDU.
    """
    if information[:3] in (LLC_COMMAND, LLC_RESPONSE):
        return information[:3], information[3:]
    return b"", information


def parse(
    buffer: bytes | bytearray, start: int = 0, *, offset: int = 0
) -> Found[HdlcFrame] | Missing | Refusal:
    """What begins with the flag at ``start``; ``end`` is the index of the closing flag, which the next may
    share.

    ``offset`` is where the buffer lies in the stream. Never raises. HCS is looked at as soon as it is there,
    so a wrong length does not make anybody wait for bytes that never come.
    """
    present = len(buffer) - start
    if buffer[start] != FLAG:
        return Refusal("no flag", claimed=False)
    if present > 1 and buffer[start + 1] & 0xF0 != 0xA0:
        return Refusal(f"0x{buffer[start + 1]:02X} is not frame format type 3", claimed=False)
    if present < 3:
        return Missing(present, None)
    length = (buffer[start + 1] & 7) << 8 | buffer[start + 2]
    if length < _MIN_FRAME:
        return Refusal(f"frame length {length} is shorter than any frame", claimed=False)
    whole = length + 2
    frame_end = start + 1 + length
    addresses: list[HdlcAddress] = []
    position = start + 3
    for name in ("destination", "source"):
        raw = bytes(buffer[position : min(position + 4, frame_end)])
        size = next((count for count, byte in enumerate(raw, 1) if byte & 1), 0)
        if size == 0 and len(raw) < 4 and position + len(raw) < frame_end:
            return Missing(present, whole)
        if size not in (1, 2, 4):
            return Refusal(f"{name} address does not end after 1, 2 or 4 bytes", claimed=True)
        addresses.append(_address(raw[:size]))
        position += size
    information = position + 3  # behind control and HCS
    rest = frame_end - 2 - (position + 1)  # bytes between control and FCS
    if rest < 0 or rest == 1:
        return Refusal(f"frame length {length} does not fit its addresses", claimed=True)
    if rest and len(buffer) >= information and not check_ok(buffer[start + 1 : information]):
        return Refusal("header check sequence (HCS) is wrong", claimed=True)
    if present < whole:
        return Missing(present, whole)
    if buffer[frame_end] != FLAG:
        return Refusal(f"no flag behind the {length} bytes of the frame", claimed=True)
    if not check_ok(buffer[start + 1 : frame_end]):
        return Refusal("frame check sequence (FCS) is wrong", claimed=True)
    frame = HdlcFrame(
        addresses[0],
        addresses[1],
        buffer[position],
        bytes(buffer[information : frame_end - 2]) if rest else b"",
        segmented=bool(buffer[start + 1] & 8),
        offset=offset + start,
    )
    return Found(frame, frame_end)


class HdlcReader(StreamReader[HdlcFrame]):
    """Frames out of a byte stream.

    Bad stretches are told as BadFrame, and reading goes on at the next flag.
    """

    def __init__(self) -> None:
        super().__init__(bound=MAX_FRAME + 2)

    def _is_filling(self, data: bytes) -> bool:
        return not data.strip(_FLAG_BYTES)

    def _find(self, start: int) -> int:
        index = self._buffer.find(_FLAG_BYTES, start)
        return len(self._buffer) if index < 0 else index

    def _parse(self, start: int) -> Found[HdlcFrame] | Missing | Refusal:
        return parse(self._buffer, start, offset=self._offset)
