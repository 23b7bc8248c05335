"""What a concentrator is told of meters that shall have the image it holds, and what it tells of them.

Image Transfer (class 18) says how a device takes an image for itself. How a concentrator hands one on to its
meters no standard says: this is our own published convention, spoken by two Data objects (class 1,
attribute 2) whose names a model's ``[distribution]`` tells.

``order``, written, is the list of the meters that shall have the image that Image Transfer of the
concentrator holds verified::

    array of structure { network id: unsigned; physical device address: octet-string }

It takes the place of the list before. A meter that is under way goes on, every other is begun with, also
where the concentrator has failed with it before; one that is left out is not gone on with. A meter that is
found to hold the image verified is not given it again. With image_transfer_initiate the list is empty.

``progress``, read, has each meter of the list, in its order::

    array of structure { network id: unsigned; physical device address: octet-string; stage: enum;
                         blocks: double-long-unsigned; reason: octet-string, ASCII }

``blocks`` are those that the meter has taken, in its own size; ``reason`` says why it has failed, empty
otherwise. The concentrator gives a meter the image as class 18 has it, up to verification: it activates
nothing. List, image and progress outlast its restart.
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from protocols.dlms import axdr
from protocols.dlms.axdr import Data
from protocols.dlms.cosem.forms import (
    elements_of,
    fields_of,
    natural_of,
    natural_within,
    octets_of,
)
from protocols.errors import RemoteProtocolError
from schemas.address import GatewayAddress

#: Characters of a reason; what is longer is cut off.
LONGEST_REASON: Final = 200


class Stage(IntEnum):
    """Where a meter of the list stands."""

    WAITING = 0
    UNDER_WAY = 1
    VERIFIED = 2  # it holds the image, and has found it right
    FAILED = 3


class Progress(NamedTuple):
    """What the concentrator tells of one meter."""

    address: GatewayAddress
    stage: Stage
    blocks: int = 0
    reason: str = ""


def encode_order(meters: Iterable[GatewayAddress]) -> bytes:
    """The list as the value that is written."""
    return axdr.encode(axdr.array(axdr.structure(*_address(one)) for one in meters))


def decode_order(raw: bytes) -> tuple[GatewayAddress, ...]:
    """The list out of a written value. Raises RemoteProtocolError, also where a meter is there twice."""
    found = []
    for item in elements_of(axdr.decode_exact(raw), "list of meters"):
        network, physical = fields_of(item, 2, "meter of the list")
        found.append(_read_address(network, physical))
    return _once(found)


def encode_progress(told: Iterable[Progress]) -> bytes:
    """The progress as an attribute."""
    return axdr.encode(
        axdr.array(
            axdr.structure(
                *_address(one.address),
                axdr.enum(one.stage),
                axdr.u32(one.blocks),
                axdr.octets(one.reason.encode("ascii", errors="replace")[:LONGEST_REASON]),
            )
            for one in told
        )
    )


def decode_progress(raw: bytes) -> tuple[Progress, ...]:
    """What is told of each meter. Raises RemoteProtocolError, also where one is there twice."""
    found = []
    for item in elements_of(axdr.decode_exact(raw), "progress of a distribution"):
        network, physical, stage, blocks, reason = fields_of(item, 5, "progress of a meter")
        number = natural_of(stage, "stage")
        if number not in tuple(Stage):
            raise RemoteProtocolError(f"stage {number} of a meter is none of 0 to {max(Stage)}")
        found.append(
            Progress(
                _read_address(network, physical),
                Stage(number),
                natural_of(blocks, "blocks"),
                octets_of(reason, "reason")[:LONGEST_REASON].decode("ascii", errors="replace"),
            )
        )
    _once([one.address for one in found])
    return tuple(found)


def _address(address: GatewayAddress) -> tuple[Data, Data]:
    return axdr.u8(address.network), axdr.octets(address.physical)


def _read_address(network: Data, physical: Data) -> GatewayAddress:
    octets = octets_of(physical, "physical device address")
    if not 0 < len(octets) <= 0xFF:
        raise RemoteProtocolError("a meter has a physical device address of 1 to 255 bytes")
    return GatewayAddress(natural_within(network, "network id", 0, 0xFF), octets)


def _once(addresses: Sequence[GatewayAddress]) -> tuple[GatewayAddress, ...]:
    if len(set(addresses)) != len(addresses):
        raise RemoteProtocolError("a meter is on the list twice")
    return tuple(addresses)
