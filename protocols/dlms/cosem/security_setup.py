"""Security Setup: policy, suite and system titles."""

from enum import IntFlag
from typing import Final

from protocols.dlms.axdr import Data
from protocols.dlms.cosem.forms import integer_of, octets_of
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
