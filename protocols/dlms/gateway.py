"""The DLMS gateway protocol: the prefix by which one meter among many behind a concentrator is meant.

::

    header | network id | length of the address | physical device address | APDU
      1    |     1      |           1           |        0..255           |

The header is 0xE6 for what goes down to a meter and 0xE7 for what comes back; the prefix stands where the
APDU would begin, behind the wrapper's header or the LLC of HDLC. It has no check and no number of its own: an
answer is known by the address that it repeats. (Green Book, gateway protocol; layout held against gurux-dlms
and a meter simulator in C, the clause is not in hand.)

An APDU without a prefix on a link where prefixes are used is the concentrator's own. The standard has no word
for "that meter does not answer me"; ours, told by `refusal`, is an exception-response without a prefix.
"""

from enum import IntEnum
from typing import Final, NamedTuple

from protocols.dlms.apdu import exceptions
from protocols.dlms.apdu.exceptions import ExceptionResponseApdu
from protocols.dlms.enums import ServiceErrorCode, StateError
from protocols.errors import LocalProtocolError, RemoteProtocolError
from schemas.address import GatewayAddress

#: Bytes of the prefix before the address.
FIXED: Final = 3


class Header(IntEnum):
    """First byte of the prefix: which way the message goes."""

    REQUEST = 0xE6
    ANSWER = 0xE7


class GatewayMessage(NamedTuple):
    """An APDU and the meter that it goes to (request) or comes from (answer)."""

    header: Header
    address: GatewayAddress
    apdu: bytes


#: The concentrator's own word, without a prefix, for a meter that it cannot reach.
UNREACHED: Final = ExceptionResponseApdu(
    StateError.SERVICE_NOT_ALLOWED, ServiceErrorCode.OTHER_REASON
).to_bytes()


def prefix(header: Header, address: GatewayAddress) -> bytes:
    """What stands before each APDU. Raises LocalProtocolError for an address that it cannot hold."""
    network, physical = address
    if not 0 <= network <= 0xFF:
        raise LocalProtocolError(f"a network id is 0..255, not {network}")
    if not 0 < len(physical) <= 0xFF:
        raise LocalProtocolError(f"a physical device address has 1 to 255 bytes, not {len(physical)}")
    return bytes((header, network, len(physical))) + physical


def encode(header: Header, address: GatewayAddress, apdu: bytes) -> bytes:
    """Prefix and APDU. Raises LocalProtocolError for an address that the prefix cannot hold, or no APDU."""
    if not apdu:
        raise LocalProtocolError("a gateway prefix needs an APDU behind it")
    return prefix(header, address) + apdu


def is_prefixed(data: bytes) -> bool:
    """Whether ``data`` begins as a gateway prefix does."""
    return data[:1] in (b"\xe6", b"\xe7")


def decode(data: bytes) -> GatewayMessage:
    """Take prefix and APDU apart.

    Raises RemoteProtocolError with the offset: another header, an empty address, bytes cut short, no APDU.
    """
    if not is_prefixed(data):
        found = f"0x{data[0]:02X}" if data else "nothing"
        raise RemoteProtocolError(f"gateway prefix begins with 0xE6 or 0xE7, not {found}", offset=0)
    if len(data) < FIXED:
        raise RemoteProtocolError("gateway prefix is cut short", offset=len(data))
    end = FIXED + data[2]
    if end == FIXED:
        raise RemoteProtocolError("gateway prefix names no physical device address", offset=2)
    if len(data) < end:
        raise RemoteProtocolError(
            f"gateway prefix is cut short: {len(data)} of {end} bytes", offset=len(data)
        )
    if len(data) == end:
        raise RemoteProtocolError("gateway prefix without an APDU", offset=end)
    return GatewayMessage(Header(data[0]), GatewayAddress(data[1], data[FIXED:end]), data[end:])


def refusal(apdu: bytes) -> ExceptionResponseApdu | None:
    """What an APDU without a prefix says of the meter that was asked for; None: something else."""
    if apdu[:1] != bytes((exceptions.TAG,)):
        return None
    try:
        return exceptions.decode(apdu)
    except RemoteProtocolError:
        return None
