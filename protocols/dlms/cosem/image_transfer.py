"""Image Transfer (Blue Book, class 18, version 0): how a meter is given a new program.

::

    not initiated ──initiate──> initiated ──blocks, verify──> verifying ──> verified ──activate──> activating
                                    ▲                             └──> verification failed            │
                                    └── initiating clears the bitmap               activated, or failed

Attribute and method numbers are those of the Blue Book's table of the class; the clause itself is not in
hand. Gurux' own server and client agree with them (tests/interop).
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from protocols.dlms import axdr
from protocols.dlms.axdr import BitString, Data, DataType
from protocols.dlms.cosem.forms import (
    elements_of,
    fields_of,
    integer_of,
    natural_of,
    natural_within,
    octets_of,
)
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError

IMAGE_TRANSFER: Final = Obis.parse("0-0:44.0.0*255")
IMAGE_BLOCK_SIZE: Final = 2
IMAGE_TRANSFERRED_BLOCKS_STATUS: Final = 3
IMAGE_FIRST_NOT_TRANSFERRED_BLOCK_NUMBER: Final = 4
IMAGE_TRANSFER_ENABLED: Final = 5
IMAGE_TRANSFER_STATUS: Final = 6
IMAGE_TO_ACTIVATE_INFO: Final = 7

IMAGE_TRANSFER_INITIATE: Final = 1
IMAGE_BLOCK_TRANSFER: Final = 2
IMAGE_VERIFY: Final = 3
IMAGE_ACTIVATE: Final = 4

_LONGEST: Final = 0xFFFF_FFFF
#: The parameter of image_verify and image_activate: integer 0.
NO_PARAMETER: Final = axdr.encode(axdr.i8(0))


class TransferStatus(IntEnum):
    """Attribute image_transfer_status."""

    NOT_INITIATED = 0
    INITIATED = 1
    VERIFICATION_INITIATED = 2
    VERIFICATION_SUCCESSFUL = 3
    VERIFICATION_FAILED = 4
    ACTIVATION_INITIATED = 5
    ACTIVATION_SUCCESSFUL = 6
    ACTIVATION_FAILED = 7


@dataclass(frozen=True, slots=True)
class ImageToActivate:
    """One image that the meter holds verified: bytes, how it is called, and the maker's signature of it."""

    size: int
    identification: bytes
    signature: bytes

    @classmethod
    def decode(cls, data: Data) -> "ImageToActivate":
        """From an element of image_to_activate_info."""
        size, identification, signature = fields_of(data, 3, "image to activate")
        return cls(
            natural_of(size, "image size"),
            octets_of(identification, "image identification"),
            octets_of(signature, "image signature"),
        )

    def encode(self) -> Data:
        """As an element of image_to_activate_info."""
        return axdr.structure(
            axdr.u32(self.size), axdr.octets(self.identification), axdr.octets(self.signature)
        )


def status(data: Data) -> TransferStatus:
    """Attribute image_transfer_status."""
    value = integer_of(data, "image_transfer_status")
    try:
        return TransferStatus(value)
    except ValueError as exc:
        raise RemoteProtocolError(f"image_transfer_status {value} is none of 0 to 7") from exc


def block_size(data: Data) -> int:
    """Attribute image_block_size, in bytes."""
    return natural_within(data, "image_block_size", 1, _LONGEST)


def enabled(data: Data) -> bool:
    """Attribute image_transfer_enabled."""
    if data.type is not DataType.BOOLEAN:
        raise RemoteProtocolError(f"image_transfer_enabled is {data.type.name}, not a boolean")
    return bool(data.value)


def first_missing(data: Data) -> int:
    """Attribute image_first_not_transferred_block_number: the number of blocks where none is missing."""
    return natural_of(data, "image_first_not_transferred_block_number")


def bitmap(data: Data) -> BitString:
    """Attribute image_transferred_blocks_status: a bit for each block, 1 where it is there."""
    if data.type is not DataType.BIT_STRING:
        raise RemoteProtocolError(f"image_transferred_blocks_status is {data.type.name}, not a bit-string")
    value: BitString = data.value
    return value


def missing(blocks: BitString) -> list[int]:
    """Numbers of the blocks that are not there, in order."""
    return [n for n in range(blocks.length) if not blocks.octets[n >> 3] & 0x80 >> (n & 7)]


def blocks_of(there: "set[int] | frozenset[int]", count: int) -> BitString:
    """A bitmap of ``count`` blocks of which those are there."""
    octets = bytearray(-(-count // 8))
    for n in there:
        octets[n >> 3] |= 0x80 >> (n & 7)
    return BitString(count, bytes(octets))


def images(data: Data) -> tuple[ImageToActivate, ...]:
    """Attribute image_to_activate_info."""
    return tuple(ImageToActivate.decode(item) for item in elements_of(data, "image_to_activate_info"))


def encode_initiate(identifier: bytes, size: int) -> bytes:
    """The parameter of image_transfer_initiate."""
    return axdr.encode(axdr.structure(axdr.octets(identifier), axdr.u32(size)))


def decode_initiate(raw: bytes) -> tuple[bytes, int]:
    """Identifier and size. Raises RemoteProtocolError."""
    identifier, size = fields_of(axdr.decode_exact(raw), 2, "image_transfer_initiate")
    return octets_of(identifier, "image identifier"), natural_of(size, "image size")


def encode_block(number: int, value: bytes) -> bytes:
    """The parameter of image_block_transfer; blocks count from 0."""
    head = b"\x02\x02\x06" + number.to_bytes(4, "big") + b"\x09"
    return b"".join((head, axdr.encode_length(len(value)), value))


def decode_block(raw: bytes) -> tuple[int, bytes]:
    """Number and value. Raises RemoteProtocolError."""
    number, value = fields_of(axdr.decode_exact(raw), 2, "image_block_transfer")
    return natural_of(number, "image block number"), octets_of(value, "image block value")
