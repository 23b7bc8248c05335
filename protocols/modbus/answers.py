"""Which bytes answer a read: the filter between a line and the Modbus library, which takes what it gets.

On an RTU line an answer carries no number, only its unit, its function and its length: noise before it,
answers of other units and frames whose CRC is wrong are passed over. On TCP every frame has a header; one
that is none means that the stream is lost, for nothing marks where the next one begins.
"""

from typing import Final, NamedTuple

from protocols.modbus.frames import crc16

_REFUSED: Final = 0x80
_HEADER: Final = 6
_MAX_LENGTH: Final = 254
_REFUSAL_RTU: Final = 5


class Read(NamedTuple):
    """A read that was sent: ``function`` 3 or 4, so many ``registers``; ``transaction`` is for TCP alone."""

    unit: int
    function: int
    registers: int
    transaction: int = 0

    def is_answered_by(self, pdu: bytes) -> bool:
        """Whether ``pdu`` is an answer to it, or a refusal of it."""
        if not pdu or pdu[0] & ~_REFUSED != self.function:
            return False
        if pdu[0] & _REFUSED:
            return len(pdu) == 2
        return len(pdu) == 2 + 2 * self.registers and pdu[1] == 2 * self.registers


def find_rtu(read: Read, data: bytes) -> bytes | None:
    """The frame within ``data`` that answers ``read``, wherever it begins; None while there is none."""
    whole = 5 + 2 * read.registers
    heads = (
        (bytes((read.unit, read.function, 2 * read.registers)), whole),
        (bytes((read.unit, read.function | _REFUSED)), _REFUSAL_RTU),
    )
    for head, length in heads:
        at = data.find(head)
        while 0 <= at <= len(data) - length:
            frame = data[at : at + length]
            if crc16(frame[:-2]) == int.from_bytes(frame[-2:], "little"):
                return frame
            at = data.find(head, at + 1)
    return None


def is_sound_tcp(read: Read, data: bytes) -> bool:
    """Whether ``data`` is Modbus TCP as far as it goes, and what answers ``read`` in it does so in full.

    Frames of other transactions and units are sound: they are late, and the library passes them over.
    """
    at = 0
    while len(data) - at >= _HEADER:
        length = int.from_bytes(data[at + 4 : at + 6], "big")
        if data[at + 2 : at + 4] != b"\0\0" or not 3 <= length <= _MAX_LENGTH:
            return False
        frame = data[at : at + _HEADER + length]
        if len(frame) < _HEADER + length:
            return True
        is_ours = frame[6] == read.unit and int.from_bytes(frame[:2], "big") == read.transaction
        if is_ours and not read.is_answered_by(frame[7:]):
            return False
        at += _HEADER + length
    return True
