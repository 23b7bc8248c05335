"""Which bytes answer a request: the filter between a line and the Modbus library, which takes what it gets.

On an RTU line an answer carries no number, only its unit, its function and its length: noise before it,
answers of other units and frames whose CRC is wrong are passed over. On TCP every frame has a header, and
frames of other transactions are passed over; what is no header means that the stream is lost, for nothing
marks where the next frame begins.
"""

from typing import Final, NamedTuple

from protocols.errors import RemoteProtocolError
from protocols.modbus.frames import crc16

_REFUSED: Final = 0x80
_HEADER: Final = 6
_MAX_LENGTH: Final = 254
_REFUSAL_RTU: Final = 5
#: Unit and CRC.
_AROUND_RTU: Final = 3


class Awaited(NamedTuple):
    """The answer to a request that was sent: its PDU begins with ``head`` and has ``length`` bytes;
    ``transaction`` is for TCP alone."""

    unit: int
    head: bytes
    length: int
    transaction: int = 0

    def is_answered_by(self, pdu: bytes) -> bool:
        """Whether ``pdu`` is the answer, or a refusal of the request."""
        if not pdu or pdu[0] & ~_REFUSED != self.head[0]:
            return False
        if pdu[0] & _REFUSED:
            return len(pdu) == 2
        return len(pdu) == self.length and pdu.startswith(self.head)


def find_rtu(awaited: Awaited, data: bytes) -> bytes | None:
    """The frame within ``data`` that is awaited, wherever it begins; None while there is none."""
    unit = bytes((awaited.unit,))
    heads = (
        (unit + awaited.head, awaited.length + _AROUND_RTU),
        (unit + bytes((awaited.head[0] | _REFUSED,)), _REFUSAL_RTU),
    )
    for head, length in heads:
        at = data.find(head)
        while 0 <= at <= len(data) - length:
            frame = data[at : at + length]
            if crc16(frame[:-2]) == int.from_bytes(frame[-2:], "little"):
                return frame
            at = data.find(head, at + 1)
    return None


def find_tcp(awaited: Awaited, data: bytes) -> tuple[bytes | None, bytes]:
    """The frame within ``data`` that is awaited, if it is there, and what stands behind the last whole
    frame up to it: that begins the next search.

    Raises:
        RemoteProtocolError: no Modbus TCP, or what bears its transaction is no answer to it.
    """
    at = 0
    while len(data) - at >= _HEADER:
        length = int.from_bytes(data[at + 4 : at + 6], "big")
        if data[at + 2 : at + 4] != b"\0\0" or not 3 <= length <= _MAX_LENGTH:
            raise RemoteProtocolError(f"no Modbus TCP: {data[at : at + 16].hex()}")
        end = at + _HEADER + length
        if len(data) < end:
            break
        frame, at = data[at:end], end
        if int.from_bytes(frame[:2], "big") == awaited.transaction:
            if frame[6] != awaited.unit or not awaited.is_answered_by(frame[7:]):
                raise RemoteProtocolError(f"no answer in Modbus TCP to what was asked: {frame[:16].hex()}")
            return frame, data[at:]
    return None, data[at:]
