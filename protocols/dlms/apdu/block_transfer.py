"""General-Block-Transfer: a part of any APDU, with window and acknowledgement (IEC 62056-5-3)."""

from dataclasses import dataclass, field

from protocols.dlms.apdu.fields import Reader, encode_octets, encode_uint
from protocols.errors import LocalProtocolError

TAG = 0xE0
#: What a block adds to its data at most: tag, control, two numbers, a length of up to three bytes.
OVERHEAD = 9

_LAST = 0x80
_STREAMING = 0x40
_WINDOW = 0x3F


@dataclass(frozen=True, slots=True)
class GeneralBlockTransfer:
    """One block. ``streaming``: more blocks follow before an answer is due; ``window``: how many blocks the
    sender of this one can take (0..63); ``block_number_ack``: the last one it has without a gap."""

    last: bool
    streaming: bool
    window: int
    block_number: int
    block_number_ack: int
    data: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """The APDU."""
        if not 0 <= self.window <= _WINDOW:
            raise LocalProtocolError(f"window {self.window} is not within 0..{_WINDOW}")
        control = (_LAST if self.last else 0) | (_STREAMING if self.streaming else 0) | self.window
        return (
            bytes((TAG, control))
            + encode_uint(self.block_number, 2, "block number")
            + encode_uint(self.block_number_ack, 2, "acknowledged block number")
            + encode_octets(self.data)
        )


def decode(data: bytes) -> GeneralBlockTransfer:
    """Decode a general-block-transfer, its tag already looked at. Raises RemoteProtocolError."""
    reader = Reader(data, "general-block-transfer", 1)
    control = reader.u8("block control")
    block = GeneralBlockTransfer(
        last=bool(control & _LAST),
        streaming=bool(control & _STREAMING),
        window=control & _WINDOW,
        block_number=reader.u16("block number"),
        block_number_ack=reader.u16("acknowledged block number"),
        data=reader.octets("block data"),
    )
    reader.end()
    return block
