"""Security Setup (class 64): policy, suite and system titles; transfer of keys.

Attributes and methods as the Blue Book numbers them; we do not have its clause in hand, only what others
implement of it: method 2, global_key_transfer in version 0 and key_transfer in version 1, takes
``array of structure {key_id: enum, key_wrapped: octet-string}`` in both.
"""

from collections.abc import Sequence
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from protocols.dlms import axdr
from protocols.dlms.axdr import Data
from protocols.dlms.cosem.forms import elements_of, fields_of, integer_of, octets_of
from protocols.errors import RemoteProtocolError


class SecurityPolicy(IntFlag):
    """What a Security Setup demands: the bits of its version 1."""

    NONE = 0
    AUTHENTICATED_REQUEST = 1 << 2
    ENCRYPTED_REQUEST = 1 << 3
    SIGNED_REQUEST = 1 << 4
    AUTHENTICATED_RESPONSE = 1 << 5
    ENCRYPTED_RESPONSE = 1 << 6
    SIGNED_RESPONSE = 1 << 7


_AUTHENTICATED: Final = SecurityPolicy.AUTHENTICATED_REQUEST | SecurityPolicy.AUTHENTICATED_RESPONSE
_ENCRYPTED: Final = SecurityPolicy.ENCRYPTED_REQUEST | SecurityPolicy.ENCRYPTED_RESPONSE
#: Version 0 writes an enum, which always means both directions.
_POLICY_VERSION_0: Final = {
    0: SecurityPolicy.NONE,
    1: _AUTHENTICATED,
    2: _ENCRYPTED,
    3: _AUTHENTICATED | _ENCRYPTED,
}


def security_policy(data: Data, version: int) -> SecurityPolicy:
    """Attribute security_policy of Security Setup, ``version`` of the class being 0 (enum) or 1 (bits).

    Raises:
        RemoteProtocolError: a value that the version does not define, or another version.
    """
    value = integer_of(data, "security_policy")
    if version == 0:
        if value not in _POLICY_VERSION_0:
            raise RemoteProtocolError(f"security_policy {value} is none of version 0's 0 to 3")
        return _POLICY_VERSION_0[value]
    if version != 1:
        raise RemoteProtocolError(f"Security Setup version {version} is not supported")
    if not 0 <= value <= 0xFF or value & 0x03:
        raise RemoteProtocolError(f"security_policy {value} has reserved bits set")
    return SecurityPolicy(value)


def security_suite(data: Data) -> int:
    """Attribute security_suite: 0, 1 or 2.

    Raises:
        RemoteProtocolError: a reserved suite.
    """
    value = integer_of(data, "security_suite")
    if value not in (0, 1, 2):
        raise RemoteProtocolError(f"security suite {value} is reserved")
    return value


def system_title(data: Data) -> bytes:
    """Attributes client_system_title and server_system_title: 8 octets, or none where not yet known."""
    value = octets_of(data, "system title")
    if len(value) not in (0, 8):
        raise RemoteProtocolError(f"a system title has 8 octets, not {len(value)}")
    return value


#: Method key_transfer: the keys are the meter's from the answer on.
KEY_TRANSFER: Final = 2


class KeyId(IntEnum):
    """Which key of the meter a transferred one becomes."""

    GLOBAL_UNICAST_ENCRYPTION = 0
    GLOBAL_BROADCAST_ENCRYPTION = 1
    AUTHENTICATION = 2
    MASTER = 3  # key-encrypting key, itself wrapped under the one before


class TransferredKey(NamedTuple):
    """One key of a transfer, wrapped under the meter's master key (AES key wrap, RFC 3394)."""

    key_id: KeyId
    wrapped: bytes


def key_transfer(keys: Sequence[TransferredKey]) -> Data:
    """The parameter of key_transfer."""
    return axdr.array(axdr.structure(axdr.enum(one.key_id), axdr.octets(one.wrapped)) for one in keys)


def transferred_keys(data: Data) -> tuple[TransferredKey, ...]:
    """What a parameter of key_transfer holds, in its order.

    Raises:
        RemoteProtocolError: another form, or a key that the class does not know.
    """
    found: list[TransferredKey] = []
    for element in elements_of(data, "key_data"):
        number, wrapped = fields_of(element, 2, "a transferred key")
        value = integer_of(number, "key_id")
        if value not in KeyId.__members__.values():
            raise RemoteProtocolError(f"key_id {value} is none of 0 to 3")
        found.append(TransferredKey(KeyId(value), octets_of(wrapped, "key_wrapped")))
    return tuple(found)
