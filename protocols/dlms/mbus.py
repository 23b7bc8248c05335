"""Wired M-Bus frames that carry DLMS, as Austrian meters push them (EN 13757-2, transport of EN 13757-1).

::

    68 L L 68 | C | A | CI | ... | checksum | 16
    10 C A checksum 16                                   short frame, without data

L counts C, A, CI and what follows them; the checksum is their sum modulo 256.
CI 0x00-0x1F is the DLMS transport: bit 4 marks the last segment, bits 3-0 count the segments; STSAP and
DTSAP follow.
"""

from collections import OrderedDict
from typing import NamedTuple

from protocols.dlms.framing import BadFrame, Found, Missing, Refusal, StreamReader
from protocols.errors import LocalProtocolError

_LONG_START = 0x68
_SHORT_START = 0x10
_STOP = 0x16
_FIN = 0x10
_SEQUENCE = 0x0F
_MIN_LENGTH = 3  # C, A, CI: a control frame
MAX_FRAME = 4 + 255 + 2
MAX_DATA = 245  # bytes of an APDU per frame, as the meters of the captures cut it (L = 0xFA)
MAX_APDU = MAX_DATA * 16  # the segment counter has four bit


class MBusFrame(NamedTuple):
    """One frame whose checksum holds.

    ``ci`` is None in a short frame; the SAPs are None outside the DLMS transport.
    """

    control: int
    address: int
    ci: int | None = None
    stsap: int | None = None
    dtsap: int | None = None
    data: bytes = b""
    offset: int = 0

    @property
    def is_transport(self) -> bool:
        """True if ``data`` is a segment of a DLMS APDU."""
        return self.stsap is not None

    @property
    def sequence(self) -> int:
        """Number of the segment, 0 first."""
        return (self.ci or 0) & _SEQUENCE

    @property
    def final(self) -> bool:
        """True on the last segment."""
        return bool((self.ci or 0) & _FIN)

    def __str__(self) -> str:
        ci = "short" if self.ci is None else f"CI 0x{self.ci:02X}"
        return f"M-Bus C 0x{self.control:02X} A {self.address} {ci}, {len(self.data)} bytes"


def encode_frame(frame: MBusFrame) -> bytes:
    """The frame on the wire. Raises LocalProtocolError when it does not fit."""
    if frame.ci is None:
        body = bytes((frame.control, frame.address))
        return bytes((_SHORT_START,)) + body + bytes((sum(body) & 0xFF, _STOP))
    body = bytes((frame.control, frame.address, frame.ci))
    if frame.stsap is not None and frame.dtsap is not None:
        body += bytes((frame.stsap, frame.dtsap))
    body += frame.data
    if len(body) > 0xFF:
        raise LocalProtocolError(f"an M-Bus frame counts at most 255 bytes, not {len(body)}")
    start = bytes((_LONG_START, len(body), len(body), _LONG_START))
    return start + body + bytes((sum(body) & 0xFF, _STOP))


def encode_apdu(
    apdu: bytes, *, stsap: int, dtsap: int, control: int = 0x53, address: int = 0xFF
) -> list[bytes]:
    """The frames of one APDU, segmented as needed. Raises LocalProtocolError beyond sixteen segments."""
    if not 0 < len(apdu) <= MAX_APDU:
        raise LocalProtocolError(f"an APDU of {len(apdu)} bytes cannot be sent over M-Bus, 1..{MAX_APDU} can")
    frames = []
    for sequence, begin in enumerate(range(0, len(apdu), MAX_DATA)):
        fin = _FIN if begin + MAX_DATA >= len(apdu) else 0
        data = apdu[begin : begin + MAX_DATA]
        frames.append(encode_frame(MBusFrame(control, address, sequence | fin, stsap, dtsap, data)))
    return frames


def parse(
    buffer: bytes | bytearray, start: int = 0, *, offset: int = 0
) -> Found[MBusFrame] | Missing | Refusal:
    """What begins at ``start``; ``offset`` is where the buffer lies in the stream. Never raises."""
    present = len(buffer) - start
    first = buffer[start]
    if first == _SHORT_START:
        if (
            present >= 5
            and buffer[start + 4] == _STOP
            and sum(buffer[start + 1 : start + 3]) & 0xFF == buffer[start + 3]
        ):
            return Found(MBusFrame(buffer[start + 1], buffer[start + 2], offset=offset + start), start + 5)
        return Missing(present, 5) if present < 5 else Refusal("no M-Bus short frame", claimed=False)
    if first != _LONG_START:
        return Refusal("no M-Bus start byte", claimed=False)
    head = bytes(buffer[start : start + 4])
    if len(head) > 1 and head[1] < _MIN_LENGTH:
        return Refusal(f"M-Bus length {head[1]} is shorter than any frame", claimed=False)
    if len(head) > 2 and head[1] != head[2]:
        return Refusal(f"the two M-Bus lengths differ: {head[1]} and {head[2]}", claimed=False)
    if len(head) > 3 and head[3] != _LONG_START:
        return Refusal("no second M-Bus start byte", claimed=False)
    if len(head) < 4:
        return Missing(present, None)
    body_end = start + 4 + head[1]
    end = body_end + 2
    if len(buffer) < end:
        return Missing(present, end - start)
    body = bytes(buffer[start + 4 : body_end])
    if buffer[body_end + 1] != _STOP:
        return Refusal(f"no M-Bus stop byte behind the {head[1]} bytes of the frame", claimed=True)
    if sum(body) & 0xFF != buffer[body_end]:
        return Refusal("M-Bus checksum is wrong", claimed=True)
    control, address, ci = body[:3]
    if ci <= (_FIN | _SEQUENCE):
        if len(body) < 5:
            return Refusal("M-Bus transport header is cut short", claimed=True)
        return Found(MBusFrame(control, address, ci, body[3], body[4], body[5:], offset + start), end)
    return Found(MBusFrame(control, address, ci, data=body[3:], offset=offset + start), end)


class MBusReader(StreamReader[MBusFrame]):
    """Frames out of a byte stream; bad stretches are told as BadFrame and reading goes on behind them."""

    def __init__(self) -> None:
        super().__init__(bound=MAX_FRAME)

    def _find(self, start: int) -> int:
        end = len(self._buffer)
        found = (self._buffer.find(b"\x68", start), self._buffer.find(b"\x10", start))
        return min((index for index in found if index >= 0), default=end)

    def _parse(self, start: int) -> Found[MBusFrame] | Missing | Refusal:
        return parse(self._buffer, start, offset=self._offset)


class MBusApdu(NamedTuple):
    """One APDU and the frames that brought it."""

    stsap: int
    dtsap: int
    apdu: bytes
    frames: tuple[MBusFrame, ...]

    @property
    def offset(self) -> int:
        """Where its first frame began."""
        return self.frames[0].offset


_MAX_SENDERS = 256  # unfinished APDUs kept at once, the oldest goes first


class MBusAssembler:
    """Segments in, APDUs out, per address and SAPs."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[int, int | None, int | None], list[MBusFrame]] = OrderedDict()

    def add(self, frame: MBusFrame) -> list[MBusApdu | BadFrame]:
        """What this frame completes: an APDU, or the end of one that can no longer be joined, or nothing."""
        if frame.stsap is None or frame.dtsap is None:
            return []
        key = (frame.address, frame.stsap, frame.dtsap)
        parts = self._open.pop(key, [])
        results: list[MBusApdu | BadFrame] = []
        if parts and frame.sequence != parts[-1].sequence + 1:
            if frame == parts[-1]._replace(offset=frame.offset):  # the same segment again
                self._open[key] = parts
                return []
            results.append(
                _lost(parts, f"segment lost: {parts[-1].sequence} is followed by {frame.sequence}")
            )
            parts = []
        if not parts and frame.sequence != 0:
            results.append(_lost([frame], f"segment {frame.sequence} without those before it"))
            return results
        parts.append(frame)
        if frame.final:
            data = b"".join(part.data for part in parts)
            results.append(MBusApdu(frame.stsap, frame.dtsap, data, tuple(parts)))
            return results
        self._open[key] = parts
        if len(self._open) > _MAX_SENDERS:
            results.append(_lost(self._open.popitem(last=False)[1], "too many unfinished APDUs at once"))
        return results

    def abandon(self, reason: str) -> list[BadFrame]:
        """Give up what is unfinished, at the end of the input."""
        lost = [_lost(parts, reason) for parts in self._open.values()]
        self._open.clear()
        return lost


def _lost(parts: list[MBusFrame], reason: str) -> BadFrame:
    return BadFrame(parts[0].offset, b"".join(part.data for part in parts), reason)
