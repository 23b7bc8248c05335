"""The TCP/UDP wrapper (IEC 62056-47, version 1): eight bytes before each APDU.

::

    version = 0x0001 | source wPort | destination wPort | length of the APDU | APDU

All four are big-endian, 16 bit. wPort 1 is the management logical device on the server's side, 16 the public
client on the client's.
"""

import struct
from typing import NamedTuple

from protocols.dlms.framing import APDU_TAGS, BadFrame, Found, Missing, Refusal, StreamReader
from protocols.errors import LocalProtocolError, RemoteProtocolError

HEADER = struct.Struct(">HHHH")
HEADER_LENGTH = HEADER.size
VERSION = 1
MAX_APDU = 0xFFFF  # the length field has 16 bit

PUBLIC_CLIENT = 0x0010
MANAGEMENT_LOGICAL_DEVICE = 0x0001


class WrapperFrame(NamedTuple):
    """One APDU with its wPorts; ``offset`` is that of the header in the stream."""

    source: int
    destination: int
    apdu: bytes
    offset: int = 0

    def __str__(self) -> str:
        return f"wrapper {self.source}->{self.destination}, {len(self.apdu)} bytes"


def encode(source: int, destination: int, apdu: bytes) -> bytes:
    """Header and APDU. Raises LocalProtocolError for a wPort or a length that 16 bit cannot hold."""
    if not (0 <= source <= 0xFFFF and 0 <= destination <= 0xFFFF):
        raise LocalProtocolError(f"wPorts are 0..65535, not {source} and {destination}")
    if len(apdu) > MAX_APDU:
        raise LocalProtocolError(f"an APDU of {len(apdu)} bytes does not fit the wrapper's 16-bit length")
    return HEADER.pack(VERSION, source, destination, len(apdu)) + apdu


def parse(
    buffer: bytes | bytearray, start: int = 0, *, offset: int = 0, max_apdu: int = MAX_APDU
) -> Found[WrapperFrame] | Missing | Refusal:
    """What begins at ``start``; ``offset`` is where the buffer lies in the stream. Never raises.

    There is no checksum, so what can be checked is: the version, the length against ``max_apdu``, and the
    APDU's tag.
    """
    present = len(buffer) - start
    if present < HEADER_LENGTH:
        if present and buffer[start] != 0:
            return Refusal("no wrapper header: version is not 1", claimed=False)
        if present > 1 and buffer[start + 1] != VERSION:
            return Refusal("no wrapper header: version is not 1", claimed=False)
        return Missing(present, None)
    version, source, destination, length = HEADER.unpack_from(buffer, start)
    if version != VERSION:
        return Refusal(f"no wrapper header: version is {version}, not 1", claimed=False)
    if length == 0:
        return Refusal("wrapper header without an APDU: length is 0", claimed=False)
    if length > max_apdu:
        return Refusal(f"wrapper length {length} is more than the {max_apdu} bytes allowed", claimed=False)
    body = start + HEADER_LENGTH
    if present > HEADER_LENGTH and buffer[body] not in APDU_TAGS:
        return Refusal(f"0x{buffer[body]:02X} behind a wrapper header is no APDU tag", claimed=False)
    end = body + length
    if len(buffer) < end:
        return Missing(present, HEADER_LENGTH + length)
    return Found(WrapperFrame(source, destination, bytes(buffer[body:end]), offset + start), end)


class WrapperReader(StreamReader[WrapperFrame]):
    """Wrapper frames out of a TCP stream or a datagram.

    Strict by default: the first byte that breaks the framing raises RemoteProtocolError, for on a connection
    of our own nothing behind it can be trusted. With ``resync`` (decode tool, listeners) a bad stretch is
    told as a BadFrame and reading goes on at the next header that can be believed.
    """

    def __init__(self, *, max_apdu: int = MAX_APDU, resync: bool = False) -> None:
        super().__init__(bound=max_apdu + HEADER_LENGTH)
        self._max_apdu = max_apdu
        self._resync = resync

    def whole(self, data: bytes, source: int, destination: int) -> bytes | None:
        """The APDU where ``data`` is one whole frame between these wPorts and nothing waits before it.

        Otherwise None, which says no more than that: feed the bytes then, and ask `next` what they are.
        """
        length = len(data) - HEADER_LENGTH
        if length <= 0 or length > self._max_apdu or self._buffer:
            return None
        if data[:HEADER_LENGTH] != HEADER.pack(VERSION, source, destination, length):
            return None
        self._offset += len(data)
        return data[HEADER_LENGTH:]

    def next(self) -> WrapperFrame | BadFrame | None:
        """The next frame; None when more bytes are needed. See the class for what bad bytes do."""
        if self._resync:
            return super().next()
        # The hot path: one header, one slice, no search. An unknown tag is left to the APDU decoder, which
        # names it.
        buffer = self._buffer
        present = len(buffer)
        if present < HEADER_LENGTH:
            if self._ended and present:
                raise RemoteProtocolError(str(Missing(present, HEADER_LENGTH)), offset=self._offset)
            return None
        version, source, destination, length = HEADER.unpack_from(buffer)
        if version != VERSION:
            raise RemoteProtocolError(f"wrapper version is {version}, not 1", offset=self._offset)
        if length > self._max_apdu:
            reason = f"wrapper length {length} is more than the {self._max_apdu} bytes allowed"
            raise RemoteProtocolError(reason, offset=self._offset + 6)
        if length == 0:
            raise RemoteProtocolError("wrapper header without an APDU: length is 0", offset=self._offset + 6)
        end = HEADER_LENGTH + length
        if present < end:
            if self._ended:
                raise RemoteProtocolError(str(Missing(present, end)), offset=self._offset)
            return None
        frame = WrapperFrame(source, destination, bytes(buffer[HEADER_LENGTH:end]), self._offset)
        del buffer[:end]
        self._offset += end
        return frame

    def _find(self, start: int) -> int:
        index = self._buffer.find(b"\x00\x01", start)
        if index >= 0:
            return index
        end = len(self._buffer)
        # a version's first byte may stand last
        return end - 1 if end > start and self._buffer[-1] == 0 else end

    def _parse(self, start: int) -> Found[WrapperFrame] | Missing | Refusal:
        return parse(self._buffer, start, offset=self._offset, max_apdu=self._max_apdu)
